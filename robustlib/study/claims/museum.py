"""Our claims on the museum of illusions (notebook 10): what each exhibit hides, and who removes it."""

from collections.abc import Callable

import pandas as pd

from robustlib.study.claims.findings import Evidence
from robustlib.study.claims.rules import (
    WORTH_REMOVING,
    Finding,
    Interval,
    below,
    halved,
    judge_change,
    judge_row,
    removed,
    standing,
)
from robustlib.study.claims.served import LEFT, Test
from robustlib.study.museum import CLAIMED, with_columns
from robustlib.study.records import differences

Rule = Callable[[Interval, Interval], str]


def _rows(data: Evidence) -> dict[tuple[str, str], pd.Series]:
    """Points above the honest number, by exhibit and whoever attacked it."""
    rows = with_columns(differences(data.rows))
    return {(row["hides"], row["pierces"]): row for _, row in rows.iterrows()}


def _parts(data: Evidence, parts: dict[tuple[str, str], Rule]) -> list[Finding]:
    """One finding for each exhibit and adversary, on what is left of the claimed illusion."""
    rows, findings = _rows(data), []
    for (name, adversary), rule in parts.items():
        if (name, CLAIMED) in rows:
            left = rows.get((name, adversary))
            findings.append(judge_change(f"{adversary} on {name}", rows[name, CLAIMED], left, rule))
    return findings


def _scales(data: Evidence, smallest: float) -> list[Finding]:
    """O9: what two trainings hide is a scale."""
    return _parts(data, {(name, "margin"): removed for name in ("distilled", "super-fitted")})


def _random_scale(data: Evidence, smallest: float) -> list[Finding]:
    """O10: a ratio removes it at one query; with two classes a margin does not, and an average of 64 does."""
    if ("random scale", "ratio") in _rows(data):
        return _parts(data, {("random scale", "ratio"): removed})
    return _parts(data, {("random scale", "margin"): standing, ("random scale", "mean of 64"): halved})


def _not_monotone(data: Evidence, smallest: float) -> list[Finding]:
    """O11: no scale-free score undoes them; what asks no score does."""
    names = ("AAA-linear", "AAA-sine", "DLD")
    hidden = {(name, adversary): standing for name in names for adversary in ("cal-exact", "margin", "ratio")}
    return _parts(data, hidden | {(name, "replay"): halved for name in names})


def _controls(data: Evidence, smallest: float) -> list[Finding]:
    """O12: what was trained to be robust hides nothing."""
    rows, names = _rows(data), ("adversarial training", "mixture")
    claimed = {name: rows[name, CLAIMED] for name in names if (name, CLAIMED) in rows}
    return [judge_row(name, row, below(smallest)) for name, row in claimed.items()]


def _equal_classes(data: Evidence, smallest: float) -> list[Finding]:
    """O13: what smoothed labels hide, the margin leaves. (The targeted attack is part of the honest number.)"""
    return _parts(data, {("smoothed labels", "margin"): standing})


TESTS: dict[str, tuple[Test, str]] = {
    "O9": (_scales, LEFT),
    "O10": (_random_scale, LEFT),
    "O11": (_not_monotone, LEFT),
    "O12": (_controls, f"points of the claimed number above all attacks together (honest below {WORTH_REMOVING:g})"),
    "O13": (_equal_classes, LEFT),
}
