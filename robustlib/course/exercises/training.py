"""Checks of the exercises in notebooks 08, 09 and 13; each says what a wrong answer got wrong."""

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


@exercise("9.2", solutions.split)
def split_gain(answer: Callable[[dict[str, float], dict[str, float]], tuple[float, float]]) -> None:
    """Exercise 9.2: a gain as served, split into what is hidden and what log-odds still find."""
    for hot, cold, hidden, real, why in (
        ((90.0, 30.0), (50.0, 20.0), 30.0, 10.0, "both models hide something"),
        ((40.0, 40.0), (20.0, 20.0), 0.0, 20.0, "nothing is hidden on either side"),
        ((60.0, 10.0), (20.0, 15.0), 45.0, -5.0, "more is hidden than gained: robustness was lost, no clipping at 0"),
    ):
        keys = ("served", "log-odds")
        given = dict(zip(keys, hot, strict=True)), dict(zip(keys, cold, strict=True))
        result = answered(answer(*given))
        expect(
            isinstance(result, (tuple, list)) and len(result) == 2, f"return two numbers, hidden and real, got {result}"
        )
        told = tuple(float(part) for part in result)
        right = hidden, real
        expect(told == right or told != (real, hidden), "these are the two parts in the other order: hidden, then real")
        expect(
            told[1] == real or told[1] != hot[1] - cold[0],
            "the cold model must be attacked by the same adversary: log-odds against log-odds",
        )
        expect(
            told[0] == hidden or told[0] != hot[0] - hot[1],
            "the cold model hides something, too: hidden is how much *more* the hot one hides",
        )
        expect(
            all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(told, right, strict=True)),
            f"hot {given[0]}, cold {given[1]}: {why}. Expected {right}, got {told}",
        )


@exercise("13.1", solutions.distance)
def linear_distance(answer: Callable[[Tensor, Tensor, float], float]) -> None:
    """Exercise 13.1: Linf distance to the boundary of a linear model with weights w and margin w @ x + b."""
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


@exercise("13.2", solutions.dominated)
def dominated_model(answer: Callable[[tuple[float, float], list[tuple[float, float]]], bool]) -> None:
    """Exercise 13.2: whether another model has the higher clean and the higher adversarial accuracy."""
    model = (80.0, 20.0)
    for others, expected, why in (
        ([(81.0, 21.0)], True, "a single other model that is higher on both is enough"),
        ([(85.0, 10.0), (70.0, 30.0)], False, "each is better at one thing only, and none at both"),
        ([(70.0, 10.0), (90.0, 40.0)], True, "one of the others is enough; they need not all be better"),
        ([(99.0, 19.0)], False, "a sum hides what was lost: it is less robust, however accurate"),
        ([(80.0, 30.0)], False, "as accurate is not more accurate"),
        ([], False, "nobody is there to dominate it"),
    ):
        result = answered(answer(model, others))
        expect(bool(result) == expected, f"{model} among {others}: {why}. Expected {expected}, got {result}")
