"""The exercises on change that nobody optimised and on the meaning of attacked sentences, worked by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robustlib.course.exercises import solutions
from robustlib.course.exercises.base import answered, exercise, expect


@exercise("15.1", solutions.difference)
def difference(answer: Callable[..., float]) -> None:
    """Exercise 15.1: two models under a change, over the examples that both have right when clean."""
    clean_a, clean_b = np.array([1, 1, 1, 1, 0, 0], bool), np.array([1, 1, 1, 1, 1, 1], bool)
    changed_a, changed_b = np.array([1, 1, 1, 0, 0, 0], bool), np.array([1, 0, 0, 0, 1, 1], bool)
    result = float(answered(answer(clean_a, clean_b, changed_a, changed_b)))
    expect(
        not np.isclose(result, 0.0),
        "over all six examples the two look alike: take those that both have right when clean, the first four",
    )
    expect(not np.isclose(result, 75 - 50), "each accuracy must be over the same examples, those right for both")
    expect(not np.isclose(result, 0.5), "in points, that is times 100")
    expect(not np.isclose(result, -50), "a minus b, not b minus a")
    expect(np.isclose(result, 50), f"of the four examples a keeps three and b one: expected 50 points, got {result}")


@exercise("15.2", solutions.within)
def within(answer: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Exercise 15.2: which examples stand where only sentences within the limits count."""
    standing, keeps = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    result = np.asarray(answered(answer(standing.copy(), keeps.copy())))
    expect(result.shape == (4,), f"return an array of four truth values, got shape {result.shape}")
    result = result.astype(bool)
    expect(result[0], "a model that stands on a sentence within the limits stands")
    expect(result[1], "a model that stands still stands where the sentence broke a limit")
    expect(not result[2], "a fooled model whose sentence kept the limits does not stand")
    expect(result[3], "a fooled model whose sentence broke a limit stands: that sentence is no adversarial example")
