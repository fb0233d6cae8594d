"""What every check of an exercise does: refuse with a reason, notice an unanswered stub, confirm."""

from __future__ import annotations

from typing import TypeVar

Value = TypeVar("Value")


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def answered(value: Value | None) -> Value:
    """What the learner's function returned, unless that is nothing at all."""
    expect(value is not None, "your function returned None: is the `return` missing, or is it still the stub?")
    return value


def passed(name: str) -> None:
    print(f"Exercise {name}: correct.")
