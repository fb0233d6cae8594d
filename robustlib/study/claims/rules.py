"""When an interval supports a claim, speaks against it, or decides nothing, and what findings make of a claim.

Thresholds are fixed beforehand, in percentage points. Each rule has three zones, so that no interval supports a claim
and its negation, and one that is too wide supports neither.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

SMALLEST = 2.0  # smallest difference of interest, where `claims.csv` names no other
CLEAN_COST = 3.0  # clean accuracy that a gain may cost
WORTH_REMOVING = 5.0  # an illusion that is not surely larger gives nothing to remove
REMOVED, STANDING = 0.2, 0.5  # shares of an illusion: less is left of one removed, more of one that stands
VERDICTS = ("reproduced", "partly", "not reproduced", "inconclusive", "nothing to test", "not tested")

Interval = tuple[float, float]
Rule = Callable[[Interval], str]


@dataclass(frozen=True)
class Finding:
    """One part of a claim, judged."""

    where: str  # what was compared, for example "cal at T_d = 0.001"
    # "holds", "fails", "open" (the interval decides nothing), "void" (nothing there to remove or repair) or "missing"
    # (not among the records)
    outcome: str
    measured: str = ""  # the difference in points with its interval; where missing, why, or empty
    sample: str = ""  # for example "n = 1000, 3 seeds"
    part: str = ""  # what the claim cannot do without, for example "T_d > 1"; empty where it can
    condition: bool = False  # a price or premise. It can spoil a claim that holds, and cannot carry one
    # smallest difference that this sample would have shown, in points; NaN where unknown
    smallest: float = float("nan")


def above(threshold: float) -> Rule:
    """Whether what was measured is more than a number of points."""
    return lambda interval: _zone(interval[0] > threshold, interval[1] < threshold)


def below(threshold: float) -> Rule:
    """Whether what was measured is less than a number of points."""
    return lambda interval: _zone(interval[1] < threshold, interval[0] > threshold)


def equal(tolerance: float) -> Rule:
    """Whether what was measured is less than a number of points from 0, on either side."""
    return lambda interval: _zone(
        -tolerance < interval[0] and interval[1] < tolerance, interval[0] > tolerance or interval[1] < -tolerance
    )


def removed(illusion: Interval, left: Interval) -> str:
    """Whether less than a fifth of an illusion is left; intervals above the honest number, before and after."""
    return _share(illusion, lambda low, high: _zone(left[1] < REMOVED * low, left[0] > REMOVED * high))


def standing(illusion: Interval, left: Interval) -> str:
    """Whether more than half of an illusion is left; arguments as for `removed`."""
    return _share(illusion, lambda low, high: _zone(left[0] > STANDING * high, left[1] < STANDING * low))


def halved(illusion: Interval, left: Interval) -> str:
    """Whether less than half of an illusion is left: the opposite of `standing`."""
    return {"holds": "fails", "fails": "holds"}.get(outcome := standing(illusion, left), outcome)


def _share(illusion: Interval, judge: Callable[[float, float], str]) -> str:
    return judge(*illusion) if illusion[0] > WORTH_REMOVING else "void"


def _zone(holds: bool, fails: bool) -> str:
    return "holds" if holds else "fails" if fails else "open"


def verdict(findings: Iterable[Finding]) -> str:
    """One of VERDICTS: a claim that holds somewhere does so partly if a finding is missing, open or fails elsewhere.

    Or if a part that it cannot do without is void altogether.
    """
    findings = list(findings)
    main = {finding.outcome for finding in findings if not finding.condition}
    if "holds" in main:
        outcomes = {finding.outcome for finding in findings} - {"void"}
        judged = {finding.part for finding in findings if finding.outcome != "void"}
        complete = judged >= {finding.part for finding in findings if finding.part}
        return "reproduced" if outcomes == {"holds"} and complete else "partly"
    if "fails" in main:
        return "not reproduced"
    if "open" in main:
        return "inconclusive"
    return "nothing to test" if "void" in main else "not tested"


def interval(row: pd.Series) -> Interval:
    return float(row["low"]), float(row["high"])


def judge_row(where: str, row: pd.Series | None, rule: Rule, *, part: str = "", condition: bool = False) -> Finding:
    """A finding on one recorded row; missing where there is none."""
    if row is None:
        return Finding(where, "missing", part=part, condition=condition)
    text, outcome = interval_text(row, signed=True), rule(interval(row))
    return Finding(where, outcome, text, sample_text(row), part, condition, detectable(row))


def judge_change(
    where: str, illusion: pd.Series | None, left: pd.Series | None, rule: Callable[[Interval, Interval], str]
) -> Finding:
    """A finding on what is left of an illusion, by a rule on both intervals above honest; missing without either."""
    if illusion is None or left is None:
        return Finding(where, "missing")
    text, outcome = interval_text(left, signed=True), rule(interval(illusion), interval(left))
    return Finding(where, outcome, f"{illusion['mean']:+.1f} -> {text}", sample_text(left), smallest=detectable(left))


def detectable(row: pd.Series) -> float:
    """Smallest difference that a record's sample would have shown; NaN where unknown."""
    return float(row.get("smallest", float("nan")))


def interval_text(row: pd.Series, *, signed: bool = False) -> str:
    """Mean and interval of a record, as "12.3 [11.0, 13.6]"."""
    form = "+.1f" if signed else ".1f"
    return f"{row['mean']:{form}} [{row['low']:{form}}, {row['high']:{form}}]"


def sample_text(row: pd.Series) -> str:
    """What a record was measured on, as "n = 600, 3 seeds"."""
    return f"n = {row['n']:.0f}" + (f", {row['n_seeds']} seeds" if row["n_seeds"] > 1 else "")
