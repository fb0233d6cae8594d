"""What all attacks on images promise, and those that come from libraries: what we add to them."""

import numpy as np
import pytest
import torch
from models_for_tests import (
    LinearClassifier,
    boundary_distances,
    classified,
    predictions,
    random_images,
    sizes,
    small_net,
)

from robustlib.attacks import auto_attack, carlini_wagner, hop_skip_jump, pgd, square
from robustlib.attacks.scores import Margin

ATTACKS = {
    pgd: {"steps": 5},
    carlini_wagner: {"steps": 20, "binary_search_steps": 3},
    hop_skip_jump: {"steps": 4, "max_gradient_evaluations": 40},
    square: {"n_queries": 10},
    auto_attack: {"attacks": ("apgd-ce",)},
}
every_attack = pytest.mark.parametrize("attack", ATTACKS)


def poisoned_where(condition):
    """A linear classifier that returns NaN for images that fulfil a condition, and the same without."""
    linear = LinearClassifier()
    return lambda images: linear(images).masked_fill(condition(images)[:, None], torch.nan), linear


def zero_unless_dark(images):
    """Class 0 in the light; class 1 where the mean pixel is under 0.1, where no uniform noise gets."""
    mean = images.flatten(1).mean(dim=1)
    return torch.stack([mean - 0.1, 0.1 - mean], dim=1)


@every_attack
def test_a_radius_of_zero_fools_nobody(attack):
    model, images, labels = classified(6)
    result = attack(model, images, labels, epsilon=np.float32(0), **ATTACKS[attack])
    assert (result.outcome == "failed").all()
    torch.testing.assert_close(result.adversarial, images, atol=1e-6, rtol=0)


@every_attack
def test_a_model_that_returns_nan_is_named_with_the_example(attack):
    images = random_images(5)
    model, linear = poisoned_where(lambda seen: seen[:, 0, 0, 0] == 1.0)
    labels = predictions(linear, images)
    images[3, 0, 0, 0] = 1.0
    with pytest.raises(FloatingPointError, match=r"logits for example 3$"):
        attack(model, images, labels, epsilon=0.1, batch_size=2)


@every_attack
def test_nan_that_only_the_search_meets_is_raised_too(attack):
    images = random_images(5)
    known = images.flatten(1).clone()
    model, linear = poisoned_where(lambda seen: torch.cdist(seen.flatten(1), known, p=torch.inf).amin(dim=1) > 1e-3)
    with pytest.raises(FloatingPointError, match=r"the model returned NaN or infinite logits for example [0-4]"):
        attack(model, images, predictions(linear, images), epsilon=0.1, **ATTACKS[attack])


@every_attack
def test_empty_input_gives_an_empty_result(attack):
    images = torch.empty(0, 1, 4, 4)
    result = attack(LinearClassifier(), images, torch.empty(0, dtype=torch.long), epsilon=0.1)
    assert (len(result), result.n_forward, result.n_backward) == (0, 0, 0)
    assert result.adversarial.shape == images.shape
    assert np.isnan(result.adversarial_accuracy)
    assert all(len(norm) == 0 for norm in result.details.values())


@every_attack
def test_outcomes_are_the_models_own_within_the_ball_and_all_else_stays(attack):
    """Each batch has right and wrong examples, so that rows of batch and of input differ."""
    model, images, labels = classified(11)
    labels = (labels + torch.tensor([0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 1])) % 4
    model[2].train(False)  # one part in another mode than the rest
    before, state, modes = images.clone(), torch.random.get_rng_state(), [part.training for part in model.modules()]
    result = attack(model, images, labels, epsilon=0.4, batch_size=4, **ATTACKS[attack])
    wrong = predictions(model, images) != labels
    assert torch.equal(images, before) and torch.equal(state, torch.random.get_rng_state())
    assert modes == [part.training for part in model.modules()] and len(set(modes)) == 2
    assert torch.equal(result.adversarial[wrong], images[wrong])
    assert (result.outcome[wrong.numpy()] == "skipped").all()
    fooled = torch.tensor(result.outcome == "succeeded")
    assert torch.equal(fooled, ~wrong & (predictions(model, result.adversarial) != labels))
    assert fooled.any()
    assert result.adversarial_accuracy < (result.outcome != "skipped").mean() == 7 / 11
    norm = "l2" if attack in (carlini_wagner, hop_skip_jump) else "linf"
    assert (sizes(result.adversarial - images, norm) <= 0.4 * (1 + 1e-4)).all()
    assert result.n_forward > 11
    assert (result.n_backward > 0) == (attack in (pgd, carlini_wagner, auto_attack))


