"""Our claims on adversaries who only get answers (notebook 12)."""

import pandas as pd

from robustlib.study.claims.findings import Evidence
from robustlib.study.claims.rules import Finding, above, equal, judge_row, sample_text
from robustlib.study.claims.served import Test
from robustlib.study.records import differences, matching
from robustlib.study.services import LABELS_ONLY, PREFIX, TEMPERATURES

METHOD = f"{PREFIX}float32"
ESTIMATORS = ("read", "walk")  # an adversary reads, and walks where reading tells nothing


def _scale_is_told(data: Evidence, smallest: float) -> list[Finding]:
    """O14: the scale is told at every design temperature: read where that tells anything, else walked to."""
    rows, findings = matching(data.rows, metric="log10_error", method=METHOD), []
    if rows.empty:
        return []
    for temperature in TEMPERATURES:
        where, there = f"T_d = {temperature:.2g}", matching(rows, design_temperature=temperature)
        told = [row for name in ESTIMATORS for _, row in matching(there, adversary=name).iterrows()]
        if not told:
            findings.append(Finding(where, "fails", "nothing readable", sample_text(rows.iloc[0])))
            continue
        first = told[0]
        text = f"{first['adversary']} {first['mean']:+.2f} [{first['low']:+.2f}, {first['high']:+.2f}]"
        findings.append(Finding(where, equal(smallest)((first["low"], first["high"])), text, sample_text(first)))
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
    "O14": (_scale_is_told, "error in decades, read where that tells anything, else walked to"),
    "O15": (_labels_suffice, "points above the attack on labels alone, estimated temperature"),
}
