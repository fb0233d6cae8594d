"""Gradient attacks against closed forms and foolbox."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import LinearClassifier, classified, predictions, random_images, small_net

from robustlib.attacks import fgsm, pgd, pgd_in_float64
from robustlib.attacks.scores import DLR, CrossEntropy, Margin
from robustlib.calibration.temperature import TemperatureScaled


def two_class_margin(model, images, labels):
    with torch.no_grad():
        logits = model(images)
    return logits.gather(1, labels[:, None])[:, 0] - logits.gather(1, 1 - labels[:, None])[:, 0]


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_one_step_lowers_a_linear_margin_by_epsilon_times_the_dual_norm(norm, dual):
    model = LinearClassifier(n_classes=2).double()
    images = random_images(20).double()
    labels = predictions(model, images)
    epsilon = 1e-3
    adversarial = fgsm(model, images, labels, epsilon=epsilon, norm=norm, score=CrossEntropy()).adversarial
    drop = two_class_margin(model, images, labels) - two_class_margin(model, adversarial, labels)
    weight_norm = (model.weight[0] - model.weight[1]).norm(p=dual).item()
    moved = predictions(model, adversarial) == labels
    torch.testing.assert_close(drop[moved], torch.full_like(drop[moved], epsilon * weight_norm))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_agrees_with_foolbox_step_by_step(norm):
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import foolbox

    model = small_net().double().eval()
    images = random_images(24, (1, 6, 6)).double()
    labels = predictions(model, images)
    epsilon, steps, step_size = 0.05, 7, 0.013
    attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    oracle, _, _ = attack(abs_stepsize=step_size, steps=steps, random_start=False)(
        foolbox.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=epsilon
    )
    options = {"epsilon": epsilon, "norm": norm, "steps": steps, "step_size": step_size}
    ours = pgd(model, images, labels, **options, random_start=False, leave_early=False)
    torch.testing.assert_close(ours.adversarial, oracle, atol=1e-9, rtol=0)


@settings(max_examples=25)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0, 0.5),
    temperature=st.sampled_from([1e-6, 1e-2, 1.0, 1e4]),
    steps=st.integers(1, 4),
    seed=st.integers(0, 3),
)
def test_perturbation_stays_in_the_ball_and_the_pixel_range_and_inputs_are_untouched(
    norm, epsilon, temperature, steps, seed
):
    model = small_net(seed)
    images = random_images(9, (1, 6, 6), seed, low=0.0, high=1.0)
    labels = torch.arange(9) % 4
    before, weights = images.clone(), [weight.clone() for weight in model.parameters()]
    options = {"epsilon": epsilon, "norm": norm, "steps": steps, "seed": seed, "restarts": 2}
    result = pgd(model, images, labels, score=CrossEntropy(temperature), **options)
    change = (result.adversarial - images).flatten(1)
    size = change.abs().amax(dim=1) if norm == "linf" else change.norm(dim=1)
    assert (size <= epsilon * (1 + 1e-5) + 1e-7).all()
    assert result.adversarial.min() >= 0
    assert result.adversarial.max() <= 1
    assert torch.equal(images, before)
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(old, new) for old, new in zip(weights, model.parameters(), strict=True))
    assert result.adversarial_accuracy <= result.clean_accuracy
    skipped = result.outcome == "skipped"
    assert torch.equal(result.adversarial[torch.tensor(skipped)], images[torch.tensor(skipped)])


def test_batch_size_does_not_change_the_answer_and_early_leaving_saves_passes():
    model, images, labels = classified(30)
    whole = pgd(model, images, labels, epsilon=0.08)
    parts = pgd(model, images, labels, epsilon=0.08, batch_size=7)
    every_step = pgd(model, images, labels, epsilon=0.08, leave_early=False)
    torch.testing.assert_close(whole.adversarial, parts.adversarial, atol=1e-6, rtol=0)
    assert (whole.outcome == parts.outcome).all()
    assert whole.n_backward < every_step.n_backward == 30 * 20
    assert every_step.n_forward == 30 * 22  # one clean pass, one before each step, one at the end
    short = {"epsilon": 0.05, "steps": 2}  # restarts only add successes
    one, five = pgd(model, images, labels, **short), pgd(model, images, labels, **short, restarts=5)
    assert (five.outcome[one.outcome == "succeeded"] == "succeeded").all()


def test_kept_path_starts_at_the_image_and_every_iterate_is_in_the_ball():
    model, images, labels = classified(5)
    result = pgd(model, images, labels, epsilon=0.05, steps=6, random_start=False, keep_path=True)
    path = result.details["path"]
    assert path.shape == (7, 5, 1, 6, 6)
    assert torch.equal(path[0], images)
    assert ((path - images).abs() <= 0.05 + 1e-6).all()
    assert not torch.equal(path[1], path[0])


@pytest.mark.parametrize("score", [Margin(), DLR()])
@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 1e3, 1e8])
def test_scale_free_scores_give_the_same_attack_at_every_temperature(score, temperature):
    model, images, labels = classified(30)
    plain = pgd(model, images, labels, epsilon=0.06, score=score)
    scaled = pgd(TemperatureScaled(model, temperature), images, labels, epsilon=0.06, score=score)
    assert (plain.outcome == scaled.outcome).all()


def test_tiny_l2_gradients_still_move():
    """Only a gradient of exactly 0 may stop the search, not a floor under its norm."""
    model = LinearClassifier(n_classes=2, scale=1e-25)
    images = random_images(4)
    labels = predictions(model, images)
    result = pgd(model, images, labels, epsilon=0.5, norm="l2", steps=1, random_start=False, step_size=0.5)
    size = (result.adversarial - images).flatten(1).norm(dim=1)
    torch.testing.assert_close(size, torch.full_like(size, 0.5), rtol=1e-3, atol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_start_is_moved_into_the_ball_and_climbed_from(norm):
    model, images, labels = classified(12)
    options = {"epsilon": 0.05, "norm": norm, "steps": 1, "step_size": 1e-9, "leave_early": False}
    toward = images + 0.04 if norm == "linf" else images + 0.04 / 6
    near = pgd(model, images, labels, start=toward, **options).adversarial
    torch.testing.assert_close(near, toward.clamp(0, 1), atol=1e-6, rtol=0)
    far = pgd(model, images, labels, start=images + 10, **options, batch_size=5).adversarial - images
    length = far.abs().amax((1, 2, 3)) if norm == "linf" else far.flatten(1).norm(dim=1)
    torch.testing.assert_close(length, torch.full_like(length, 0.05), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="start must hold finite points of shape"):
        pgd(model, images, labels, start=images[:3], **options)


def test_a_start_that_fools_is_kept_and_restarts_go_elsewhere():
    model, images, labels = classified(30)
    options = {"epsilon": 0.9, "steps": 1, "step_size": 1e-9}
    first = pgd(model, images, labels, **options)
    fooled = torch.tensor(first.outcome == "succeeded")
    again = pgd(model, images, labels, start=first.adversarial, **options)
    assert 0 < fooled.sum() < len(images)
    assert torch.equal(again.adversarial[fooled], first.adversarial[fooled])
    assert pgd(model, images, labels, start=images, **options).adversarial_accuracy == 1
    assert pgd(model, images, labels, start=images, restarts=3, **options).adversarial_accuracy < 1


def test_float64_sees_further_than_float32():
    model, images, labels = classified(40)
    served = TemperatureScaled(model, 0.03)
    options = {"epsilon": 0.3, "steps": 10}
    wide, narrow = (attack(served, images, labels, **options) for attack in (pgd_in_float64, pgd))
    assert wide.adversarial.dtype == images.dtype
    assert next(model.parameters()).dtype == torch.float32
    assert ((wide.adversarial - images).abs() <= 0.3 + 1e-6).all()
    assert wide.adversarial_accuracy < narrow.adversarial_accuracy
