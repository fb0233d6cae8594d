"""The protocol: search on a re-scaled copy, score on the model as served."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from models_for_tests import predictions, random_images, small_net

from robustlib.attacks import pgd
from robustlib.attacks.adversaries import (
    ADVERSARIES,
    Adversary,
    Attack,
    cal_readings,
    calibrated,
    evaluate,
    plan_adversary,
    transfer,
    warm,
)
from robustlib.attacks.result import AttackResult
from robustlib.attacks.scores import Margin
from robustlib.calibration.disguises import Disguised, Floor
from robustlib.calibration.fit import fit_platt
from robustlib.calibration.temperature import TemperatureScaled

EPSILON = 0.25
PGD = Attack("pgd", partial(pgd, epsilon=EPSILON, steps=8, random_start=False))


@pytest.fixture(scope="module")
def problem():
    model = small_net()
    images = random_images(160, (1, 6, 6))
    labels = predictions(model, images)
    labels[::9] = (labels[::9] + 1) % 4  # some mistakes, so that calibration has an optimum
    return model, images[:80], labels[:80], images[80:], labels[80:]


@pytest.mark.parametrize("design_temperature", [1e-4, 1e5])
@pytest.mark.parametrize("name", ["naive", "cal-exact", "opt", "margin"])
def test_strong_adversaries_pierce_both_illusions_and_the_naive_one_does_not(problem, design_temperature, name):
    model, images, labels, val_images, val_labels = problem
    honest = evaluate(model, PGD, plan_adversary("margin", model, PGD, val_images, val_labels), images, labels)
    served = TemperatureScaled(model, design_temperature)
    adversary = plan_adversary(name, served, PGD, val_images, val_labels, n_search=40)
    result = evaluate(served, PGD, adversary, images, labels)
    left = result.minus(honest)
    assert left.difference == pytest.approx(result.adversarial_accuracy - honest.adversarial_accuracy)
    assert result.interval[0] <= result.adversarial_accuracy <= result.interval[1]
    if name != "naive":
        assert left.difference <= 0.06
    elif design_temperature < 1:
        assert left.low > 0.3
    if name in ("cal-exact", "opt"):
        assert math.log10(adversary.temperature) == pytest.approx(-math.log10(design_temperature), abs=1.5)


def test_the_served_model_is_the_judge_not_the_searched_one(problem):
    """A surrogate that is always fooled must not lower the accuracy of the served model."""
    model, images, labels, *_ = problem

    def no_attack(searched, inputs, truth, *, score):
        assert searched is surrogate
        return AttackResult(inputs.clone(), np.array(["succeeded"] * len(inputs)), 0)

    surrogate = small_net(seed=5)
    attack = Attack("none", no_attack)
    result = evaluate(model, attack, transfer("transfer:other", surrogate, attack), images, labels)
    assert result.adversarial_accuracy == (predictions(model, images) == labels).double().mean().item()


@pytest.mark.parametrize("name", sorted(set(ADVERSARIES) - {"ties", "label-only"}))  # those are of texts
def test_adversarial_accuracy_never_exceeds_clean_accuracy(problem, name):
    model, images, labels, val_images, val_labels = problem
    served = TemperatureScaled(model, 1e-3)
    adversary = plan_adversary(name, served, PGD, val_images, val_labels, n_search=20)
    result = evaluate(served, PGD, adversary, images, labels)
    assert result.adversarial_accuracy <= result.clean_correct.mean()
    assert adversary.name == name
    assert adversary.status


def test_calibration_without_an_optimum_stays_as_served_and_says_so(problem):
    model, images, *_ = problem
    with pytest.warns(UserWarning, match="the model makes no error"):
        adversary = plan_adversary("cal-exact", model, PGD, images, predictions(model, images))
    assert adversary.temperature == 1.0
    assert adversary.status == "separable"


def test_a_calibrator_is_searched_and_the_served_model_judges(problem):
    model, images, labels, val_images, val_labels = problem
    served = TemperatureScaled(model, 1e-4)
    by_name = plan_adversary("platt-exact", served, PGD, val_images, val_labels)
    by_hand = calibrated("platt-exact", served, PGD, val_images, val_labels, fit=fit_platt)
    first, second = (evaluate(served, PGD, adversary, images, labels) for adversary in (by_name, by_hand))
    as_served = evaluate(served, PGD, plan_adversary("naive", served, PGD, val_images, val_labels), images, labels)
    assert (first.correct == second.correct).all()
    assert first.adversarial_accuracy < as_served.adversarial_accuracy - 0.2
    assert (first.clean_correct == (predictions(model, images) == labels).numpy()).all()


def test_a_warm_start_goes_on_where_the_surrogate_led(problem):
    """Behind a floor nothing is seen near an image; the surrogate leads to where the margin is."""
    model, images, labels, *_ = problem
    near = small_net()
    with torch.no_grad():
        near[3].weight += 1.5 * torch.randn(near[3].weight.shape, generator=torch.Generator().manual_seed(0))
    served = Disguised(model, Floor(0.5))
    shares = {}
    for adversary in (Adversary("margin", Margin()), transfer("transfer", near, PGD), warm("warm", near, PGD)):
        result = evaluate(served, PGD, adversary, images, labels)
        shares[adversary.name] = result.adversarial_accuracy
        assert (result.clean_correct == (predictions(model, images) == labels).numpy()).all()
    assert shares["warm"] < min(shares["margin"], shares["transfer"])


def test_twelve_readings_of_cal_share_temperatures_that_agree(problem):
    model, _, _, val_images, val_labels = problem
    readings = cal_readings(TemperatureScaled(model, 0.5), PGD, val_images, val_labels)
    exact = plan_adversary("cal-exact", TemperatureScaled(model, 0.5), PGD, val_images, val_labels).temperature
    assert len(readings) == 12
    assert all(name == adversary.name for name, adversary in readings.items())
    ok = {a.temperature for a in readings.values() if a.status == "ok"}
    assert all(temperature == pytest.approx(exact, rel=0.021) for temperature in ok)
    assert len({a.temperature for a in readings.values()}) < 12
    served = plan_adversary("cal", TemperatureScaled(model, 0.5), PGD, val_images, val_labels)
    assert readings["cal:sum-sgd-T"].temperature == served.temperature
