"""What every check of an exercise does: refuse with a reason, notice an unanswered stub, confirm."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch import Tensor

Value = TypeVar("Value")


def expect(condition: bool | np.bool_ | Tensor, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def answered(value: Value | None) -> Value:
    """What the learner's function returned, unless that is nothing at all."""
    expect(value is not None, "your function returned None: is the `return` missing, or is it still the stub?")
    return value


def tensor(value: Tensor | None, *shape: int) -> Tensor:
    """The tensor of this shape that the learner's function returned."""
    got = tuple(getattr(answered(value), "shape", ()))
    expect(isinstance(value, Tensor) and got == shape, f"return a tensor of shape {shape}, got {got or value}")
    return value


def passed(name: str) -> None:
    print(f"Exercise {name}: correct.")
