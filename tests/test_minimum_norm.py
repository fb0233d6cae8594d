"""The shortest point of a convex hull, against closed forms and the condition of optimality."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustlib.training.minimum_norm import minimum_norm_weights


def weights_of(vectors):
    vectors = torch.as_tensor(vectors, dtype=torch.float64)
    return minimum_norm_weights(vectors @ vectors.T).numpy()


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        ([[1.0, 0], [0, 1]], [0.5, 0.5]),
        ([[2.0, 0], [0, 1]], [0.2, 0.8]),  # distance of the origin from the line through both
        ([[1.0, 0], [3, 0.1]], [1.0, 0.0]),  # the first is nearest: a corner
        ([[1.0, 0], [-1, 0], [0, 5]], [0.5, 0.5, 0.0]),  # the origin lies on an edge
        ([[3.0]], [1.0]),
    ],
)
def test_known_answers(vectors, expected):
    assert weights_of(vectors) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 10_000), st.sampled_from([1e-6, 1.0, 1e6]))
def test_every_corner_lies_beyond_the_plane_through_the_point(corners, dimension, seed, scale):
    vectors = scale * np.random.default_rng(seed).normal(0.3, 1, (corners, dimension))
    weights = weights_of(vectors)
    assert (weights >= 0).all() and weights.sum() == pytest.approx(1)
    point = weights @ vectors
    # Which is what makes it the shortest, of all faces.
    assert (vectors @ point >= point @ point - 1e-4 * scale**2).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_and_zero_vectors_give_weights_all_the_same(dtype):
    for gram in (torch.ones(3, 3, dtype=dtype), torch.zeros(3, 3, dtype=dtype)):
        weights = minimum_norm_weights(gram)
        assert weights.dtype == dtype and weights.sum() == pytest.approx(1) and (weights >= 0).all()
