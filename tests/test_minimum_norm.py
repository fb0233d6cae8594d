"""The shortest point of a convex hull, against closed forms, faces by hand, and the condition of optimality."""

from itertools import combinations

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


def shortest_by_faces(vectors):
    """Shortest point of every face by least squares, of those whose weights are inside; written independently."""
    best = np.inf
    for size in range(1, len(vectors) + 1):
        for rows in combinations(range(len(vectors)), size):
            corner, others = vectors[rows[0]], vectors[list(rows[1:])] - vectors[rows[0]]
            share = np.linalg.lstsq(others.T, -corner, rcond=None)[0] if size > 1 else np.zeros(0)
            if (share >= -1e-9).all() and share.sum() <= 1 + 1e-9:
                best = min(best, np.linalg.norm(corner + share @ others))
    return best


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 10_000), st.sampled_from([1e-6, 1.0, 1e6]))
def test_equals_the_shortest_of_all_faces_and_the_optimality_condition(corners, dimension, seed, scale):
    vectors = scale * np.random.default_rng(seed).normal(0.3, 1, (corners, dimension))
    weights = weights_of(vectors)
    assert (weights >= 0).all() and weights.sum() == pytest.approx(1)
    point = weights @ vectors
    assert np.linalg.norm(point) == pytest.approx(shortest_by_faces(vectors), rel=1e-4, abs=2e-5 * scale)
    # Every corner lies beyond the plane through the point, which is what makes it the shortest.
    assert (vectors @ point >= point @ point - 1e-4 * scale**2).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_and_zero_vectors_give_weights_all_the_same_and_other_shapes_are_refused(dtype):
    for gram in (torch.ones(3, 3, dtype=dtype), torch.zeros(3, 3, dtype=dtype)):
        weights = minimum_norm_weights(gram)
        assert weights.dtype == dtype and weights.sum() == pytest.approx(1) and (weights >= 0).all()
    for shape in ((2, 3), (9, 9), (4,), (0, 0)):
        with pytest.raises(ValueError, match=r"gram must be \(M, M\) with M from 1 to 8"):
            minimum_norm_weights(torch.ones(shape, dtype=dtype))
