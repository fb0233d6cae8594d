"""What could explain robustness: against linear models, where every distance is known, and a tiny text encoder."""

import pytest
import torch
from models_for_tests import (
    LinearClassifier,
    boundary_distances,
    classified,
    predictions,
    random_images,
    small_net,
    tiny_text_model,
)
from torch import nn

from robustlib.calibration.temperature import TemperatureScaled
from robustlib.study.geometry import first_order_margins, logit_ranges, roughness, smallest_radii
from robustlib.training.perturbation import PerturbationSet

TEXTS = ["a b", "c d e f g h i", "k", "a c e g i k m o q s"]
BALL = PerturbationSet("linf", radius=0.1, initial=0.1)


def boundary_of_two_classes():
    """A linear model of two classes, images on both sides of its boundary, and exact distances in both norms."""
    model, images = LinearClassifier(n_classes=2), random_images(40)
    with torch.no_grad():
        model.bias[1] -= (model(images)[:, 1] - model(images)[:, 0]).mean()
    labels = predictions(model, images)
    assert len(labels.unique()) == 2
    exact = {norm: boundary_distances(model, images, labels, norm).amin(dim=1) for norm in ("linf", "l2")}
    return model, images, labels, exact


def tiny():
    """A text classifier, and its answers to `TEXTS`."""
    model = tiny_text_model(scale=8)
    return model, model(TEXTS).argmax(dim=1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_first_order_margin_of_a_linear_model_is_the_distance_and_0_where_it_errs(norm):
    model, images, labels, exact = boundary_of_two_classes()
    wrong = torch.where(torch.arange(40) % 2 == 0, 1 - labels, labels)
    for found in (
        first_order_margins(model, images, wrong, norm=norm),
        smallest_radii(model, images, wrong, (0.05, 0.5), steps=3),
    ):
        assert (found[::2] == 0).all() and (found[1::2] > 0).all()
    found = first_order_margins(model, images, labels, norm=norm)
    torch.testing.assert_close(found.double(), exact[norm], rtol=1e-4, atol=1e-6)
    slope = (model.weight[1] - model.weight[0]).detach().reshape(1, 1, 4, 4)
    towards = slope.sign() if norm == "linf" else slope / slope.norm()
    step = found[:, None, None, None] * towards * torch.where(labels == 1, -1, 1)[:, None, None, None]
    assert torch.equal(predictions(model, images + 0.99 * step), labels)
    assert torch.equal(predictions(model, images + 1.01 * step), 1 - labels)


@pytest.mark.parametrize("temperature", [1e-6, 1e-2, 1e6])
def test_scaling_all_logits_moves_no_boundary_and_is_not_rough(temperature):
    model, images, labels = classified(20)
    measures = [
        lambda model, norm=norm: first_order_margins(model, images, labels, norm=norm) for norm in ("linf", "l2")
    ]
    for measure in (*measures, lambda model: roughness(model, images, labels, BALL)):
        plain = measure(model)
        assert plain.min() > 0
        torch.testing.assert_close(measure(TemperatureScaled(model, temperature)), plain, rtol=1e-4, atol=1e-7)


def test_of_several_classes_the_nearest_boundary_counts_which_need_not_be_the_runner_ups():
    model, images = LinearClassifier(n_classes=5), random_images(60)
    labels = predictions(model, images)
    found, exact = (
        first_order_margins(model, images, labels, norm="linf"),
        boundary_distances(model, images, labels, "linf"),
    )
    torch.testing.assert_close(found.double(), exact.amin(dim=1), rtol=1e-4, atol=1e-6)


def test_a_constant_model_is_smooth_and_fooled_at_no_radius():
    constant, images, labels = LinearClassifier(scale=0), random_images(3), torch.tensor([0, 1, 0])
    assert torch.equal(roughness(constant, images, torch.zeros_like(labels), BALL), torch.zeros(3))
    assert smallest_radii(constant, images, labels, (0.1, 0.5), steps=2).tolist() == [torch.inf, 0.0, torch.inf]
    logits = torch.tensor([[1.0, 4.0, -2.0], [0.5, 0.5, 0.5], [-3.0, -1.0, -2.0]])
    assert logit_ranges(logits).tolist() == [6.0, 0.0, 2.0]


def test_roughness_of_a_linear_model_written_out():
    """|slope @ perturbation| over the mean margin, the noise drawn for one batch of 64 after the other."""
    model, images = LinearClassifier(n_classes=2), random_images(100)
    labels = predictions(model, images)
    state = torch.random.get_rng_state()
    found = roughness(model, images, labels, BALL, seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    generator = torch.Generator().manual_seed(3)
    noise = torch.cat([0.1 * torch.empty(n, 16).uniform_(-1, 1, generator=generator) for n in (64, 36)])
    slope = (model.weight[1] - model.weight[0]).detach()
    margins = (images.flatten(1) @ slope + (model.bias[1] - model.bias[0]).detach()).abs()
    torch.testing.assert_close(found, (noise @ slope).abs() / margins.mean(), rtol=1e-3, atol=1e-5)
    assert not torch.equal(found, roughness(model, images, labels, BALL, seed=4))


def test_the_smallest_radius_of_a_linear_model_is_the_next_of_the_grid():
    model, images, labels, exact = boundary_of_two_classes()
    grid = [0.005, 0.01, 0.02, 0.03, 0.05, 0.08]
    found = smallest_radii(model, images, labels, [*grid[3:], *grid[:3]], steps=5)
    expected = torch.tensor([*grid, torch.inf])[torch.searchsorted(torch.tensor(grid).double(), exact["linf"])]
    assert (exact["linf"][:, None] - torch.tensor(grid)).abs().min() > 1e-5  # no distance is a tie with the grid
    assert torch.equal(found, expected)
    assert len(found.unique()) >= 5 and torch.isinf(found).any()


def test_measuring_leaves_the_model_and_the_generator_as_they_were():
    model, images = nn.Sequential(nn.Dropout(0.5), small_net()).eval(), random_images(8, (1, 6, 6))
    labels = predictions(model, images)
    before = [parameter.clone() for parameter in model.parameters()]
    state = torch.random.get_rng_state()
    measures = [
        lambda: first_order_margins(model, images, labels, norm="l2"),
        lambda: roughness(model, images, labels, BALL),
        lambda: smallest_radii(model, images, labels, (0.1,), steps=2),
    ]
    for measure in measures:
        model.eval()
        without_dropout = measure()
        model.train()
        assert torch.equal(measure(), without_dropout)
        assert all(module.training for module in model.modules())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_first_order_margins_of_texts_written_out(norm):
    """Each text alone, so that nothing is padded: |log-odds| over the dual norm of their slope in the embeddings."""
    model, labels = tiny()
    expected = []
    for text, label in zip(TEXTS, labels, strict=True):
        batch = model.collate(model.tokenise([text]))
        values = model.embed(batch.pop("input_ids")).detach().requires_grad_(True)
        logits = model.forward_from_embedding(values, **batch)[0]
        margin = logits[label] - logits[1 - label]
        margin.backward()
        length = values.grad.abs().sum() if norm == "linf" else (values.grad**2).sum().sqrt()
        expected.append(margin.detach() / length)
    found = first_order_margins(model, TEXTS, labels, norm=norm)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-3, atol=1e-6)
    assert found.min() > 0
    assert first_order_margins(model, TEXTS, 1 - labels, norm=norm).tolist() == [0.0] * len(TEXTS)


def test_roughness_of_texts_is_that_of_their_embeddings():
    model, labels = tiny()
    assert (roughness(model, TEXTS, labels, PerturbationSet("l2", radius=1.0, initial=0.5)) > 0).all()
    assert not roughness(model, TEXTS, labels, PerturbationSet("l2", radius=1.0, initial=0.0)).any()
