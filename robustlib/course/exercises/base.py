"""Exercises that judge the learner: what is asked, whose answer was judged, and which slip it holds."""

import inspect
import linecache
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

Value = TypeVar("Value")
PARTIAL = 0.5  # of the points, the most that a wrong answer gets


class SlipError(AssertionError):
    """What is wrong with an answer, in one sentence for the learner."""


@dataclass(frozen=True)
class Exercise:
    """One exercise: `inspect_answer` raises `SlipError`; `solution` is the sample solution."""

    number: str
    title: str
    inspect_answer: Callable[[Callable], None]
    solution: Callable


@dataclass(frozen=True)
class Judgement:
    """What became of an answer: "correct", "wrong" or "open" (the stub as it was).

    Of a wrong one `slip` says what is wrong, and `passed` which share of what is asked of it went well before.
    """

    number: str
    outcome: str
    slip: str = ""
    passed: float = 0.0

    def points(self, most: float) -> float:
        """All for a correct answer; for a wrong one up to `PARTIAL` of them, by the share that went well."""
        return float(most) if self.outcome == "correct" else round(PARTIAL * most * self.passed, 2)


EXERCISES: dict[str, Exercise] = {}
_mode = {"solutions": False, "passed": 0}  # how many expectations the answer in hand has met
_whose: dict[str, str] = {}
_given: dict[str, Callable] = {}  # the learner's last answers: a check that gave back the solution may run again


def exercise(number: str, solution: Callable) -> Callable[[Callable], Callable]:
    """Enter an exercise in `EXERCISES`; its title is the docstring of the function that inspects answers."""

    def enter(inspect_answer: Callable[[Callable], None]) -> Callable[[Callable], None]:
        title = (inspect_answer.__doc__ or "").split(":", 1)[1].strip()
        EXERCISES[number] = Exercise(number, title, inspect_answer, solution)
        return inspect_answer

    return enter


def use_solutions(solutions: bool) -> None:
    """Whether an untouched stub stands for the sample solution, which is then judged: the parameter of a batch run."""
    _mode["solutions"] = solutions


def judge(number: str, answer: Callable) -> Judgement:
    """Judge an answer without showing anything. ValueError: there is no exercise of that number."""
    chosen = _known(number)
    if is_stub(answer) or answer is chosen.solution:  # the check ran before, and bound the solution to the name
        return Judgement(number, "open")
    _mode["passed"] = 0
    try:
        chosen.inspect_answer(answer)
    except NotImplementedError:  # nbgrader's stub
        return Judgement(number, "open")
    except SlipError as error:
        slip = str(error)
    except Exception as error:  # whatever the learner's function raises is a slip of its own
        slip = f"it raised {type(error).__name__}: {error}{_where(error, answer)}"
    else:
        return Judgement(number, "correct", passed=1.0)
    passed, _mode["passed"] = _mode["passed"], 0
    chosen.inspect_answer(chosen.solution)
    return Judgement(number, "wrong", slip, passed / _mode["passed"])


def check(number: str, answer: Callable) -> Callable:
    """Judge an answer, say whose it was and what is wrong with it in one sentence, and stop nothing.

    Returns the answer where it is right, else the sample solution: what the cells below go on with (`whose`).
    ValueError: there is no exercise of that number.
    """
    chosen = _known(number)
    if answer is not chosen.solution:
        _given[number] = answer
    answer = _given.get(number, answer)
    judgement = judge(number, answer)
    _whose[number] = "your answer" if judgement.outcome == "correct" else "the sample solution"
    going_on = "The cells below go on with the sample solution."
    if judgement.outcome == "correct":
        sentence = f"**Exercise {number}: your answer is correct.**"
    elif judgement.outcome == "wrong":
        sentence = f"**Exercise {number}: your answer is not right yet:** {judgement.slip}\n>\n> {going_on}"
    elif _mode["solutions"]:
        chosen.inspect_answer(chosen.solution)
        sentence = f"**Exercise {number}:** the stub is untouched; **the sample solution** was bound to it, and passes."
    else:
        sentence = f"**Exercise {number} is open**: the stub is as it was. {going_on}"
    _show(f"> {sentence}")
    return answer if judgement.outcome == "correct" else chosen.solution


def credit(number: str, answer: Callable, most: float) -> float:
    """`check` for a grader such as nbgrader: says the same and returns the points, of `most`."""
    check(number, answer)
    return judge(number, answer).points(most)


def whose(number: str) -> str:
    """Whose function `check` gave back last: "your answer" or "the sample solution"."""
    return _whose.get(number, "the sample solution")


def solution(number: str) -> None:
    """Show the sample solution of an exercise. ValueError: there is no exercise of that number."""
    _show(f"```python\n{solution_source(number)}\n```")


def solution_source(number: str) -> str:
    """The sample solution's source."""
    return textwrap.dedent(inspect.getsource(_known(number).solution)).rstrip()


def is_stub(answer: Any) -> bool:
    """Whether a function does nothing at all, as the stubs of the lessons."""

    def stub(): ...

    code = getattr(answer, "__code__", None)
    return code is not None and (code.co_code, code.co_consts) == (stub.__code__.co_code, stub.__code__.co_consts)


def expect(condition: bool | np.bool_ | Tensor, message: str) -> None:
    if not condition:
        raise SlipError(message)
    _mode["passed"] += 1


def answered(value: Value | None) -> Value:
    """What the learner's function returned, unless that is nothing at all."""
    expect(value is not None, "your function returned None: is the `return` missing?")
    return value


def tensor(value: Tensor | None, *shape: int) -> Tensor:
    """The tensor of this shape that the learner's function returned."""
    got = tuple(getattr(answered(value), "shape", ()))
    expect(isinstance(value, Tensor) and got == shape, f"return a tensor of shape {shape}, got {got or value}")
    return value


def _known(number: str) -> Exercise:
    if number not in EXERCISES:
        known = sorted(EXERCISES, key=lambda name: [int(part) for part in name.split(".")])
        raise ValueError(f"there is no exercise {number!r}: choose one of {', '.join(known)}")
    return EXERCISES[number]


def _where(error: Exception, answer: Callable) -> str:
    """The line of the learner's function that raised."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_code is getattr(answer, "__code__", None):
            text = linecache.getline(frame.f_code.co_filename, line).strip()
            return f" (in the line `{text}`)" if text else f" (in its line {line - frame.f_code.co_firstlineno + 1})"
    return ""


def _show(text: str) -> None:
    from IPython.display import Markdown, display

    display(Markdown(text))
