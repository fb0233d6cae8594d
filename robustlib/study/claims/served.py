"""What the records must show for a claim about served models to hold; on training: `trained`, ours: `own`.

A claim falls into findings (one for each design temperature, end of the sweep, ...), and each finding rests on a
recorded paired difference with its 95 % interval, judged by the rules of `claims.rules`.
To add a test: a function `(Evidence, smallest) -> list[Finding]` and its line in `TESTS`; to add a claim: `claims.csv`.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations

import pandas as pd

from robustlib.models.pretrained import describe
from robustlib.study.claims.findings import BASELINE, LOWEST, OTHER_END, OVER, UNDER, Evidence, minus
from robustlib.study.claims.rules import (
    Finding,
    Interval,
    above,
    below,
    detectable,
    equal,
    interval_text,
    judge_change,
    judge_row,
    removed,
    sample_text,
    standing,
)
from robustlib.study.records import HONEST, Reference, differences, matching

Test = Callable[[Evidence, float], list[Finding]]
PART = {BASELINE: "T_d = 1", OVER: "T_d < 1", UNDER: "T_d > 1"}
BLIND = "blind:"  # before an adversary: random edits of as many words, what any text would lose to so many


def at_each(data: Evidence, methods: tuple[str, ...], judge: Callable[[str, float], Finding]) -> list[Finding]:
    """Judge at every design temperature; a kind of model that was not served is a missing part of the claim."""
    findings = []
    for method in methods:
        judged = [replace(judge(method, temperature), part=PART[method]) for temperature in data.temperatures(method)]
        findings += judged or [Finding(PART[method], "missing")]
    return findings


def _raises(data: Evidence, smallest: float, method: str) -> list[Finding]:
    """Served models of one kind look more robust than the honest baseline, at the same clean accuracy."""

    def judge(method: str, temperature: float) -> Finding:
        return judge_row(
            f"T_d = {temperature:g}", data.difference(method, temperature, "naive", HONEST), above(smallest)
        )

    return [*at_each(data, (method,), judge), _clean_stays(data, method)]


def _clean_stays(data: Evidence, method: str) -> Finding:
    # An identity and no estimate (scaling keeps the argmax), so it is compared to the paper's two decimals.
    rows = [data.accuracy(method, temperature, attack="clean") for temperature in data.temperatures(method)]
    honest = data.accuracy(BASELINE, 1.0, attack="clean")
    if honest is None or not rows or any(row is None for row in rows):
        return Finding("clean accuracy", "missing", condition=True)
    same = all(abs(row["mean"] - honest["mean"]) < 0.005 for row in rows)
    text = f"{honest['mean']:.1f} -> " + " / ".join(f"{row['mean']:.1f}" for row in rows)
    return Finding("clean accuracy", "holds" if same else "fails", text, sample_text(honest), condition=True)


def _underconfident_less(data: Evidence, smallest: float) -> list[Finding]:
    ends = judge_row("sweep: end T_d << 1 minus end T_d >> 1", _end(data, OVER), above(smallest), condition=True)
    return [*_raises(data, smallest, UNDER), ends]


def _end(data: Evidence, method: str, reference: str = OTHER_END) -> pd.Series | None:
    rows = differences(data.differences, method=method, reference_method=reference)
    return rows.iloc[-1] if len(rows) else None


def _bowl(data: Evidence, smallest: float) -> list[Finding]:
    """Both ends of the sweep lie above its lowest point, and between them it falls, then rises.

    The lowest point is chosen on the examples it is then compared on, which favours the claim: the sample says so.
    """
    up, down = _end(data, OVER, LOWEST), _end(data, UNDER, LOWEST)
    if up is None and down is not None:  # the lowest point is the other end
        up = _end(data, OVER)
    ends = {"toward confidence 1": up, "toward confidence 1/C": down}
    known = next((end for end in ends.values() if end is not None), None)
    curve = pd.DataFrame() if known is None else _sweep(data, known["experiment"])
    findings = []
    for words, end in ends.items():
        where = words if end is None else f"{words} (T_d = {end['design_temperature']:g})"
        finding = judge_row(where, end, above(smallest), part=words)
        chosen = f"{finding.sample}, lowest of {len(curve)} temperatures, chosen on the same examples"
        findings.append(finding if end is None else replace(finding, sample=chosen))
    return [*findings, *([_one_valley(curve, smallest)] if len(curve) > 2 else [])]


def _sweep(data: Evidence, experiment: str) -> pd.DataFrame:
    sweep = {"experiment": experiment, "attack": data.attack, "adversary": "naive", "metric": "accuracy"}
    return matching(data.rows, **sweep).sort_values("design_temperature").drop_duplicates("design_temperature")


def _one_valley(curve: pd.DataFrame, smallest: float) -> Finding:
    """Nowhere does the curve rise on its way down to the lowest point, or fall beyond it, by what is of interest."""
    rows = [row for _, row in curve.iterrows()]
    lowest = min(range(len(rows)), key=lambda index: rows[index]["mean"])
    pairs = [*combinations(rows[: lowest + 1], 2), *((b, a) for a, b in combinations(rows[lowest:], 2))]
    nearer_lower = max(pairs, key=lambda pair: pair[1]["mean"] - pair[0]["mean"])
    outer, inner = nearer_lower
    where = f"one valley: T_d = {inner['design_temperature']:g} minus T_d = {outer['design_temperature']:g}"
    finding = judge_row(where, minus(inner, outer), below(smallest), condition=True)
    return replace(finding, sample=f"{finding.sample}, worst of {len(pairs)} pairs")


def change(
    data: Evidence, adversary: str, method: str, temperature: float, rule: Callable[[Interval, Interval], str]
) -> Finding:
    """What an adversary makes of the illusion of a served model, by a rule on both intervals above honest."""
    where = f"{adversary} at T_d = {temperature:g}"
    illusion = data.difference(method, temperature, "naive", HONEST)
    left = data.difference(method, temperature, adversary, HONEST)
    return judge_change(where, illusion, left, rule)


def _changes(
    data: Evidence,
    smallest: float,
    adversaries: tuple[str, ...],
    methods: tuple[str, ...],
    rule: Callable[[Interval, Interval], str],
) -> list[Finding]:
    return [
        finding
        for adversary in adversaries
        for finding in at_each(data, methods, lambda m, t, a=adversary: change(data, a, m, t, rule))
    ]


def _by_reading(judge: Callable[[str, str, float], Finding], data: Evidence, method: str) -> list[Finding]:
    """`cal` as this project reads it at each design temperature, then every other reading, by its worst outcome."""
    findings = at_each(data, (method,), partial(judge, "cal"))
    for reading in data.tried("cal:", (method,)):
        judged = [judge(reading, method, temperature) for temperature in data.temperatures(method)]
        known = [finding for finding in judged if finding.outcome in ("fails", "open", "holds")]
        if known:
            worst = min(known, key=lambda finding: ("fails", "open", "holds").index(finding.outcome))
            findings.append(worst if worst.outcome != "holds" else replace(worst, where=reading))
    return findings


def _cal(data: Evidence, smallest: float, method: str, rule: Callable[[Interval, Interval], str]) -> list[Finding]:
    return _by_reading(lambda a, m, t: change(data, a, m, t, rule), data, method)


def beside_margin(
    data: Evidence, smallest: float, adversaries: tuple[str, ...], methods: tuple[str, ...]
) -> list[Finding]:
    """Each adversary leaves more standing than the scale-free one, by a number of points."""

    def judge(adversary: str, method: str, temperature: float) -> Finding:
        row = data.difference(method, temperature, adversary, Reference(method, "margin", temperature))
        return judge_row(f"{adversary} at T_d = {temperature:g}", row, above(smallest))

    return [finding for adversary in adversaries for finding in at_each(data, methods, partial(judge, adversary))]


def _transfer_is_weaker(data: Evidence, smallest: float) -> list[Finding]:
    """For every source there is; at the served models it was recorded for, since T_d does not touch transfer."""
    findings = []
    for adversary in data.tried("transfer:"):
        for method in (BASELINE, OVER, UNDER):
            for temperature in [1.0] if method == BASELINE else data.temperatures(method):
                row = data.difference(method, temperature, adversary, Reference(method, "margin", temperature))
                if row is not None:
                    finding = judge_row(f"{adversary} at T_d = {temperature:g}", row, above(smallest))
                    blind = _blind(data, adversary, method, temperature)
                    findings.append(replace(finding, measured=finding.measured + blind))
    return findings


def _blind(data: Evidence, adversary: str, method: str, temperature: float) -> str:
    row = data.difference(method, temperature, f"{BLIND}{adversary}", Reference(method, "margin", temperature))
    return "" if row is None else f" (blind edits {interval_text(row, signed=True)})"


def _confidence_repaired(data: Evidence, smallest: float) -> list[Finding]:
    """`cal` brings the confidence of overconfident models down to their accuracy, which is what calibrated means."""
    honest = data.accuracy(BASELINE, 1.0, attack="clean")

    def judge(adversary: str, method: str, temperature: float) -> Finding:
        where = f"{adversary} at T_d = {temperature:g}"
        served, after = data.confidence(method, temperature), data.confidence(method, temperature, adversary)
        if honest is None or served is None or after is None:
            return Finding(where, "missing")
        text = f"{served['mean']:.1f} -> {after['mean']:.1f}, accuracy {interval_text(honest)}"
        if served["mean"] - honest["mean"] < smallest:
            return Finding(where, "void", text)
        ends = after["mean"] - honest["high"], after["mean"] - honest["low"]
        return Finding(where, equal(smallest)(ends), text, sample_text(after), smallest=detectable(honest))

    return _by_reading(judge, data, OVER)


def _scrambled(data: Evidence, smallest: float) -> list[Finding]:
    """Overconfidence scrambles the order in which words are tried, and the scrambled order alone hides the texts."""
    rows = data.rows[(data.rows.metric == "rank_correlation") & (data.rows.method == OVER)]
    rows = rows[rows.attack.isin(("pwws", "tf"))]
    findings = []
    for _, row in rows.loc[rows.groupby("attack").design_temperature.idxmin()].iterrows() if len(rows) else ():
        reach = 1.96 * row["std"] / math.sqrt(row["n"])
        ends = row["mean"] - reach, row["mean"] + reach
        text = f"{row['mean']:.2f} [{ends[0]:.2f}, {ends[1]:.2f}]"
        where = f"{row['attack']}, correlation at T_d = {row['design_temperature']:g}"
        findings.append(Finding(where, below(0.5)(ends), text, sample_text(row), part="scrambled"))
    causes = [
        replace(change(data, "ranking:served,candidates:honest", OVER, temperature, standing), part="as the cause")
        for temperature in data.temperatures(OVER)
    ]
    tested = [finding for finding in causes if finding.outcome != "missing"]
    return findings + (tested or [Finding("intervention on the ranking alone", "missing", part="as the cause")])


def _elsewhere(data: Evidence, smallest: float) -> list[Finding]:
    """Overconfidence raises adversarial accuracy on data sets other than the main one."""
    served = {"attack": data.attack, "training_temperature": 1, "method": OVER, "adversary": "naive"}
    rows = differences(data.breadth, reference=HONEST, **served)
    rows = rows[~rows.dataset.isin(data.rows.dataset)]
    return [
        judge_row(f"{row['dataset']} at T_d = {row['design_temperature']:g}", row, above(smallest))
        for _, row in rows.iterrows()
    ]


def _other_encoders(data: Evidence, smallest: float) -> list[Finding]:
    """Overconfidence raises the adversarial accuracy of other encoders on the main data set."""
    served = {"attack": data.attack, "training_temperature": 1, "method": OVER, "adversary": "naive"}
    return [
        judge_row(f"{describe(row['model'])} at T_d = {row['design_temperature']:g}", row, above(smallest))
        for _, row in differences(data.other_encoders, reference=HONEST, **served).iterrows()
    ]


MINUS_HONEST = "points above honest"
LEFT = f"{MINUS_HONEST}, as served -> after"
MINUS_MARGIN = "points above the scale-free attack"

# Claim -> (its test, what the numbers are).
TESTS: dict[str, tuple[Test, str]] = {
    "C1": (partial(_raises, method=OVER), MINUS_HONEST),
    "C2": (_underconfident_less, MINUS_HONEST),
    "C3": (_bowl, "points of the sweep, above its lowest"),
    "C6": (_scrambled, "Spearman correlation with the order at T_d = 1; points above honest, as served -> after"),
    "C7": (_elsewhere, MINUS_HONEST),
    "C8": (_other_encoders, MINUS_HONEST),
    "C9": (partial(_cal, method=OVER, rule=removed), LEFT),
    "C10": (partial(_cal, method=UNDER, rule=standing), LEFT),
    # The paper's own search and ours in log T: the claim is about both.
    "C11": (partial(_changes, adversaries=("opt-paper", "opt"), methods=(OVER, UNDER), rule=removed), LEFT),
    # The paper's descent and the exact minimum: what only a stalled descent shows is no property of Platt scaling.
    "C13": (
        partial(beside_margin, adversaries=("platt", "platt-exact"), methods=(OVER, UNDER)),
        f"platt (descent) and platt-exact, {MINUS_MARGIN}",
    ),
    "C14": (_transfer_is_weaker, MINUS_MARGIN),
    "C16": (_confidence_repaired, "mean confidence in percent, as served -> after"),
}
