"""Maps that hide: predictions stay, and what is left to see is what the theory says."""

import math

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

MAPS = [
    ConstantConfidence(0.8),
    TemperaturePerInput(1.4),
    TemperaturePerQuery(2.0),
    Floor(2.5),
    Rounded(1.0, torch.bfloat16, True),
]


def answers(n_classes, n=600, accuracy=0.8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(n, n_classes, generator=draw)
    wrong = (logits.argmax(1) + 1) % n_classes
    return logits, torch.where(torch.rand(n, generator=draw) < accuracy, logits.argmax(1), wrong)


@pytest.mark.parametrize("disguise", MAPS[:4], ids=repr)
@pytest.mark.parametrize("n_classes", [2, 10])
def test_no_prediction_changes(disguise, n_classes):
    logits, _ = answers(n_classes)
    assert torch.equal(disguise(logits).argmax(1), logits.argmax(1))


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
def test_a_constant_confidence_at_the_accuracy_is_calibrated_by_definition(n_classes):
    logits, labels = answers(n_classes)
    accuracy = float((logits.argmax(1) == labels).double().mean())
    report = calibration_report(ConstantConfidence(accuracy)(logits), labels)
    assert report.expected_calibration_error < 1e-5
    assert report.accuracy == pytest.approx(accuracy)


def test_with_two_classes_a_constant_confidence_is_a_constant_gap():
    logits, _ = answers(2)
    shown = ConstantConfidence(0.8)(logits)
    expected = TemperaturePerInput(math.log(4.0))(logits)
    assert torch.allclose(shown[:, 0] - shown[:, 1], expected[:, 0] - expected[:, 1], rtol=1e-4)


@pytest.mark.parametrize("n_classes", [3, 10])
def test_a_constant_confidence_has_no_gradient_and_its_other_probabilities_have_the_right_one(n_classes):
    logits = answers(n_classes, n=8)[0].double().requires_grad_(True)
    disguise = ConstantConfidence(0.8)
    (gradient,) = torch.autograd.grad(disguise(logits).softmax(1).amax(1).sum(), logits)
    assert gradient.abs().max() < 1e-9
    assert torch.autograd.gradcheck(lambda z: disguise(z).softmax(1), logits, atol=1e-5)


def test_a_random_temperature_is_the_same_for_the_same_seed_and_another_for_the_next_query():
    logits, _ = answers(3)
    first, again = TemperaturePerQuery(1.0, seed=3), TemperaturePerQuery(1.0, seed=3)
    assert torch.equal(first(logits), again(logits))
    assert not torch.equal(first(logits), again(first(logits)))


def test_a_floor_shows_no_gap_beyond_its_depth():
    shown = Floor(2.5)(answers(10)[0])
    assert float((shown.amax(1) - shown.amin(1)).max()) <= 2.5


def test_probabilities_in_float32_tie_where_logits_do_not():
    logits = torch.tensor([[30.0, 0.0], [60.0, 0.0]])
    shown = Rounded(0.1, probabilities=True)(logits)
    assert torch.equal(shown[0], shown[1])


def test_a_disguise_stands_before_any_model():
    model = Disguised(nn.Linear(4, 3), Floor(1.0))
    assert model(torch.rand(5, 4)).shape == (5, 3)
    assert "Floor" in repr(model)


@pytest.mark.parametrize(
    "make", [lambda: TemperaturePerInput(0), lambda: Floor(-1.0), lambda: TemperaturePerQuery(-0.1), lambda: Rounded(0)]
)
def test_numbers_that_are_none_are_refused(make):
    with pytest.raises(ValueError, match="must be finite"):
        make()


def test_without_an_error_there_is_no_calibrated_gap():
    logits, _ = answers(4)
    with pytest.raises(ValueError, match="accuracy is 1"):
        calibrated_gap(logits, logits.argmax(1))
