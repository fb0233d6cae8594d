"""Intervals where several seeds are judged on the same test examples: two samples that are crossed, not nested.

Trainings differ, and so do examples; a mean over seeds x examples carries the variance of both. Averaging the seeds'
intervals forgets the first, Student's t over the seeds' means forgets that all of them share one test set.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class CrossedMean:
    """Mean over seeds and examples with its 95 % interval, in the unit of the values."""

    mean: float
    low: float
    high: float
    standard_error: float  # of the mean, for seeds and examples not seen
    smallest: float  # smallest true mean that such a sample shows to differ from 0 in four of five repetitions


def crossed_mean(values: np.ndarray, *, extremes: tuple[float, float] | None = None) -> CrossedMean:
    """Mean of crossed measurements with an interval for new seeds and new examples alike.

    Two-way random effects without replication: value = mean + seed + example + rest. The variance of the mean is
    (MS_seed + MS_example - MS_rest) / (seeds x examples), at least that of each alone, with Satterthwaite's degrees of
    freedom (Searle, Casella and McCulloch, Variance Components, 1992, chapter 4). A seed alone has no MS_seed: the
    interval is then one over examples, for this training only.

    Args:
        values: finite (n_seeds, n_examples), n_examples >= 2 (else ValueError): 1 where a model is right, for example,
            or a difference of two such tables.
        extremes: the two ends of what one value can be, (0, 1) or (-1, 1): one example of each is added to the interval
            (not to the mean), as Bonett and Price (2012) do: a sample without variation must not claim certainty.
    """
    table = np.asarray(values, dtype=float)
    if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] < 2 or not np.isfinite(table).all():
        raise ValueError(
            f"values must be a finite (n_seeds, n_examples) table with two examples or more, got {table.shape}"
        )
    observed = float(table.mean())
    if extremes is not None:
        table = np.column_stack([table, np.tile(extremes, (len(table), 1))])
    seeds, examples = table.shape
    mean = float(table.mean())
    by_seed, by_example = table.mean(axis=1), table.mean(axis=0)
    ms_example = seeds * float(by_example.var(ddof=1))
    if seeds == 1:
        variance, degrees = ms_example / examples, examples - 1.0
    else:
        ms_seed = examples * float(by_seed.var(ddof=1))
        rest = table - by_seed[:, None] - by_example[None, :] + mean
        ms_rest = float((rest**2).sum()) / ((seeds - 1) * (examples - 1))
        total = max(ms_seed + ms_example - ms_rest, ms_seed, ms_example)
        variance = total / (seeds * examples)
        spread = ms_seed**2 / (seeds - 1) + ms_example**2 / (examples - 1) + ms_rest**2 / ((seeds - 1) * (examples - 1))
        degrees = total**2 / spread if spread else float(examples - 1)
    error = math.sqrt(variance)
    quantile = float(stats.t.ppf(0.975, degrees))
    smallest = (quantile + float(stats.t.ppf(0.8, degrees))) * error
    reach = quantile * error
    low, high = (mean - reach, mean + reach) if extremes is None else np.clip([mean - reach, mean + reach], *extremes)
    return CrossedMean(observed, float(low), float(high), error, smallest)
