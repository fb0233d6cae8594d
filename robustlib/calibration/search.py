"""`opt`, the adversary who picks the temperature at which an attack does most damage (equations 9, 10; notebooks/04).

The objective is Q(T): the adversarial accuracy (a fraction) after attacking logits / T. It is a step
function of T, often flat over decades, and each value costs a whole attack.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from scipy import optimize

from robustlib.calibration.checks import check_temperature

Objective = Callable[[float], float]

# The paper's: Q(1) and Q(10) decide the side, the range reaches to 1e6, ten iterations of Brent's method. 1e-10 stands
# for 0, which would divide by zero.
PAPER_FACTOR, PAPER_LOW, PAPER_HIGH, PAPER_ITERATIONS = 10.0, 1e-10, 1e6, 10
DECADES, REFINEMENTS = 4, 8  # `search_log`: decades on each side of the centre, evaluations after the grid


@dataclass(frozen=True)
class TemperatureSearch:
    """The temperature that a search chose, and everything it evaluated.

    Attributes:
        adversarial_accuracy: the objective there, a fraction (the lower, the stronger the adversary).
        status: "ok": the search ran as meant.
            "bracket refused" (paper): SciPy would not start; `temperature` is the best of the few values seen.
            "edge" (log): the lowest value touches the end of the range, a wider range may hold a lower one.
            "plateau" (log): several grid points share the lowest value, `temperature` is in the middle of them.
            "flat" (log): the objective is the same everywhere, `temperature` is the middle of the range.
        evaluated: (temperature, adversarial accuracy) pairs in the order of evaluation, none twice.
    """

    temperature: float
    adversarial_accuracy: float
    status: str
    evaluated: tuple[tuple[float, float], ...]


def search_paper(objective: Objective) -> TemperatureSearch:
    """The paper's search: a bracket on a linear scale, then Brent's method (appendix G.1).

    Q(1) and Q(10) decide the side: [1, 1e6] where Q falls, else [1e-10, 1]. SciPy's `brent` then starts from (left,
    (left + right) / 2, right). It demands that Q in the middle lie strictly below both ends, which an accuracy that
    is flat over decades seldom does. Where the authors' call would have raised, the best value seen is returned
    with status "bracket refused"; else the temperature that `brent` returns, even if a better one was seen.
    """
    remembered = _Remembered(objective)
    at_start = remembered(1.0)
    left, right = (1.0, PAPER_HIGH) if remembered(PAPER_FACTOR) < at_start else (PAPER_LOW, 1.0)
    middle = (left + right) / 2
    # SciPy's own condition, asked first so that a ValueError from the objective is not mistaken for a refusal.
    if not (remembered(middle) < remembered(left) and remembered(middle) < remembered(right)):
        return remembered.result(min(remembered.values, key=remembered.values.get), "bracket refused")
    best = optimize.brent(remembered, brack=(left, middle, right), maxiter=PAPER_ITERATIONS)
    return remembered.result(float(best), "ok")


def search_log(objective: Objective, centre: float = 1.0) -> TemperatureSearch:
    """Search on log10 T: one grid point a decade, then a bounded search around the lowest (equation 10).

    A single lowest point is refined between its neighbours, and left only for a strictly lower value; of several
    (the longest run counts) the middle is taken, and the points halfway between them are tried. A flat objective,
    or one that is 0 already, is not searched further.

    Args:
        objective: T -> adversarial accuracy; a ValueError names the T at which it is NaN.
        centre: middle of the grid, such as `typical_gap(logits)`, where confidence is middling.
    """
    check_temperature(centre, "centre")
    remembered = _Remembered(objective)
    exponents = math.log10(centre) + np.linspace(-DECADES, DECADES, 2 * DECADES + 1)
    temperatures = [float(10.0**exponent) for exponent in exponents]
    values = [remembered(temperature) for temperature in temperatures]
    first, last = _lowest_run(values)
    middle = (first + last) // 2
    at_low, at_high = first == 0, last == len(values) - 1
    if at_low and at_high:
        return remembered.result(temperatures[middle], "flat")
    best, lowest = temperatures[middle], values[middle]
    if lowest > 0:
        _refine(remembered, exponents[max(0, first - 1) : last + 2], is_plateau=first < last)
        refined = min(remembered.values, key=remembered.values.get)
        best = refined if remembered(refined) < lowest else best
        if at_low or at_high:
            return remembered.result(best, "edge")
    return remembered.result(best, "ok" if first == last else "plateau")


def _refine(objective: Objective, exponents: np.ndarray, *, is_plateau: bool) -> None:
    if is_plateau:
        # No slope to follow: SciPy's search would walk to one end. Look halfway between the grid points instead.
        halfway = (exponents[:-1] + exponents[1:]) / 2
        for exponent in sorted(halfway, key=lambda x: abs(x - exponents.mean()))[:REFINEMENTS]:
            objective(float(10.0**exponent))
        return
    optimize.minimize_scalar(
        lambda exponent: objective(float(10.0**exponent)),
        bounds=(exponents[0], exponents[-1]),
        method="bounded",
        options={"maxiter": REFINEMENTS, "xatol": 1e-3},
    )


def _lowest_run(values: list[float]) -> tuple[int, int]:
    """First and last index of the longest run of neighbours that share the lowest value."""
    lowest = min(values)
    runs = [list(run) for is_lowest, run in groupby(range(len(values)), lambda i: values[i] == lowest) if is_lowest]
    longest = max(runs, key=len)
    return longest[0], longest[-1]


class _Remembered:
    """An objective that is asked once for each temperature; `values` keeps the order of asking."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.values: dict[float, float] = {}

    def __call__(self, temperature: float) -> float:
        temperature = float(temperature)
        if temperature not in self.values:
            # float(): SciPy's Brent never ends on float32 tensors.
            value = float(self.objective(temperature))
            if math.isnan(value):
                raise ValueError(f"the adversarial accuracy at temperature {temperature:g} is NaN: check the attack")
            self.values[temperature] = value
        return self.values[temperature]

    def result(self, temperature: float, status: str) -> TemperatureSearch:
        return TemperatureSearch(temperature, self(temperature), status, tuple(self.values.items()))
