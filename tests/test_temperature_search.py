import math

import numpy as np
import pytest
import torch
from scipy import optimize

from robustlib.calibration.search import search_log, search_paper


def bowl(temperature):
    return 0.1 + 0.05 * math.log10(temperature / 3.0) ** 2


def falling(temperature):
    return 0.5 - 0.1 * math.tanh(math.log10(temperature) / 4)


def bimodal(temperature):
    x = math.log10(temperature)
    return 0.8 - 0.5 * math.exp(-((x + 2) ** 2)) - 0.6 * math.exp(-((x - 2) ** 2))


def plateau(temperature):
    return 0.1 if 1e-3 <= temperature <= 1e1 else 0.9


def dip(temperature):
    """Beside a plateau of two grid points."""
    return 0.05 if 2 < temperature < 5 else 0.1 if 0.5 < temperature < 20 else 0.9


def constant(temperature):
    return 0.3


def steps(temperature):
    """A bowl as measured on 200 examples."""
    return math.floor(200 * min(1.0, bowl(temperature))) / 200


@pytest.mark.parametrize(
    ("objective", "status", "low", "high"),
    [
        (bowl, "ok", 2.7, 3.3),
        (falling, "edge", 9e3, 1.01e4),
        (bimodal, "ok", 90, 110),
        (plateau, "plateau", 0.099, 0.101),  # its middle
        (dip, "plateau", 2, 5),
        (constant, "flat", 0.99, 1.01),
        (steps, "plateau", 3, 3.3),
    ],
)
def test_log_search_on_every_shape(objective, status, low, high):
    result = search_log(lambda temperature: torch.tensor(objective(temperature), dtype=torch.float64))
    assert (result.status, type(result.adversarial_accuracy)) == (status, float)
    assert low <= result.temperature <= high
    assert result.adversarial_accuracy == objective(result.temperature)
    assert result.adversarial_accuracy == min(value for _, value in result.evaluated)
    assert len(result.evaluated) == len(dict(result.evaluated)) <= 9 + 8
    np.testing.assert_allclose([temperature for temperature, _ in result.evaluated[:9]], 10.0 ** np.arange(-4, 5))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_log_search_follows_the_scale_of_the_logits(scale):
    result = search_log(lambda temperature: bowl(temperature / scale), centre=scale)
    assert result.temperature == pytest.approx(scale * search_log(bowl).temperature)


def test_log_search_stops_where_nothing_can_be_lower():
    result = search_log(lambda temperature: 0.0 if temperature > 50 else 0.5)
    assert (result.status, result.adversarial_accuracy, len(result.evaluated)) == ("plateau", 0.0, 9)


@pytest.mark.parametrize(
    ("shape", "centre"), [(lambda t: abs(t - 4e5) / 1e6, 4e5), (lambda t: abs(t - 0.3), 0.3)], ids=["above", "below"]
)
def test_paper_search_is_brent_where_the_bracket_holds(shape, centre):
    result = search_paper(shape)
    left, right = (1.0, 1e6) if centre > 1 else (1e-10, 1.0)
    expected = optimize.brent(shape, brack=(left, (left + right) / 2, right), maxiter=10)
    assert result.status == "ok"
    assert result.temperature == pytest.approx(expected)
    assert result.adversarial_accuracy == shape(result.temperature)
    assert [temperature for temperature, _ in result.evaluated[:2]] == [1.0, 10.0]
    assert len(result.evaluated) == len(dict(result.evaluated)) <= 5 + 10


@pytest.mark.parametrize("objective", [plateau, constant, falling, bowl])
def test_paper_search_is_refused_where_scipy_refuses(objective):
    result = search_paper(objective)
    left, right = (1.0, 1e6) if objective(10) < objective(1) else (1e-10, 1.0)
    with pytest.raises(ValueError, match="Bracketing values"):
        optimize.brent(objective, brack=(left, (left + right) / 2, right), maxiter=10)
    assert result.status == "bracket refused"
    assert result.adversarial_accuracy == min(value for _, value in result.evaluated)


def test_the_linear_bracket_loses_what_the_log_search_finds():
    # An underconfident model served at T_d = 1e6: only temperatures near 1e-6 pierce it.
    def underconfident(temperature):
        return 0.2 if 1e-7 < temperature < 1e-5 else 0.3

    assert search_paper(underconfident).adversarial_accuracy == 0.3
    assert search_log(underconfident, centre=3e-6).adversarial_accuracy == 0.2


def test_an_error_of_the_attack_is_not_taken_for_a_refused_bracket():
    def broken(temperature):
        if temperature == 1.0 or temperature == 10.0:
            return 0.5
        raise ValueError("the attack broke")

    with pytest.raises(ValueError, match="the attack broke"):
        search_paper(broken)
