"""Our claims on adversaries who only get answers (notebook 12)."""

import pandas as pd

from robustlib.study.claims.findings import Evidence
from robustlib.study.claims.rules import Finding, above, equal, judge_row, sample_text
from robustlib.study.claims.served import Test
from robustlib.study.records import differences, matching
from robustlib.study.services import LABELS_ONLY, PREFIX, TEMPERATURES

METHOD = f"{PREFIX}float32"


def _scale_is_told(data: Evidence, smallest: float) -> list[Finding]:
    """O14: at every design temperature an estimator tells the scale; one that is silent there tells nothing."""
    rows, findings = matching(data.rows, metric="log10_error", method=METHOD), []
    if rows.empty:
        return []
    for temperature in TEMPERATURES:
        where, there = f"T_d = {temperature:.2g}", matching(rows, design_temperature=temperature)
        if there.empty:
            findings.append(Finding(where, "fails", "nothing readable", sample_text(rows.iloc[0])))
            continue
        best = there.iloc[there["mean"].abs().argmin()]
        told = f"{best['adversary']} {best['mean']:+.2f} [{best['low']:+.2f}, {best['high']:+.2f}]"
        findings.append(Finding(where, equal(smallest)((best["low"], best["high"])), told, sample_text(best)))
    return findings


def _labels_suffice(data: Evidence, smallest: float) -> list[Finding]:
    """O15: at the extremes the estimated temperature leaves more standing than labels alone, at as many queries."""
    rows = differences(data.rows, method=METHOD, adversary="estimated", reference_adversary=LABELS_ONLY)
    temperatures = sorted(rows.design_temperature)
    return [_at(rows, temperature, smallest) for temperature in dict.fromkeys(temperatures[:1] + temperatures[-1:])]


def _at(rows: pd.DataFrame, temperature: float, smallest: float) -> Finding:
    row = matching(rows, design_temperature=temperature).iloc[-1]
    return judge_row(f"T_d = {temperature:g}", row, above(smallest))


TESTS: dict[str, tuple[Test, str]] = {
    "O14": (_scale_is_told, "error in decades, the better of two estimators"),
    "O15": (_labels_suffice, "points above the attack on labels alone, estimated temperature"),
}
