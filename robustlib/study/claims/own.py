"""Our own claims on served models: a constant temperature (O1, O2), precision (O3), the calibrated illusion (O5 on)."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from robustlib.study.claims.findings import BASELINE, OVER, UNDER, Evidence
from robustlib.study.claims.rules import (
    Finding,
    Interval,
    above,
    below,
    halved,
    judge_change,
    judge_row,
    removed,
    sample_text,
    standing,
)
from robustlib.study.claims.served import LEFT, MINUS_MARGIN, Test, at_each, beside_margin, change
from robustlib.study.records import HONEST, differences, matching

_REPLAY = "transfer:float32"
_CALIBRATED_OR_SCALE_FREE = ("margin", "cal", "cal-exact", "opt-paper", "opt", "ties")
PER_INPUT, FLOOR = "T(x)", "floor"  # how the names of disguises begin, see `robustlib.study.hiding`


def _exact(data: Evidence, smallest: float) -> list[Finding]:
    return at_each(data, (OVER, UNDER), lambda m, t: change(data, "cal-exact", m, t, removed))


def _no_search_beats_the_margin(data: Evidence, smallest: float) -> list[Finding]:
    return beside_margin(data, -smallest, ("opt",), (BASELINE, OVER, UNDER))


def _third_cause(data: Evidence, smallest: float) -> list[Finding]:
    """At some precision no search finds what texts found in float32 show to be there.

    Each adversary that sees only the low-precision victim is compared with the replay of texts found on its float32
    copy. A precision at which a search does as well speaks neither for nor against the claim, unless all are so.
    """
    replay = {"reference_method": BASELINE, "reference_adversary": _REPLAY, "reference_design_temperature": 1}
    rows = differences(data.low_precision, attack=data.attack, method=BASELINE, **replay)
    rows = rows[rows.adversary.isin(_CALIBRATED_OR_SCALE_FREE)]
    groups = rows.groupby(["precision", "training_temperature"], sort=False)
    findings = []
    for (name, trained_at), group in groups:
        strongest = group.sort_values("mean").iloc[0]
        where = name if trained_at == 1 else f"{name} (trained at T = {trained_at:g})"
        finding = judge_row(where, strongest, above(smallest))
        sample = f"{finding.sample}, one of {len(groups)} victims, strongest of {len(group)} searches"
        findings.append(replace(finding, measured=f"{strongest['adversary']} {finding.measured}", sample=sample))
    if any(finding.outcome == "holds" for finding in findings):
        findings = [f if f.outcome == "holds" else replace(f, outcome="void") for f in findings]
    return findings


def _behind(data: Evidence, disguise: str, adversary: str, rule: Callable[[Interval, Interval], str]) -> list[Finding]:
    rows = differences(data.differences, reference=HONEST)
    rows = rows[rows.method.str.startswith(disguise)]
    findings = []
    for method, group in rows.groupby("method", sort=False):
        illusion, left = _last(group, "naive"), _last(group, adversary)
        where = f"{adversary.removesuffix(':')} behind {method}"
        findings.append(judge_change(where, illusion, left, rule))
    return findings


def _last(rows: pd.DataFrame, adversary: str) -> pd.Series | None:
    chosen = rows.adversary.str.startswith(adversary) if adversary.endswith(":") else rows.adversary == adversary
    return rows[chosen].iloc[-1] if chosen.any() else None


def _calibrated_illusion(data: Evidence, smallest: float) -> list[Finding]:
    """O5: T(x) hides, exact calibration leaves it standing, and the shown confidence is calibrated."""
    hidden = _behind(data, PER_INPUT, "cal-exact", standing)
    errors = matching(data.rows, metric="ece", adversary="naive")
    errors = errors[errors.method.str.startswith(PER_INPUT)]
    calibrated = [
        Finding(
            f"calibration error of {row['method']}",
            below(smallest)((row["mean"], row["mean"])),
            f"{row['mean']:.2f}",
            sample_text(row),
            condition=True,
        )
        for _, row in errors.iterrows()
    ]
    missing = [Finding("calibration error", "missing", condition=True)] if hidden and not calibrated else []
    return [*hidden, *calibrated, *missing]


def _ratio_pierces(data: Evidence, smallest: float) -> list[Finding]:
    """O6: where a ratio of logit differences is left, it removes what T(x) hides."""
    return _behind(data, PER_INPUT, "dlr", removed)


def _labels_are_left(data: Evidence, smallest: float) -> list[Finding]:
    """O7: with two classes the margin leaves what T(x) hides standing; a whole transferred budget and labels do not."""
    if any(finding.outcome != "missing" for finding in _ratio_pierces(data, smallest)):
        return []  # three classes or more: ratios are left
    parts = {"margin": standing, "transfer:": halved, "label-only": halved}
    return [
        replace(finding, part=adversary)
        for adversary, rule in parts.items()
        for finding in _behind(data, PER_INPUT, adversary, rule)
    ]


def _floor_hides(data: Evidence, smallest: float) -> list[Finding]:
    """O8: a floor on log-probabilities hides from all of these alike; a warm start halves what it hides."""
    alike = ("cal-exact", "opt", "margin", "dlr")
    hidden = [replace(f, part="hidden") for adversary in alike for f in _behind(data, FLOOR, adversary, standing)]
    return [*hidden, *(replace(f, part="warm start") for f in _behind(data, FLOOR, "warm", halved))]


TESTS: dict[str, tuple[Test, str]] = {
    "O1": (_exact, LEFT),
    "O2": (_no_search_beats_the_margin, MINUS_MARGIN),
    "O3": (_third_cause, "points above the replay of float32's texts, strongest search on the low-precision victim"),
    "O5": (_calibrated_illusion, f"{LEFT}; expected calibration error in points"),
    "O6": (_ratio_pierces, LEFT),
    "O7": (_labels_are_left, LEFT),
    "O8": (_floor_hides, LEFT),
}
