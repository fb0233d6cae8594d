import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robustlib.attacks.crossed import crossed_mean
from robustlib.attacks.statistics import in_words, mean_interval, paired_difference, proportion_interval

Z = 1.959963984540054


def flags(both, only_a, only_b, neither):
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return torch.tensor(a), torch.tensor(b)


def test_wilson_interval_against_published_values():
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    assert proportion_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert proportion_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert proportion_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert proportion_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_paired_difference_by_hand():
    result = paired_difference(*flags(both=43, only_a=1, only_b=9, neither=47))
    assert (result.n, result.n_only_a, result.n_only_b) == (100, 1, 9)
    assert result.difference == pytest.approx(0.08)
    # Bonett-Price: shares 2/102 and 10/102.
    centre, reach = 8 / 102, Z * math.sqrt((12 / 102 - (8 / 102) ** 2) / 102)
    assert (result.low, result.high) == pytest.approx((centre - reach, centre + reach))
    # Exact McNemar: two-sided tail of Binomial(10, 1/2) at 1: 2 * (1 + 10) / 1024.
    assert result.p_value == pytest.approx(22 / 1024)
    same = paired_difference(*flags(60, 0, 0, 40))
    assert (same.difference, same.p_value) == (0.0, 1.0)
    assert same.low == pytest.approx(-same.high) and same.high > 0


@given(st.tuples(*[st.integers(0, 30)] * 4).filter(lambda cells: sum(cells) > 0))
def test_paired_difference_is_antisymmetric_and_bounded(cells):
    a, b = flags(*cells)
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there.difference == pytest.approx(float(b.double().mean() - a.double().mean()))
    assert (back.difference, back.low, back.high) == pytest.approx((-there.difference, -there.high, -there.low))
    assert back.p_value == pytest.approx(there.p_value)
    assert -1 <= there.low <= there.high <= 1


def test_paired_interval_covers_the_truth_about_as_often_as_it_says():
    # n = 100, 2 % only a, 8 % only b: few differing examples, where plain Wald intervals fall short.
    rng = np.random.default_rng(0)
    counts = rng.multinomial(100, [0.02, 0.08, 0.5, 0.4], size=1000)
    results = [paired_difference(*flags(both, a, b, neither)) for a, b, both, neither in counts]
    coverage = np.mean([result.low <= 0.06 <= result.high for result in results])
    assert 0.93 <= coverage <= 0.98


def test_mean_interval_by_hand():
    # Three seeds: t(0.975, 2 degrees of freedom) = 4.30265, standard deviation 1.
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    assert mean_interval([0.4]) == pytest.approx((0.4, math.nan, math.nan), nan_ok=True)  # one seed: no interval


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-3.0, -0.1, "lower"),
        (0.1, 0.4, "higher"),
        (-0.5, 0.9, "equal"),
        (-1.0, 1.0, "equal"),
        (-0.5, 1.1, "open"),
        (math.nan, math.nan, "open"),
    ],
)
def test_an_interval_in_words(low, high, words):
    assert in_words(low, high, tolerance=1.0) == words


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
