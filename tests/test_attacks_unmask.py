"""Attacks on what hides more than a scale: targeted margins, straight-through, signs by queries, surrogates."""

import numpy as np
import pytest
import torch
from models_for_tests import LinearClassifier, random_images
from torch import nn

from robustlib.attacks import Margin, TargetedMargin, pgd, square
from robustlib.attacks.signs import rays, sign_hunter
from robustlib.attacks.straight_through import straight_through
from robustlib.attacks.surrogate import fit_image_surrogate, fit_text_surrogate


@pytest.fixture
def linear():
    return LinearClassifier(n_classes=3)


@pytest.fixture
def images():
    return random_images(24)


def gradient(function, point):
    point = point.clone().requires_grad_(True)
    return torch.autograd.grad(function(point).sum(), point)[0]


def test_a_targeted_margin_climbs_towards_its_own_class(linear, images):
    labels = linear(images).argmax(dim=1)
    targets = (labels + 1) % 3
    options = {"epsilon": 1.0, "steps": 30, "leave_early": False, "random_start": False}
    reached = pgd(linear, images, labels, score=TargetedMargin(targets), batch_size=7, **options).adversarial
    assert (linear(reached).argmax(dim=1) == targets).float().mean() > 0.9


STEPS = {
    "round": lambda x: (x * 4).round(),
    "sign": torch.sign,
    "tanh": lambda x: torch.tanh(1e3 * x),
    "clamp": lambda x: (x + 9).clamp(0, 1),
    "compare": lambda x: (x > 0.2).float(),
    "less": lambda x: -(x < 0.2).to(torch.float32),
    "where": lambda x: torch.where(x > 0.2, 1.0, 0.0),
    "saturated softmax": lambda x: (1e4 * torch.stack([x, -x], dim=-1)).softmax(dim=-1)[..., 0],
    "root at zero": lambda x: (0 * x).sqrt() + x.detach(),
    "detached": lambda x: x.detach(),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_and_saturation_keep_their_values_and_get_a_slope(name):
    point = torch.linspace(-1, 1, 9) + 0.03
    changed = straight_through(STEPS[name])
    torch.testing.assert_close(changed(point), STEPS[name](point))
    slope = gradient(changed, point)
    assert torch.isfinite(slope).all()
    assert (slope > 0).all() or name == "root at zero"


def test_outside_of_it_steps_have_no_slope_again():
    straight_through(torch.round)(torch.ones(3, requires_grad=True))
    assert not gradient(torch.round, torch.ones(3)).any()


@pytest.mark.parametrize("attack", [sign_hunter, rays])
def test_signs_by_queries_find_what_gradients_find_and_stay_in_the_ball(attack, linear, images):
    labels = linear(images).argmax(dim=1)
    epsilon = 0.08
    by_gradient = pgd(linear, images, labels, epsilon=epsilon, score=Margin()).adversarial_accuracy
    result = attack(linear, images, labels, epsilon=epsilon, n_queries=200, batch_size=10)
    assert result.adversarial_accuracy <= by_gradient + 0.15
    assert (result.adversarial - images).abs().max() <= epsilon + 1e-6
    assert result.queries.max() <= 210 and result.n_backward == 0
    fooled = result.outcome == "succeeded"
    np.testing.assert_array_equal((linear(result.adversarial).argmax(dim=1) != labels).numpy(), fooled)


def test_decisions_need_no_scores(linear, images):
    labels = linear(images).argmax(dim=1)

    def shown(batch):
        return nn.functional.one_hot(linear(batch).argmax(dim=1), 3).float() * 9

    options = {"epsilon": 0.08, "n_queries": 150}
    scores, decisions = (rays(model, images, labels, **options).adversarial_accuracy for model in (linear, shown))
    assert scores == decisions
    assert sign_hunter(shown, images, labels, **options).adversarial_accuracy > decisions


def test_a_good_start_saves_queries(linear, images):
    labels = linear(images).argmax(dim=1)
    start = pgd(linear, images, labels, epsilon=0.08, score=Margin(), leave_early=False).adversarial
    plain, warm = (sign_hunter(linear, images, labels, epsilon=0.08, start=s).queries.sum() for s in (None, start))
    assert warm < plain


def test_a_surrogate_of_images_predicts_as_the_model_does():
    images = random_images(150, (1, 8, 8), low=0.0, high=1.0)
    model = LinearClassifier(3, (1, 8, 8))
    surrogate = fit_image_surrogate(lambda x: model(x).argmax(dim=1), images, 3, epsilon=0.05)
    assert (surrogate(images).argmax(dim=1) == model(images).argmax(dim=1)).float().mean() > 0.8
    rows = images.reshape(150, 1, 1, 64)  # features of an estimator
    flat = fit_image_surrogate(
        lambda x: model(x.reshape(-1, 1, 8, 8)).argmax(dim=1), rows, 3, epsilon=0.05, rounds=1, steps=60
    )
    assert flat(rows).shape == (150, 3)


def test_a_surrogate_of_texts_knows_the_words_and_every_class():
    texts = ["good film", "bad film", "good cast", "bad cast"] * 3
    surrogate = fit_text_surrogate(texts, [1, 0] * 6, n_classes=3)
    logits = surrogate(["a good one", ("a bad one", "so bad")])
    assert logits.argmax(dim=1).tolist() == [1, 0] and logits.shape == (2, 3)


def test_square_shrinks_its_squares_over_the_queries_it_has():
    images = random_images(40, (1, 12, 12), low=0.2, high=0.8)
    model = LinearClassifier(3, (1, 12, 12))
    labels = model(images).argmax(dim=1)
    options = {"epsilon": 0.05, "n_queries": 150}
    fixed, rescaled = (
        square(model, images, labels, rescale_schedule=rescale, **options).adversarial_accuracy
        for rescale in (False, True)
    )
    assert rescaled < fixed
