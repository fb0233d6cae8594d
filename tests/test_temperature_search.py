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
        (plateau, "plateau", 1e-3, 1e1),
        (constant, "flat", 0.99, 1.01),
        (steps, "plateau", 3, 3.3),
    ],
)
def test_log_search_on_every_shape(objective, status, low, high):
    found = search_log(objective)
    assert found.status == status
    assert low <= found.temperature <= high
    assert found.adversarial_accuracy == objective(found.temperature)
    assert found.adversarial_accuracy == min(value for _, value in found.evaluated)
    assert found.n_evaluations == len(found.evaluated) == len(dict(found.evaluated)) <= 9 + 8


def test_log_search_keeps_the_middle_of_the_plateau():
    assert search_log(plateau).temperature == pytest.approx(0.1)


def test_log_search_finds_a_dip_beside_a_plateau_of_two_grid_points():
    def dip(temperature):
        return 0.05 if 2 < temperature < 5 else 0.1 if 0.5 < temperature < 20 else 0.9

    found = search_log(dip)
    assert 2 < found.temperature < 5
    assert found.status == "plateau"


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_log_search_follows_the_scale_of_the_logits(scale):
    found = search_log(lambda temperature: bowl(temperature / scale), centre=scale)
    assert found.temperature == pytest.approx(scale * search_log(bowl).temperature)


def test_log_search_never_asks_twice_and_grids_in_one_go():
    asked, batches = [], []

    def counted(temperature):
        asked.append(temperature)
        return bowl(temperature)

    def counted_many(temperatures):
        batches.append(list(temperatures))
        return torch.tensor([bowl(temperature) for temperature in temperatures], dtype=torch.float64)

    alone = search_log(counted)
    assert len(asked) == len(set(asked)) == alone.n_evaluations
    asked.clear()
    assert search_log(counted, objective_many=counted_many) == alone
    np.testing.assert_allclose(batches, [10.0 ** np.arange(-4, 5)])
    assert len(asked) == alone.n_evaluations - 9


def test_log_search_stops_where_nothing_can_be_lower():
    found = search_log(lambda temperature: 0.0 if temperature > 50 else 0.5)
    assert (found.status, found.adversarial_accuracy, found.n_evaluations) == ("plateau", 0.0, 9)


def test_log_search_takes_float32_tensors():
    found = search_log(lambda temperature: torch.tensor(bowl(temperature)))
    assert found.temperature == pytest.approx(3.0, rel=0.05)
    assert type(found.adversarial_accuracy) is float


def test_grid_density_and_refinement_are_as_asked():
    assert search_log(bowl, decades=2, points_per_decade=3, refine=0).n_evaluations == 13


@pytest.mark.parametrize(
    ("shape", "centre"), [(lambda t: abs(t - 4e5) / 1e6, 4e5), (lambda t: abs(t - 0.3), 0.3)], ids=["above", "below"]
)
def test_paper_search_is_brent_where_the_bracket_holds(shape, centre):
    found = search_paper(shape)
    left, right = (1.0, 1e6) if centre > 1 else (1e-10, 1.0)
    expected = optimize.brent(shape, brack=(left, (left + right) / 2, right), maxiter=10)
    assert found.status == "ok"
    assert found.temperature == pytest.approx(expected)
    assert found.adversarial_accuracy == shape(found.temperature)
    assert [temperature for temperature, _ in found.evaluated[:2]] == [1.0, 10.0]
    assert found.n_evaluations == len(dict(found.evaluated)) <= 5 + 10


@pytest.mark.parametrize("objective", [plateau, constant, falling, bowl])
def test_paper_search_is_refused_where_scipy_refuses(objective):
    found = search_paper(objective)
    left, right = (1.0, 1e6) if objective(10) < objective(1) else (1e-10, 1.0)
    with pytest.raises(ValueError, match="Bracketing values"):
        optimize.brent(objective, brack=(left, (left + right) / 2, right), maxiter=10)
    assert found.status == "bracket refused"
    assert found.adversarial_accuracy == min(value for _, value in found.evaluated)


def test_the_linear_bracket_loses_what_the_log_search_finds():
    # An underconfident model served at T_d = 1e6: only temperatures near 1e-6 pierce it.
    def underconfident(temperature):
        return 0.2 if 1e-7 < temperature < 1e-5 else 0.3

    assert search_paper(underconfident).adversarial_accuracy == 0.3
    assert search_log(underconfident, centre=3e-6).adversarial_accuracy == 0.2


@pytest.mark.parametrize("search", [search_log, search_paper])
def test_a_nan_objective_names_the_temperature(search):
    with pytest.raises(ValueError, match="at temperature 10 is NaN"):
        search(lambda temperature: math.nan if temperature == 10 else bowl(temperature))


def test_an_error_of_the_attack_is_not_taken_for_a_refused_bracket():
    def broken(temperature):
        if temperature == 1.0 or temperature == 10.0:
            return 0.5
        raise ValueError("the attack broke")

    with pytest.raises(ValueError, match="the attack broke"):
        search_paper(broken)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="centre must be finite and above 0"):
        search_log(bowl, centre=0.0)
    with pytest.raises(ValueError, match="points_per_decade >= 1"):
        search_log(bowl, points_per_decade=0)
    with pytest.raises(ValueError, match="ask for fewer decades"):
        search_log(bowl, decades=400)
    with pytest.raises(ValueError, match="0 < low < 1 < high"):
        search_paper(bowl, low=0.0)
    with pytest.raises(ValueError, match="returned 2 values for 9 temperatures"):
        search_log(bowl, objective_many=lambda temperatures: [0.1, 0.2])
