"""The exercises of the museum, with cases worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robustlib.course.exercises import solutions
from robustlib.course.exercises.base import answered, exercise, expect, tensor

_LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0], [1.0, 4.0, 3.0]])
_LABELS = torch.tensor([0, 0, 1])


@exercise("10.2", solutions.great_score)
def great_score(answer: Callable[[Tensor, Tensor], float]) -> None:
    """Exercise 10.2: the GREAT score from logits (n, n_classes) and labels (n,)."""
    probs = _LOGITS.double().softmax(dim=1)
    gaps = [float(probs[0, 0] - probs[0, 1]), 0.0, float(probs[2, 1] - probs[2, 2])]
    expected, root = math.sqrt(math.pi / 2) * sum(gaps) / 3, math.sqrt(math.pi / 2)
    result = float(answered(answer(_LOGITS, _LABELS)))
    below = sum([gaps[0], float(probs[1, 0] - probs[1, 1]), gaps[2]]) / 3
    expect(not math.isclose(result, root * below, rel_tol=1e-4), "a wrong prediction scores 0, not less: take the max")
    expect(not math.isclose(result, sum(gaps) / 3, rel_tol=1e-4), "the factor, the root of pi / 2, is missing")
    expect(not math.isclose(result, root * sum(gaps), rel_tol=1e-4), "it is a mean over examples, not a sum")
    expect(
        math.isclose(result, expected, rel_tol=1e-4),
        f"for these three examples expected {expected:.4f}, got {result:.4f}",
    )
    wrong = float(answered(answer(_LOGITS[1:2], _LABELS[1:2])))
    expect(abs(wrong) < 1e-9, f"one example that is wrong: the score is 0, got {wrong:.4f}")


@exercise("10.1", solutions.ratio)
def ratio(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 10.1: a score that no scale of any query touches, from logits (n, n_classes) and labels (n,)."""
    expected = torch.tensor([-2 / 3, 1 / 1.5, -1 / 3])
    result = tensor(answer(_LOGITS, _LABELS), 3).double()
    scales = torch.tensor([[0.5], [10.0], [3.0]])
    scaled = tensor(answer(scales * _LOGITS, _LABELS), 3).double()
    expect(
        torch.allclose(result, scaled, rtol=1e-4),
        f"three queries with the factors 0.5, 10 and 3 give {scaled.tolist()} instead of {result.tolist()}: divide by "
        "a difference of logits, which has the same factor",
    )
    expect(not torch.allclose(result, -expected.double(), rtol=1e-4), "the sign is flipped: higher is nearer to fooled")
    expect(
        not torch.allclose(result.abs(), torch.ones(3).double(), rtol=1e-4),
        "it is 1 or -1 for every example: the distance to the second logit is the margin again. Divide by the distance "
        "from the largest to the third largest",
    )
    expect(
        bool((result[[0, 2]] < 0).all() and result[1] > 0),
        f"it is below 0 where the model is right and above 0 where it is wrong, got {result.tolist()}",
    )
    expect(
        torch.allclose(result, expected.double(), rtol=1e-4),
        f"margin over the distance from the largest to the third largest logit: expected {expected.tolist()}, got "
        f"{result.tolist()}",
    )
