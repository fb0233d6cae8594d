"""Checks of the scorecard's exercises. Each holds cases worked by hand and says what a wrong answer got wrong."""

from collections.abc import Callable, Sequence

import pandas as pd

from robustlib.course.exercises import solutions
from robustlib.course.exercises.base import answered, exercise, expect
from robustlib.study.claims.findings import BASELINE, OVER, evidence
from robustlib.study.claims.rules import SMALLEST, verdict
from robustlib.study.claims.served import TESTS
from robustlib.study.records import COLUMNS, HONEST

Interval = tuple[float, float]


@exercise("14.1", solutions.removal)
def removal(answer: Callable[[Interval, Interval, float], str]) -> None:
    """Exercise 14.1: whether an adversary has removed an illusion, from two 95 % intervals and a share."""
    served = (60.0, 70.0)
    cases = (
        (served, (-1.0, 2.0), 0.2, "removed", "all of what is left lies below a fifth of 60 points"),
        (served, (-4.0, 19.0), 0.2, "undecided", "not shown to be above a fifth is not shown to be below it"),
        (served, (55.0, 65.0), 0.2, "remains", "nearly all of it is left"),
        (served, (1.0, 11.9), 0.2, "removed", "above 0, and below a fifth of the illusion's lower end"),
        (served, (-9.0, -6.0), 0.2, "removed", "below honest: nothing of the illusion is left"),
        (served, (1.0, 13.0), 0.2, "undecided", "13 is more than a fifth of 60: compare with the lower end"),
        (served, (13.0, 20.0), 0.2, "undecided", "13 is less than a fifth of 70: compare with the upper end"),
        ((3.0, 8.0), (-1.0, 0.1), 0.2, "void", "not surely more than 5 points: no illusion worth removing"),
        (served, (15.0, 25.0), 0.5, "removed", "less than half of it: use the argument `share`"),
    )
    for *arguments, expected, why in cases:
        result = answered(answer(*arguments))
        expect(result == expected, f"removal{tuple(arguments)}: {why}. Expected {expected!r}, got {result!r}")


@exercise("14.2", solutions.claim_verdict)
def claim_verdict(answer: Callable[[Sequence[str]], str]) -> None:
    """Exercise 14.2: the verdict on a claim from the outcomes of its findings."""
    cases = (
        (("holds", "holds"), "reproduced", "every part holds"),
        (("holds", "fails", "holds"), "partly", "one part fails: two of three is not all, and there is no vote"),
        (("holds", "missing"), "partly", "a part that nobody measured does not count as holding"),
        (("holds", "void"), "reproduced", "where there was nothing to remove, nothing speaks against the claim"),
        (("fails", "fails"), "not reproduced", "no part holds"),
        (("fails", "missing"), "not reproduced", "what was measured fails"),
        (("holds", "open"), "partly", "an interval that decides nothing does not count as holding"),
        (("open", "fails"), "not reproduced", "nothing holds, and something surely does not"),
        (("open", "void"), "inconclusive", "nothing holds and nothing fails: the sample was too small"),
        (("missing", "missing"), "not tested", "nothing was measured"),
        (("void", "void"), "nothing to test", "there was nothing to remove anywhere"),
        ((), "not tested", "without findings *all of them hold* is true, and worthless: a test that cannot fail"),
    )
    for outcomes, expected, why in cases:
        result = answered(answer(list(outcomes)))
        expect(result == expected, f"{list(outcomes)}: {why}. Expected {expected!r}, got {result!r}")


@exercise("14.3", solutions.flip)
def flip(answer: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Exercise 14.3: records changed so that claim C1 (images) is only partly reproduced."""
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
        "reproduced": "still reproduced: at every T_d the whole interval lies above 2 points. What must `low` be?",
        "inconclusive": "now nothing holds: leave one of the two design temperatures as it was",
        "not reproduced": "now nothing holds: leave one of the two design temperatures as it was",
    }
    expect(outcome == "partly", explained.get(outcome, f"expected 'partly', got {outcome!r}"))


def made_up_records() -> pd.DataFrame:
    """Records of a world in which C1 holds: three served models, clean and attacked, and two paired differences."""
    setting = {"experiment": "04_made_up", "modality": "image", "dataset": "made up", "model": "made up", "seed": 0}
    common = setting | {
        "training_temperature": 1.0,
        "adversary": "naive",
        "n": 600,
        "profile": "smoke",
        "device": "cpu",
    }
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
    return verdict(TESTS["C1"][0](data, SMALLEST))
