"""Gradient attacks against closed forms and foolbox."""

import os
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import LinearClassifier, classified, predictions, random_images, sizes, small_net

from robustlib.attacks import fgsm, hop_skip_jump, pgd, pgd_in_float64
from robustlib.attacks.scores import DLR, CrossEntropy, Margin
from robustlib.calibration.temperature import TemperatureScaled

FOOLBOX = {"linf": ("LinfPGD", "LinfFastGradientAttack"), "l2": ("L2PGD", "L2FastGradientAttack")}


@pytest.mark.parametrize("norm", FOOLBOX)
def test_agrees_with_foolbox_step_by_step(norm):
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import foolbox

    model = small_net().double().eval()
    images = random_images(24, (1, 6, 6)).double()
    labels = predictions(model, images)
    iterated, one_step = (getattr(foolbox.attacks, name) for name in FOOLBOX[norm])
    options = {"epsilon": 0.05, "norm": norm, "steps": 7, "step_size": 0.013}
    for ours, theirs in (
        (
            pgd(model, images, labels, **options, random_start=False, leave_early=False),
            iterated(abs_stepsize=0.013, steps=7, random_start=False),
        ),
        (fgsm(model, images, labels, epsilon=0.05, norm=norm), one_step(random_start=False)),
    ):
        expected, _, _ = theirs(foolbox.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=0.05)
        torch.testing.assert_close(ours.adversarial, expected, atol=1e-9, rtol=0)


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
    assert (sizes(result.adversarial - images, norm) <= epsilon * (1 + 1e-5) + 1e-7).all()
    assert result.adversarial.min() >= 0
    assert result.adversarial.max() <= 1
    assert torch.equal(images, before)
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(old, new) for old, new in zip(weights, model.parameters(), strict=True))


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


@pytest.mark.parametrize("temperature", [1e-20, 1e-6, 1e3, 1e20])
@pytest.mark.parametrize(
    "attack",
    [
        partial(pgd, epsilon=0.06, score=Margin()),
        partial(pgd, epsilon=0.06, score=DLR()),
        partial(hop_skip_jump, epsilon=0.5, steps=2, max_gradient_evaluations=30),
    ],
    ids=["margin", "DLR", "decisions"],
)
def test_without_a_scale_in_it_an_attack_ends_alike_at_every_temperature(attack, temperature):
    model, images, labels = classified(30)
    plain, scaled = (attack(served, images, labels) for served in (model, TemperatureScaled(model, temperature)))
    assert (plain.outcome == scaled.outcome).all()
    assert {"succeeded", "failed"} == set(plain.outcome)


def test_tiny_l2_gradients_still_move():
    """Only a gradient of exactly 0 may stop the search, not a floor under its norm."""
    model = LinearClassifier(n_classes=2, scale=1e-25)
    images = random_images(4)
    labels = predictions(model, images)
    result = pgd(model, images, labels, epsilon=0.5, norm="l2", steps=1, random_start=False, step_size=0.5)
    assert sizes(result.adversarial - images, "l2").tolist() == pytest.approx([0.5] * 4, rel=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_start_is_moved_into_the_ball_and_climbed_from(norm):
    model, images, labels = classified(12)
    options = {"epsilon": 0.05, "norm": norm, "steps": 1, "step_size": 1e-9, "leave_early": False}
    toward = images + 0.04 if norm == "linf" else images + 0.04 / 6
    near = pgd(model, images, labels, start=toward, **options).adversarial
    torch.testing.assert_close(near, toward.clamp(0, 1), atol=1e-6, rtol=0)
    far = pgd(model, images, labels, start=images + 10, **options, batch_size=5).adversarial - images
    assert sizes(far, norm).tolist() == pytest.approx([0.05] * 12, abs=1e-6)
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
