"""Checks of the exercises in notebooks 08 and 09; each says what a wrong answer got wrong."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustlib.course.exercises import solutions
from robustlib.course.exercises.base import answered, exercise, expect, tensor


@exercise("8.1", solutions.rescaled)
def gradient_rules(answer: Callable[[Sequence[Tensor], str], Sequence[Tensor]]) -> None:
    """Exercise 8.1: clipping to 1 and normalisation of one gradient held in several tensors."""
    long, short = [torch.tensor([3.0]), torch.tensor([[4.0, 0.0]])], [torch.tensor([0.03]), torch.tensor([[0.04, 0.0]])]
    for name, gradients, rule, norm in (
        ("a long gradient", long, "normalise", 1.0),
        ("a long gradient", long, "clip", 1.0),
        ("a short gradient", short, "normalise", 1.0),
        ("a short gradient", short, "clip", 0.05),
    ):
        result = answered(answer([gradient.clone() for gradient in gradients], rule))
        expect(isinstance(result, (list, tuple)) and len(result) == 2, "return a list with one tensor per parameter")
        length = math.sqrt(sum(float((part**2).sum()) for part in result))
        expect(
            not math.isclose(length, math.sqrt(2), rel_tol=1e-3),
            "each tensor has length 1 now: there is one norm, over all of them together",
        )
        expect(
            math.isclose(length, norm, rel_tol=1e-4),
            f"{name} after {rule!r} should be {norm:g} long, got {length:.3g}"
            + (". Clipping never makes a gradient longer" if rule == "clip" and length > norm else ""),
        )
        same = torch.cat([part.flatten() for part in result]) * torch.cat([part.flatten() for part in gradients]).norm()
        expect(
            torch.allclose(same / length, torch.cat([part.flatten() for part in gradients]), rtol=1e-3),
            "a rule changes the length of a gradient and never its direction",
        )


@exercise("8.2", solutions.weight)
def shortest_of_two(answer: Callable[[Tensor, Tensor], float]) -> None:
    """Exercise 8.2: weight of the first of two gradients in their shortest convex combination."""
    for first, second, expected, why in (
        ([1.0, 0.0], [0.0, 1.0], 0.5, "two of one length, at right angles: half of each"),
        ([2.0, 0.0], [0.0, 1.0], 0.2, "the longer gradient gets the smaller weight, by the squares of the lengths"),
        ([1.0, 0.0], [3.0, 0.0], 1.0, "the lowest point of the parabola lies beyond the first: it is itself shortest"),
        ([3.0, 1.0], [1.0, 0.0], 0.0, "the lowest point of the parabola lies beyond the second: it is itself shortest"),
    ):
        result = answered(answer(torch.tensor(first), torch.tensor(second)))
        expect(
            math.isclose(float(result), expected, abs_tol=1e-5),
            f"for {first} and {second} the weight of the first is {expected}, got {result}: {why}",
        )


@exercise("9.1", solutions.gradient)
def tempered_gradient(answer: Callable[[Tensor, int, float], Tensor]) -> None:
    """Exercise 9.1: gradient of the cross-entropy of softmax(logits / T) with respect to the logits."""
    logits = torch.tensor([2.0, 0.5, -1.0], dtype=torch.float64)
    for temperature in (1.0, 100.0):
        at = logits.clone().requires_grad_(True)
        torch.nn.functional.cross_entropy(at[None] / temperature, torch.tensor([1])).backward()
        result = tensor(answer(logits, 1, temperature), 3)
        expect(
            temperature == 1 or not torch.allclose(result, at.grad * temperature, rtol=1e-6),
            "the chain rule gives one more factor: the logits are divided by T before the softmax",
        )
        expect(
            torch.allclose(result, at.grad, rtol=1e-6),
            f"at T = {temperature:g} expected {at.grad.tolist()}, got {result.tolist()}. The softmax is of logits / T; "
            "from the entry of the true class 1 is subtracted",
        )


@exercise("9.2", solutions.distance)
def linear_distance(answer: Callable[[Tensor, Tensor, float], float]) -> None:
    """Exercise 9.2: Linf distance to the boundary of a linear model with weights w and margin w @ x + b."""
    weights, image = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([0.5, 0.2, 0.4])
    for scale in (1.0, 100.0):
        result = answered(answer(scale * weights, image, scale * 0.3))
        margin = float(weights @ image) + 0.3
        expect(
            not math.isclose(float(result), scale * margin, rel_tol=1e-4),
            "stretching all logits moves no boundary: the distance must stay the same. Divide by the slope too",
        )
        expect(
            not math.isclose(float(result), margin / float(weights.norm()), rel_tol=1e-4),
            "that is the L2 distance. Against Linf the slope counts in its dual norm, the sum of absolute weights",
        )
        expect(
            math.isclose(float(result), margin / 3.5, rel_tol=1e-4),
            f"expected margin / sum of absolute weights = {margin / 3.5:.4f}, got {float(result):.4f}",
        )
