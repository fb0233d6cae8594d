"""The exercises on the black-box adversary, with cases worked by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustlib.course.exercises import solutions
from robustlib.course.exercises.base import answered, exercise, expect, tensor


@exercise("12.1", solutions.log_ratio)
def log_ratio(answer: Callable[[Tensor], Tensor]) -> None:
    """Exercise 12.1: the gap of the two largest logits over T, from probabilities (n, n_classes) alone."""
    logits = torch.tensor([[3.0, 1.0, -4.0], [0.0, 0.5, 0.25]])
    for temperature in (1.0, 0.1, 20.0):
        gaps = torch.tensor([2.0, 0.25]) / temperature
        result = tensor(answer((logits / temperature).softmax(dim=1)), 2).float()
        probs = (logits / temperature).softmax(dim=1).topk(2, dim=1).values
        expect(
            not torch.allclose(result, probs[:, 0] - probs[:, 1], rtol=1e-3),
            "a difference of probabilities is not a difference of logits: take logarithms first",
        )
        expect(not torch.allclose(result, -gaps, rtol=1e-3), "the sign is flipped: the largest minus the second")
        expect(
            torch.allclose(result, gaps, rtol=1e-3),
            f"at T = {temperature:g} the two gaps over T are {gaps.tolist()}, got {result.tolist()}",
        )


@exercise("12.2", solutions.boundary)
def boundary(answer: Callable[[Callable[[float], int]], float]) -> None:
    """Exercise 12.2: where on a line the predicted class changes, from labels alone and with few queries."""
    for at in (0.3, 0.8125, 0.0721):
        asked = []

        def label(share: float, at: float = at, asked: list[float] = asked) -> int:
            asked.append(share)
            return int(share > at)

        result = float(answered(answer(label)))
        expect(abs(result - at) < 1e-4, f"the class changes at {at}, got {result:.5f}: within 0.0001, please")
        expect(
            len(asked) <= 40,
            f"{len(asked)} queries: halve the part of the line on which the class changes, instead of walking along it",
        )
