"""`opt`, the adversary who picks the temperature at which an attack does most damage.

The objective is Q(T): the adversarial accuracy (a fraction) after attacking logits / T. It is a step
function of T, often flat over decades, and each value costs a whole attack.
Paper: equations 9 and 10. Taught in: notebooks/04.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from robustlib.calibration.checks import check_temperature

Objective = Callable[[float], float]


@dataclass(frozen=True)
class TemperatureSearch:
    """What a search found and everything it looked at.

    Attributes:
        method: "paper" or "log".
        temperature: adversary_temperature to attack with.
        adversarial_accuracy: the objective there, a fraction (the lower, the stronger the adversary).
        status: what to know before trusting it.
            "ok": the search ran as meant.
            "bracket refused" (paper): SciPy would not start; `temperature` is the best of the few values seen.
            "edge" (log): the lowest value touches the end of the range, a wider range may find a lower one.
            "plateau" (log): several grid points share the lowest value, `temperature` is in the middle of them.
            "flat" (log): the objective is the same everywhere, `temperature` is the middle of the range.
        evaluated: (temperature, adversarial accuracy) pairs in the order of evaluation, none twice.
        n_evaluations: their number, the price of the search in attacks.
    """

    method: str
    temperature: float
    adversarial_accuracy: float
    status: str
    evaluated: tuple[tuple[float, float], ...]
    n_evaluations: int


def search_paper(
    objective: Objective, *, factor: float = 10.0, low: float = 1e-10, high: float = 1e6, max_iterations: int = 10
) -> TemperatureSearch:
    """The paper's search, step by step: a bracket on a linear scale, then Brent's method (appendix G.1).

    Q(1) and Q(factor) decide the side: [1, high] where Q falls, else [low, 1]. SciPy's `brent` then starts
    from (left, (left + right) / 2, right). It demands that Q in the middle lie strictly below both ends,
    which an accuracy that is flat over decades seldom does, and the middle of [1, 1e6] is 500000.5. Where the
    authors' call would have raised, the best value seen is returned with status "bracket refused".
    Paper: appendix G.1. Taught in: notebooks/04.

    Args:
        objective: T -> adversarial accuracy; called once for each T.
        factor: ratio of the two temperatures that decide the side.
        low: stands for 0, which would divide by zero.
        high: assumed maximum.
        max_iterations: `maxiter` of `brent`.

    Returns:
        `temperature` is what `brent` returns, even if a better one was seen on the way.

    Raises:
        ValueError: the objective is NaN somewhere (the message names T), or not 0 < low < 1 < high.
    """
    if not 0 < low < 1 < high < math.inf:
        raise ValueError(f"the range must satisfy 0 < low < 1 < high, got low={low:g}, high={high:g}")
    remembered = _Remembered(objective)
    at_start = remembered(1.0)
    left, right = (1.0, high) if remembered(factor) < at_start else (low, 1.0)
    middle = (left + right) / 2
    # SciPy's own condition, asked first so that a ValueError from the objective is not mistaken for a refusal.
    if not (remembered(middle) < remembered(left) and remembered(middle) < remembered(right)):
        return remembered.result("paper", min(remembered.values, key=remembered.values.get), "bracket refused")
    best = optimize.brent(remembered, brack=(left, middle, right), maxiter=max_iterations)
    return remembered.result("paper", float(best), "ok")


def search_log(
    objective: Objective,
    centre: float = 1.0,
    *,
    decades: float = 4.0,
    points_per_decade: int = 1,
    refine: int = 8,
    objective_many: Callable[[list[float]], Sequence[float]] | None = None,
) -> TemperatureSearch:
    """Search on log10 T: a grid, then a bounded search around its lowest point.

    Useful temperatures span decades, so the grid does too. The lowest grid point is left only for a strictly
    lower value. A single lowest point is refined by a bounded search between its neighbours; of several
    (the longest run counts) the middle is taken, and a finer grid across them looks for a dip. A flat objective,
    or one that is 0 already, is not searched further.
    The paper (appendix G.1) searches on a linear scale instead, see `search_paper`. Taught in: notebooks/04.

    Args:
        objective: T -> adversarial accuracy; never called twice for one T.
        centre: middle of the grid, such as `calibration.typical_gap(logits)`, where confidence is middling.
        decades: the grid reaches from centre / 10**decades to centre * 10**decades.
        points_per_decade: density of the grid.
        refine: further evaluations at most (SciPy makes at least 2); 0 keeps the grid point.
        objective_many: the same function for a list of temperatures, so that a batched attack (one T for each
            row, `scale_logits`) evaluates the whole grid in one go.

    Raises:
        ValueError: the objective is NaN somewhere (the message names T), or an argument makes no grid.
    """
    check_temperature(centre, "centre")
    if decades <= 0 or points_per_decade < 1 or refine < 0:
        raise ValueError(
            "search_log needs decades > 0, points_per_decade >= 1 and refine >= 0, "
            f"got {decades}, {points_per_decade}, {refine}"
        )
    remembered = _Remembered(objective)
    half = max(1, round(decades * points_per_decade))
    exponents = math.log10(centre) + np.linspace(-decades, decades, 2 * half + 1)
    if exponents[0] < -300 or exponents[-1] > 300:
        raise ValueError(
            f"the grid would reach 10**{exponents[0]:.0f} to 10**{exponents[-1]:.0f}: ask for fewer decades"
        )
    temperatures = [float(10.0**exponent) for exponent in exponents]
    if objective_many is not None:
        remembered.store(temperatures, objective_many(temperatures))
    values = [remembered(temperature) for temperature in temperatures]

    first, last = _lowest_run(values)
    middle = (first + last) // 2
    at_low, at_high = first == 0, last == len(values) - 1
    if at_low and at_high:
        status = "flat"
    elif (at_low or at_high) and values[middle] > 0:
        status = "edge"
    else:
        status = "ok" if first == last else "plateau"
    best = temperatures[middle]
    if refine and values[middle] > 0 and status != "flat":
        around = exponents[max(0, first - 1) : last + 2]
        _refine(remembered, around, refine, is_plateau=first < last)
        lowest = min(remembered.values, key=remembered.values.get)
        best = lowest if remembered(lowest) < values[middle] else best
    return remembered.result("log", best, status)


def _refine(objective: Objective, exponents: np.ndarray, evaluations: int, *, is_plateau: bool) -> None:
    """Spend evaluations between lowest grid points and their neighbours; `exponents` are their log10 T."""
    if is_plateau:
        # No slope to follow: SciPy's search would walk to one end. Look halfway between the grid points instead.
        halfway = (exponents[:-1] + exponents[1:]) / 2
        for exponent in sorted(halfway, key=lambda x: abs(x - exponents.mean()))[:evaluations]:
            objective(float(10.0**exponent))
        return
    optimize.minimize_scalar(
        lambda exponent: objective(float(10.0**exponent)),
        bounds=(exponents[0], exponents[-1]),
        method="bounded",
        options={"maxiter": evaluations, "xatol": 1e-3},
    )


def _lowest_run(values: Sequence[float]) -> tuple[int, int]:
    """First and last index of the longest run of neighbours that share the lowest value."""
    lowest, runs = min(values), []
    for index, value in enumerate(values):
        if value == lowest and index and values[index - 1] == lowest:
            runs[-1] = (runs[-1][0], index)
        elif value == lowest:
            runs.append((index, index))
    return max(runs, key=lambda run: run[1] - run[0])


class _Remembered:
    """An objective that is asked once for each temperature; `values` keeps the order of asking."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.values: dict[float, float] = {}

    def __call__(self, temperature: float) -> float:
        temperature = float(temperature)
        if temperature not in self.values:
            self.store([temperature], [self.objective(temperature)])
        return self.values[temperature]

    def store(self, temperatures: Sequence[float], values: Sequence[float]) -> None:
        if len(values) != len(temperatures):
            raise ValueError(f"objective_many returned {len(values)} values for {len(temperatures)} temperatures")
        for temperature, value in zip(temperatures, values, strict=True):
            # float(): SciPy's Brent never ends on float32 tensors.
            if math.isnan(value := float(value)):
                raise ValueError(f"the adversarial accuracy at temperature {temperature:g} is NaN: check the attack")
            self.values[temperature] = value

    def result(self, method: str, temperature: float, status: str) -> TemperatureSearch:
        return TemperatureSearch(
            method=method,
            temperature=temperature,
            adversarial_accuracy=self(temperature),
            status=status,
            evaluated=tuple(self.values.items()),
            n_evaluations=len(self.values),
        )
