"""Uncertainty of the accuracies we report: one proportion, a paired difference, a mean over seeds.

Closed forms only, so that a number and its interval are the same on every run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor


@dataclass(frozen=True)
class PairedDifference:
    """Two accuracies measured on the same examples; all but `n*` are fractions.

    Attributes:
        difference: accuracy of b minus accuracy of a.
        low, high: confidence interval of the difference.
        p_value: exact McNemar test of "no difference", two-sided; 1.0 where no example differs.
        n: examples.
        n_only_a, n_only_b: examples that only a, only b got right; the others say nothing on the difference.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    n_only_a: int
    n_only_b: int


def proportion_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval (low, high) of a proportion, as fractions.

    Holds its level where an adversarial accuracy is 0 or 1, where the textbook interval has width 0.
    Wilson, J. Am. Stat. Assoc. 22 (1927).

    Raises:
        ValueError: n is 0, successes lie outside [0, n], or level outside (0, 1).
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes must lie in [0, n] with n >= 1, got {successes} of {n}")
    _check_level(level)
    interval = stats.binomtest(int(successes), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference(
    correct_a: Tensor | np.ndarray | Sequence[bool],
    correct_b: Tensor | np.ndarray | Sequence[bool],
    level: float = 0.95,
) -> PairedDifference:
    """Compare two conditions on the same examples, b minus a.

    Interval: Bonett and Price, J. Educ. Behav. Stat. 37 (2012), a Wald interval after adding one example to
    each of the two kinds that differ; it holds its level for few differing examples. Test: McNemar's in its
    exact (binomial) form. Unpaired intervals would be far too wide: most examples are the same in both.

    Args:
        correct_a: (n,) bool, one for each example: classified correctly under condition a.
        correct_b: (n,) bool, the same examples in the same order under condition b.
        level: of the interval.

    Raises:
        TypeError: values are not bool (0/1 integers are refused: they could be predicted labels).
        ValueError: shapes differ, are not (n,), or n is 0.
    """
    _check_level(level)
    a, b = _flags(correct_a, "correct_a"), _flags(correct_b, "correct_b")
    if a.shape != b.shape:
        raise ValueError(f"correct_a and correct_b must hold the same examples, got {len(a)} and {len(b)}")
    n, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    share_a, share_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    centre = share_b - share_a
    reach = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt((share_a + share_b - centre**2) / (n + 2))
    differing = only_a + only_b
    return PairedDifference(
        difference=(only_b - only_a) / n,
        low=max(-1.0, centre - reach),
        high=min(1.0, centre + reach),
        p_value=float(stats.binomtest(only_b, differing).pvalue) if differing else 1.0,
        n=n,
        n_only_a=only_a,
        n_only_b=only_b,
    )


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) of values from independent seeds, by Student's t.

    With a single value low and high are NaN: one seed says nothing about the spread over seeds.

    Raises:
        ValueError: no values, or one of them is not finite.
    """
    _check_level(level)
    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or not data.size or not np.isfinite(data).all():
        raise ValueError(f"values must be one or more finite numbers, got {list(values)}")
    mean = float(data.mean())
    if data.size == 1:
        return mean, math.nan, math.nan
    reach = float(stats.t.ppf((1 + level) / 2, data.size - 1)) * float(data.std(ddof=1)) / math.sqrt(data.size)
    return mean, mean - reach, mean + reach


def _flags(values: Tensor | np.ndarray | Sequence[bool], name: str) -> np.ndarray:
    flags = values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if flags.ndim != 1 or not flags.size:
        raise ValueError(f"{name} must have shape (n,) with n >= 1, got {flags.shape}")
    if flags.dtype != bool:
        raise TypeError(f"{name} must be bool, one for each example, got {flags.dtype}: compare with the labels first")
    return flags


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95, got {level}")


def mean_of(values: np.ndarray) -> dict[str, float]:
    """Mean of (n,) measurements with its 95 % interval (normal), as columns of a record."""
    mean, reach = float(values.mean()), 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "n": len(values)}
