"""Checks of the scorecard's exercises. Each holds cases worked by hand and says what a wrong answer got wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from robustlib.course.exercises.base import answered, expect, passed
from robustlib.study.claims.findings import BASELINE, OVER, evidence, verdict
from robustlib.study.claims.served import TESTS
from robustlib.study.records import COLUMNS, HONEST

Interval = tuple[float, float]


def removal(answer: Callable[[Interval, Interval, Interval, float], str]) -> None:
    """Exercise 13.1: whether an adversary has removed an illusion, from three 95 % intervals and a margin."""
    served = (60.0, 70.0)
    cases = (
        (served, (-1.0, 2.0), (-70.0, -60.0), 5.0, "removed", "all of what is left lies below 5 points"),
        (served, (-4.0, 9.0), (-70.0, -50.0), 5.0, "undecided", "not shown to be above 0 is not shown to be small"),
        (served, (55.0, 65.0), (-8.0, -2.0), 5.0, "remains", "lower than as served, but far above honest"),
        (served, (1.0, 4.0), (-70.0, -60.0), 5.0, "removed", "above 0, and below the margin: it counts as removed"),
        (served, (-9.0, -6.0), (-75.0, -65.0), 5.0, "removed", "below honest: the margin bounds the upper side only"),
        ((1.0, 6.0), (-1.0, 4.0), (-4.0, 2.0), 5.0, "undecided", "not shown to have lowered anything: look at `drop`"),
        ((-1.0, 2.0), (-1.0, 2.0), (0.0, 0.0), 5.0, "void", "not shown to be above honest: no illusion to remove"),
        (served, (3.0, 8.0), (-70.0, -60.0), 5.0, "remains", "above honest, and not within 5 points"),
        (served, (3.0, 8.0), (-70.0, -60.0), 10.0, "removed", "within 10 points: use the argument `margin`"),
    )
    for *arguments, expected, why in cases:
        result = answered(answer(*arguments))
        expect(result == expected, f"removal{tuple(arguments)}: {why}. Expected {expected!r}, got {result!r}")
    passed("13.1")


def claim_verdict(answer: Callable[[Sequence[str]], str]) -> None:
    """Exercise 13.2: the verdict on a claim from the outcomes of its findings."""
    cases = (
        (("holds", "holds"), "reproduced", "every part holds"),
        (("holds", "fails", "holds"), "partly", "one part fails: two of three is not all, and there is no vote"),
        (("holds", "missing"), "partly", "a part that nobody measured does not count as holding"),
        (("holds", "void"), "reproduced", "where there was nothing to remove, nothing speaks against the claim"),
        (("fails", "fails"), "not reproduced", "no part holds"),
        (("fails", "missing"), "not reproduced", "what was measured fails"),
        (("missing", "missing"), "not tested here", "nothing was measured"),
        (("void", "void"), "not tested here", "there was nothing to remove anywhere, so nothing was tested"),
        ((), "not tested here", "without findings *all of them hold* is true, and worthless: a test that cannot fail"),
    )
    for outcomes, expected, why in cases:
        result = answered(answer(list(outcomes)))
        expect(result == expected, f"{list(outcomes)}: {why}. Expected {expected!r}, got {result!r}")
    passed("13.2")


def flip(answer: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Exercise 13.3: records changed so that claim C1 (images) is only partly reproduced."""
    records = made_up_records()
    before = records.copy()
    result = answer(records)
    expect(records.equals(before), "you changed the caller's records: start with records.copy()")
    expect(isinstance(result, pd.DataFrame), f"return the changed records, a DataFrame, got {type(result).__name__}")
    expect(
        len(result) == len(records) and list(result.columns) == list(records.columns),
        "rows or columns are gone or new: a row that is missing is another case (not recorded)",
    )
    numbers = ["mean", "low", "high"]
    expect(
        result.drop(columns=numbers).equals(records.drop(columns=numbers)),
        "change mean, low and high only: the other columns say what was measured, not what came out",
    )
    expect(
        ((result.low <= result["mean"]) & (result["mean"] <= result.high)).all(),
        "an interval must hold its mean: low <= mean <= high in every row",
    )
    outcome = verdict_on_c1(result)
    explained = {
        "reproduced": "still reproduced: at every T_d the whole interval lies above 0. What must `low` be?",
        "not reproduced": "now nothing holds: leave one of the two design temperatures as it was",
    }
    expect(outcome == "partly", explained.get(outcome, f"expected 'partly', got {outcome!r}"))
    passed("13.3")


def made_up_records() -> pd.DataFrame:
    """Records of a world in which C1 holds: three served models, clean and attacked, and two paired differences."""
    setting = {"experiment": "04_made_up", "modality": "image", "dataset": "made up", "model": "made up", "seed": 0}
    common = setting | {"training_temperature": 1.0, "adversary": "none", "n": 600, "profile": "smoke", "device": "cpu"}
    rows = []
    for temperature, standing in ((1.0, 10.0), (0.01, 40.0), (0.001, 80.0)):
        served = {**common, "method": BASELINE if temperature == 1 else OVER, "design_temperature": temperature}
        for attack, mean in (("clean", 92.0), ("pgd", standing)):
            rows.append({**served, "attack": attack, "metric": "accuracy", "mean": mean})
        if temperature != 1:
            compared = {"attack": "pgd", "metric": "accuracy_difference", **HONEST.columns}
            rows.append({**served, **compared, "mean": standing - 10})
    return pd.DataFrame([{**row, "low": row["mean"] - 3, "high": row["mean"] + 3} for row in rows], columns=COLUMNS)


def verdict_on_c1(records: pd.DataFrame) -> str:
    """The scorecard's verdict on claim C1 for images, from records of one data set and model."""
    (data,) = evidence(records, "image").values()
    return verdict(TESTS["C1"][0](data))