@pytest.mark.parametrize("stage", ["apgd-ce", "apgd-t", "fab-t"])
def test_auto_attack_takes_as_many_steps_as_it_is_told(stage):
    model, images = small_net(n_classes=4), random_images(8, (1, 6, 6))
    budget = {"epsilon": 1e-3, "attacks": (stage,)}  # which fools nothing, so that nothing ends early
    labels = predictions(model, images)
    few, more, most = (auto_attack(model, images, labels, steps=n, **budget).n_forward for n in (10, 20, 40))
    assert most - more == 2 * (more - few) >= 2 * 10 * len(images)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_auto_attack_runs_with_few_classes(n_classes):
    model, images = small_net(n_classes=n_classes), random_images(8, (1, 6, 6))
    result = auto_attack(model, images, predictions(model, images), epsilon=0.08, n_queries=20)
    reference = pgd(model, images, predictions(model, images), epsilon=0.08, score=Margin())
    assert result.adversarial_accuracy <= reference.adversarial_accuracy


@pytest.mark.parametrize(
    ("attack", "options", "excess"),
    [
        (carlini_wagner, {"steps": 300, "binary_search_steps": 9}, 0.03),
        (hop_skip_jump, {"steps": 12, "max_gradient_evaluations": 150}, 0.1),
        (hop_skip_jump, {"steps": 12, "max_gradient_evaluations": 150, "norm": "linf"}, 0.25),
    ],
)
def test_norms_found_are_those_of_a_linear_model(attack, options, excess):
    model = LinearClassifier()
    images = random_images(40)
    labels = predictions(model, images)
    labels[::5] = (labels[::5] + 1) % 3
    norm = options.get("norm", "l2")
    least = boundary_distances(model, images, labels, norm).amin(dim=1)
    epsilon = float(least[least > 0].median())
    result = attack(model, images, labels, epsilon=epsilon, **options)
    found, skipped = result.details[norm], torch.tensor(result.outcome == "skipped")
    assert found.shape == (40,)
    assert torch.equal(found.isnan(), skipped)
    assert torch.equal(skipped, least <= 0)
    ratio = (found / least)[~skipped]
    assert ratio.min() > 0.999  # nothing is nearer than the boundary
    assert ratio.median() < 1 + excess
    assert torch.equal(found <= epsilon, torch.tensor(result.outcome == "succeeded"))


def test_a_norm_is_nan_where_nothing_was_found():
    model = LinearClassifier(scale=1e-20)  # so flat that no step of C&W moves anything
    images = random_images(6)
    result = carlini_wagner(model, images, predictions(model, images), epsilon=100.0, steps=5)
    assert result.details["l2"].isnan().all()
    assert (result.outcome == "failed").all()
    assert torch.equal(result.adversarial, images)


def test_hop_skip_jump_fails_where_it_has_no_start_and_only_there():
    model = zero_unless_dark
    images = random_images(8, low=0.3, high=0.4)
    images[3] = 0.08  # noise starts it: nothing else is dark, but each pixel of noise is lighter
    labels = predictions(model, images)
    assert labels.tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    alone = hop_skip_jump(model, images, labels, epsilon=2.0, steps=1, batch_size=3)
    # batches of 0-2, 3-5 and 6-7: only the second has an image of another class to start from
    assert alone.details["l2"].isnan().tolist() == [True] * 3 + [False] * 3 + [True] * 2
    assert alone.outcome.tolist() == ["failed"] * 3 + ["succeeded"] * 3 + ["failed"] * 2
    assert torch.equal(alone.adversarial[:3], images[:3])


def test_hop_skip_jump_steps_as_far_in_a_batch_as_alone():
    """foolbox takes norms over the whole batch: with that, the norms found double from batches of 4 to one of 60."""
    model = LinearClassifier(shape=(1, 8, 8))
    images = random_images(60, (1, 8, 8))
    labels = predictions(model, images)
    options = {"epsilon": 1.0, "steps": 3, "max_gradient_evaluations": 60}
    together = hop_skip_jump(model, images, labels, **options).details["l2"]
    apart = hop_skip_jump(model, images, labels, batch_size=4, **options).details["l2"]
    assert together.median().item() == pytest.approx(apart.median().item(), rel=0.15)
