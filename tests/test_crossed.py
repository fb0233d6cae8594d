"""Intervals over seeds and shared examples hold their level where Student's t over seeds does not."""

import math

import numpy as np
import pytest
from scipy import stats

from robustlib.attacks.crossed import crossed_mean
from robustlib.attacks.statistics import paired_difference


def worlds(n_seeds, n_examples, seed_sd, example_sd, repetitions, *, seed=0):
    """Tables of 0/1 outcomes with crossed random effects, and their true mean."""
    draw = np.random.default_rng(seed)
    truth = stats.norm.cdf(0.1 / math.sqrt(1 + seed_sd**2 + example_sd**2))
    for _ in range(repetitions):
        effects = draw.normal(0, seed_sd, (n_seeds, 1)) + draw.normal(0, example_sd, (1, n_examples))
        yield (0.1 + effects + draw.normal(size=(n_seeds, n_examples)) > 0).astype(float), truth


@pytest.mark.parametrize("n_seeds", [3, 5])
@pytest.mark.parametrize(("seed_sd", "example_sd"), [(0, 0), (0, 2), (0.1, 2), (0.3, 1), (0.3, 0)])
def test_nineteen_of_twenty_intervals_hold_the_truth(n_seeds, seed_sd, example_sd):
    hits = [
        result.low <= truth <= result.high
        for table, truth in worlds(n_seeds, 150, seed_sd, example_sd, 600)
        for result in [crossed_mean(table, extremes=(0, 1))]
    ]
    assert 0.90 < np.mean(hits) < 0.995


def test_students_t_over_seeds_forgets_that_they_share_the_examples():
    hits = []
    for table, truth in worlds(5, 150, 0, 2, 400):
        means = table.mean(axis=1)
        reach = stats.t.ppf(0.975, 4) * means.std(ddof=1) / math.sqrt(5)
        hits.append(abs(means.mean() - truth) <= reach)
    assert np.mean(hits) < 0.75


def test_the_standard_error_is_the_spread_of_the_mean():
    results = [(crossed_mean(table), table.mean()) for table, _ in worlds(4, 200, 0.3, 1, 800)]
    expected = np.std([mean for _, mean in results])
    assert np.sqrt(np.mean([result.standard_error**2 for result, _ in results])) == pytest.approx(expected, rel=0.12)


def test_one_seed_is_the_paired_interval_over_examples():
    draw = np.random.default_rng(1)
    before = draw.random(200) < 0.6
    after = before ^ (draw.random(200) < 0.1)
    paired = paired_difference(before, after)
    crossed = crossed_mean((after.astype(int) - before)[None], extremes=(-1, 1))
    assert crossed.mean == pytest.approx(paired.difference)
    assert [crossed.low, crossed.high] == pytest.approx([paired.low, paired.high], abs=1e-3)


def test_no_variation_is_no_certainty():
    result = crossed_mean(np.zeros((3, 100)), extremes=(-1, 1))
    assert result.low < -0.01 and result.high > 0.01 and result.smallest > 0.02


def test_the_smallest_difference_is_found_four_times_in_five():
    smallest = np.mean([crossed_mean(table).smallest for table, _ in worlds(5, 200, 0, 0, 50)])
    draw = np.random.default_rng(2)
    tables = (draw.random((400, 5, 200)) < 0.5 + smallest).astype(float) - 0.5
    assert np.mean([crossed_mean(table).low > 0 for table in tables]) == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("values", [np.zeros(5), np.zeros((2, 1)), np.full((2, 3), np.nan)])
def test_what_is_no_table_is_refused(values):
    with pytest.raises(ValueError, match="n_seeds"):
        crossed_mean(values)
