"""Maps that hide: predictions stay, and what is left to see is what the theory says."""

import pytest
import torch
from torch import nn

from robustlib.calibration.disguises import (
    ConstantConfidence,
    Disguised,
    Floor,
    Rounded,
    TemperaturePerInput,
    TemperaturePerQuery,
    calibrated_gap,
)
from robustlib.calibration.fit import fit_temperature
from robustlib.calibration.metrics import calibration_report


def answers(n_classes, n=600, accuracy=0.8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(n, n_classes, generator=draw)
    wrong = (logits.argmax(1) + 1) % n_classes
    return logits, torch.where(torch.rand(n, generator=draw) < accuracy, logits.argmax(1), wrong)


@pytest.mark.parametrize(
    "disguise", [ConstantConfidence(0.8), TemperaturePerInput(1.4), TemperaturePerQuery(2.0), Floor(2.5)], ids=repr
)
@pytest.mark.parametrize("n_classes", [2, 10])
def test_no_prediction_changes_and_a_floor_shows_no_gap_beyond_its_depth(disguise, n_classes):
    logits, _ = answers(n_classes)
    shown = Disguised(nn.Identity(), disguise)(logits)
    assert torch.equal(shown.argmax(1), logits.argmax(1))
    assert not isinstance(disguise, Floor) or float((shown.amax(1) - shown.amin(1)).max()) <= 2.5
    assert repr(disguise) in repr(Disguised(nn.Identity(), disguise))
    tied = Rounded(0.1, probabilities=True)(torch.tensor([[30.0, 0.0], [60.0, 0.0]]))  # in float32
    assert torch.equal(tied[0], tied[1])


def test_two_classes_at_the_calibrated_gap_are_perfectly_calibrated_and_say_only_the_label():
    logits, labels = answers(2)
    kappa = calibrated_gap(logits, labels)
    accuracy = float((logits.argmax(1) == labels).double().mean())
    assert kappa == pytest.approx(torch.logit(torch.tensor(accuracy, dtype=torch.float64)).item(), rel=1e-6)
    shown = TemperaturePerInput(kappa)(logits)
    assert calibration_report(shown, labels).expected_calibration_error < 1e-6
    assert fit_temperature(shown, labels).temperature == pytest.approx(1.0, abs=1e-3)
    assert torch.unique((shown[:, 0] - shown[:, 1]).abs().round(decimals=4)).numel() == 1


def test_ten_classes_keep_their_ratios_and_their_mean_confidence_is_the_accuracy():
    logits, labels = answers(10)
    shown = TemperaturePerInput(calibrated_gap(logits, labels))(logits)
    confidence = shown.double().softmax(1).amax(1).mean()
    assert float(confidence) == pytest.approx(float((logits.argmax(1) == labels).double().mean()), abs=1e-6)

    def ratio(z):
        top = z.double().topk(3, dim=1).values
        return (top[:, 0] - top[:, 1]) / (top[:, 0] - top[:, 2])

    assert torch.allclose(ratio(shown), ratio(logits), rtol=1e-4)


def test_the_margin_has_no_gradient_behind_a_temperature_per_input():
    logits, _ = answers(10, n=20)
    logits.requires_grad_(True)
    top = TemperaturePerInput(2.0)(logits).topk(2, dim=1).values
    (gradient,) = torch.autograd.grad((top[:, 0] - top[:, 1]).sum(), logits)
    assert gradient.abs().max() < 1e-4


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_a_constant_confidence_is_calibrated_has_no_gradient_and_its_other_probabilities_the_right_one(n_classes):
    logits, labels = answers(n_classes)
    accuracy = float((logits.argmax(1) == labels).double().mean())
    report = calibration_report(ConstantConfidence(accuracy)(logits), labels)
    assert report.expected_calibration_error < 1e-5 and report.accuracy == pytest.approx(accuracy)
    logits, disguise = logits[:8].double().requires_grad_(True), ConstantConfidence(0.8)
    (gradient,) = torch.autograd.grad(disguise(logits).softmax(1).amax(1).sum(), logits)
    assert gradient.abs().max() < 1e-9
    assert torch.autograd.gradcheck(lambda z: disguise(z).softmax(1), logits, atol=1e-5)


def test_a_random_temperature_is_the_same_for_the_same_seed_and_another_for_the_next_query():
    logits, _ = answers(3)
    first, again = TemperaturePerQuery(1.0, seed=3), TemperaturePerQuery(1.0, seed=3)
    assert torch.equal(first(logits), again(logits))
    assert not torch.equal(first(logits), again(first(logits)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TemperaturePerInput(0), "must be finite"),
        (lambda: Floor(-1.0), "must be finite"),
        (lambda: TemperaturePerQuery(-0.1), "must be finite"),
        (lambda: Rounded(0), "must be finite"),
        (lambda: calibrated_gap(9 * torch.eye(4), torch.arange(4)), "accuracy is 1"),
    ],
)
def test_numbers_that_are_none_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
