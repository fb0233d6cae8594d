"""Checks of the text exercises. Each holds cases worked by hand and says what a wrong answer got wrong."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from robustlib.course.exercises import solutions
from robustlib.course.exercises.base import answered, exercise, expect, tensor


@exercise("5.1", solutions.importance_order)
def importance_order(answer: Callable[[Sequence[float], float], Sequence[int]]) -> None:
    """Exercise 5.1: word positions, most important first, ties in reading order."""
    result = [int(position) for position in answered(answer([0.10, 0.40, 0.05, 0.30], 0.10))]
    expect(sorted(result) == [0, 1, 2, 3], f"return every word position once, got {result}")
    expect(result != [2, 0, 3, 1], "most important first: the score rises most without that word")
    expect(
        result != [1, 3, 2, 0],
        "word 2 *lowers* the score when it goes (0.05 against 0.10): it is the least important, so do not take the "
        "absolute value",
    )
    expect(result == [1, 3, 0, 2], f"the scores rise by 0, 0.3, -0.05 and 0.2: expected [1, 3, 0, 2], got {result}")
    tied = [int(position) for position in answered(answer([0.0, 0.0, 0.5, 0.0], 0.0))]
    expect(tied == [2, 0, 1, 3], f"equally important words stay in reading order: expected [2, 0, 1, 3], got {tied}")


@exercise("5.2", solutions.log_odds)
def log_odds(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 5.2: log-odds of the true class from two logits."""
    logits, labels = torch.tensor([[2.0, -1.0], [0.5, 1.5], [3.0, 1.0]]), torch.tensor([0, 0, 1])
    result = tensor(answer(logits, labels), 3)
    expected = torch.tensor([3.0, -1.0, -2.0])
    expect(
        not torch.allclose(result, -expected), "the sign is flipped: the log-odds are large where the model is right"
    )
    expect(torch.allclose(result, expected), f"expected {expected.tolist()}, got {result.tolist()}")
    extreme = answered(answer(logits / 1e-4, labels))
    expect(
        torch.isfinite(extreme).all(),
        "at T = 1e-4 your log-odds are infinite or NaN: p is exactly 0 or 1 there, so do not go through p",
    )
    expect(torch.allclose(extreme, expected / 1e-4), "dividing the logits by T divides the log-odds by T, no more")


@exercise("6.1", solutions.verdict)
def verdict(answer: Callable[[float, float, float], str]) -> None:
    """Exercise 6.1: what a 95 % interval of a difference allows one to say."""
    cases = (
        ((-9.0, -1.0, 5.0), "lower", "the whole interval lies below 0: lower, however slightly"),
        ((-3.0, 4.0, 5.0), "equal", "the interval holds 0 and stays within 5 points on both sides"),
        ((-8.0, 2.0, 5.0), "open", "the interval holds 0 and reaches beyond 5 points: nothing is decided"),
        ((-2.0, 30.0, 5.0), "open", "it reaches beyond 5 points on the upper side: nothing is decided"),
        ((1.0, 9.0, 5.0), "higher", "the whole interval lies above 0: higher"),
        ((1.0, 3.0, 5.0), "higher", "it lies above 0 and within 5 points: ask for the sign first, then for equality"),
        ((-4.0, -2.0, 5.0), "lower", "it lies below 0 and within 5 points: ask for the sign first, then for equality"),
    )
    for arguments, expected, why in cases:
        result = answered(answer(*arguments))
        expect(result == expected, f"verdict{arguments}: {why}: expected {expected!r}, got {result!r}")


@exercise("6.2", solutions.bfloat16_step)
def bfloat16_step(answer: Callable[[float], float]) -> None:
    """Exercise 6.2: distance from a number to the next larger one in bfloat16."""
    for value in (1.0, 1.5, 2.0, 5.0, 100.0, 0.3):
        exponent = math.floor(math.log2(value))
        result = answered(answer(value))
        expect(
            not math.isclose(result, 2.0**-7) or exponent == 0,
            f"2**-7 is the step between 1 and 2 only: between {2.0**exponent:g} and {2.0 ** (exponent + 1):g} it is "
            f"{2.0**exponent:g} times that",
        )
        expect(
            not math.isclose(result, 2.0 ** (exponent - 8)),
            "bfloat16 stores 7 bits after the leading one, so 2**7 steps between two powers of two",
        )
        expect(
            math.isclose(result, 2.0 ** (exponent - 7)),
            f"{value:g} lies between {2.0**exponent:g} and {2.0 ** (exponent + 1):g}, which 2**7 steps share: expected "
            f"{2.0 ** (exponent - 7):g}, got {result}",
        )


@exercise("7.1", solutions.constant_accuracy)
def constant_accuracy(answer: Callable[[Tensor], float]) -> None:
    """Exercise 7.1: accuracy of the best classifier that always gives the same answer."""
    for labels, expected in (([0, 0, 0, 1], 0.75), ([2, 1, 2, 0, 2], 0.6)):
        result = answered(answer(torch.tensor(labels)))
        classes = len(set(labels))
        expect(
            not math.isclose(float(result), 1 / classes),
            f"labels {labels}: 1/{classes} is what guessing each class equally often gives; always answering with the "
            "most common class does better",
        )
        expect(float(result) <= 1, f"{result} is a count: an accuracy is a share of all labels")
        expect(math.isclose(float(result), expected, rel_tol=1e-6), f"{labels}: expected {expected}, got {result}")


@exercise("7.2", solutions.hidden_share)
def hidden_share(answer: Callable[[np.ndarray, np.ndarray, np.ndarray], float]) -> None:
    """Exercise 7.2: of the sentences the strong adversary broke, the share that withstands the naive one."""
    clean = np.array([True, True, True, True, True, False])
    strong = np.array([True, False, False, False, False, False])
    naive = np.array([False, True, True, True, False, False])
    result = answered(answer(clean, naive, strong))
    expect(
        not math.isclose(result, 3 / 5),
        "3/5 counts the sentence that was wrong before any attack below the line: nothing was there to break",
    )
    expect(not math.isclose(result, 2 / 4), "what the strong adversary left standing does not count at all")
    expect(
        math.isclose(result, 3 / 4),
        f"the strong adversary broke four, three of them withstand the naive one: 0.75, got {result}",
    )
    nothing = answered(answer(clean, naive, clean))
    expect(math.isnan(nothing), f"where the strong adversary broke nothing the share is undefined: NaN, got {nothing}")
