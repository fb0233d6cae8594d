"""Uncertainty of the accuracies we report, in closed form: one proportion, a paired difference, a mean over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats
from torch import Tensor

from robustlib.calibration.checks import check_correct

LEVEL = 0.95  # of every interval


@dataclass(frozen=True)
class PairedDifference:
    """Two accuracies measured on the same examples; all but `n*` are fractions."""

    difference: float  # accuracy of b minus accuracy of a
    # confidence interval of the difference
    low: float
    high: float
    p_value: float  # exact McNemar test of "no difference", two-sided; 1.0 where no example differs
    # all examples; those that only a, only b got right
    n: int
    n_only_a: int
    n_only_b: int
    # (n,) int8, b minus a for each example: -1, 0 or 1
    outcomes: np.ndarray | None = field(default=None, repr=False, compare=False)


def proportion_interval(successes: int, n: int) -> tuple[float, float]:
    """Wilson score interval (low, high) of a proportion, as fractions (J. Am. Stat. Assoc. 22, 1927).

    Holds its level where an adversarial accuracy is 0 or 1, where the textbook interval has width 0. ValueError: n is
    0, or successes lie outside [0, n].
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes must lie in [0, n] with n >= 1, got {successes} of {n}")
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(confidence_level=LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference(
    correct_a: Tensor | np.ndarray | Sequence[bool], correct_b: Tensor | np.ndarray | Sequence[bool]
) -> PairedDifference:
    """Compare two conditions on the same examples, b minus a; (n,) bool, whether each is classified correctly.

    Interval: Bonett and Price, J. Educ. Behav. Stat. 37 (2012), a Wald interval after adding one example to
    each of the two kinds that differ; it holds its level for few differing examples. Test: McNemar's, exact.
    Raises as `check_correct`, or ValueError for another shape.
    """
    a, b = check_correct(correct_a, "correct_a"), check_correct(correct_b, "correct_b")
    if a.shape != b.shape:
        raise ValueError(f"correct_a and correct_b must hold the same examples, got {len(a)} and {len(b)}")
    n, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    share_a, share_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    centre = share_b - share_a
    reach = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt((share_a + share_b - centre**2) / (n + 2))
    differing = only_a + only_b
    p_value = float(stats.binomtest(only_b, differing).pvalue) if differing else 1.0
    low, high = max(-1.0, centre - reach), min(1.0, centre + reach)
    return PairedDifference((only_b - only_a) / n, low, high, p_value, n, only_a, only_b, b.astype(np.int8) - a)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high) of finite values from independent seeds, by Student's t; of one value low and high are NaN."""
    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or not data.size or not np.isfinite(data).all():
        raise ValueError(f"values must be one or more finite numbers, got {list(values)}")
    mean = float(data.mean())
    if data.size == 1:
        return mean, math.nan, math.nan
    reach = float(stats.t.ppf((1 + LEVEL) / 2, data.size - 1)) * float(data.std(ddof=1)) / math.sqrt(data.size)
    return mean, mean - reach, mean + reach


def mean_of(values: np.ndarray) -> dict[str, float]:
    """Mean of (n,) measurements with its 95 % interval (normal), as columns of a record."""
    mean, reach = float(values.mean()), 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "n": len(values)}


def in_words(low: float, high: float, tolerance: float) -> str:
    """What the interval [low, high] of a difference says: "lower", "higher", "equal" or "open".

    Lower or higher where it excludes 0, equal where it lies within the tolerance on both sides of 0, else open.
    """
    if high < 0 or low > 0:
        return "lower" if high < 0 else "higher"
    return "equal" if -tolerance <= low and high <= tolerance else "open"
