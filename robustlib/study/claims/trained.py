"""The scorecard's tests of the training half (C4, C5, C12, C15, C17 to C20, C23 to C27, O4), in the form of
`robustlib.study.claims.served`: each takes the records of notebooks 08 and 09 and gives findings.

Illusion: an adversary's adversarial accuracy minus that of the scale-free attack on the same model. Gain: the same
adversary against two models, here minus reference, paired on the test examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from robustlib.study.claims.findings import (
    EQUIVALENCE_MARGIN,
    Evidence,
    Finding,
    gain,
    illusion,
    judge_row,
    sample_text,
)
from robustlib.study.records import HONEST, difference, matching
from robustlib.training.schedules import SCHEDULES

STAR = "_gradnorm"
PAPER_TEMPERATURE = 200.0  # where a claim names it; of what was trained, the nearest in decades is judged
CONFIDENCE_MARGIN = 2.0  # points of mean confidence that count as no change
CLEAN_MARGIN = 2.0  # points of clean accuracy that a schedule may lose and count as equally accurate


def _rows(data: Evidence, **columns: object) -> pd.DataFrame:
    """Recorded rows with these columns, of models served undivided."""
    return matching(data.training, design_temperature=1, **columns)


def _illusion(data: Evidence, method: str, temperature: float = 1.0) -> pd.Series | None:
    return illusion(data.training, method, attack=data.attack, training_temperature=temperature)


def _gain(data: Evidence, method: str, temperature: float, adversary: str, **options: object) -> pd.Series | None:
    options = {"attack": data.attack} | options
    return gain(data.training, method, adversary=adversary, training_temperature=temperature, **options)


def _methods(data: Evidence, temperature: float = 1.0) -> list[str]:
    return list(dict.fromkeys(_rows(data, training_temperature=temperature, metric="accuracy").method))


def _hot(data: Evidence, method: str = f"baseline{STAR}") -> float | None:
    """The training temperature nearest to the paper's among those this method was trained at."""
    found = sorted(t for t in _rows(data, method=method).training_temperature.unique() if t > 1)
    return min(found, key=lambda t: abs(np.log(t / PAPER_TEMPERATURE))) if found else None


def _above_zero(row: pd.Series) -> bool:
    return row["low"] > 0


def _within(margin: float) -> Callable[[pd.Series], bool]:
    return lambda row: row["low"] > -margin and row["high"] < margin


def overconfident(data: Evidence) -> list[Finding]:
    """C4: normalisation raises mean confidence on the same examples; clipping leaves it within the margin."""
    found = []
    for words, method, holds in (
        ("normalisation", f"baseline{STAR}", _above_zero),
        ("clipping", "baseline_gradclip", _within(CONFIDENCE_MARGIN)),
    ):
        model = {"method": method, "design_temperature": 1}
        row = difference(data.training, reference=HONEST, metric="confidence_difference", attack="clean", **model)
        found.append(replace(judge_row(words, row, holds), part=words))
    return found


def starred_illusion(data: Evidence) -> list[Finding]:
    """C5: every model trained with normalised gradients stands above its own scale-free answer as served."""
    starred = [method for method in _methods(data) if method.endswith(STAR)]
    return [judge_row(method, _illusion(data, method), _above_zero) for method in starred]


def no_star_no_illusion(data: Evidence) -> list[Finding]:
    """C12: adversarially trained without normalisation, a model has less illusion than the margin."""
    plain = [m for m in _methods(data) if not m.startswith("baseline") and not m.endswith((STAR, "_gradclip"))]
    return [judge_row(m, _illusion(data, m), lambda row: row["high"] < EQUIVALENCE_MARGIN) for m in plain]


def more_steps(data: Evidence) -> list[Finding]:
    """C15: with the most PGD steps DDi stands lower as served than with 3, and higher under the scale-free attack."""
    trained = [method for method in _methods(data) if method.startswith("ddi-at(M=3,") and method.endswith(STAR)]
    if len(trained) < 2:
        return []
    few, many = f"ddi-at(M=3,K=3){STAR}", max(trained, key=lambda method: int(method.split("K=")[1].split(")")[0]))
    return [
        judge_row(
            f"{many}, as served", _gain(data, many, 1.0, "none", reference_method=few), lambda row: row["high"] < 0
        ),
        judge_row(f"{many}, log-odds", _gain(data, many, 1.0, "margin", reference_method=few), _above_zero),
    ]


def hot_gain(data: Evidence) -> list[Finding]:
    """C17: training at high temperature raises adversarial accuracy after `cal`, and under log-odds."""
    method, hot = f"baseline{STAR}", _hot(data)
    if hot is None:
        return []
    return [judge_row(f"{a} at T = {hot:g}", _gain(data, method, hot, a), _above_zero) for a in ("cal", "margin")]


def adds_to_adversarial_training(data: Evidence) -> list[Finding]:
    """C18: the same on top of each adversarial training."""
    found = []
    for method in _methods(data):
        hot = None if method.startswith(("baseline", "dg-aug")) else _hot(data, method)
        if hot is not None:
            found += [
                judge_row(f"{method}, {a} at T = {hot:g}", _gain(data, method, hot, a), _above_zero)
                for a in ("cal", "margin")
            ]
    return found


def seen_attack(data: Evidence) -> list[Finding]:
    """C19: on the attack whose examples were trained on, high temperature gains less than the margin."""
    method = f"dg-aug{STAR}"
    hot = _hot(data, method)
    if hot is None:
        return []
    row = _gain(data, method, hot, "margin", attack="dg")
    return [judge_row(f"dg at T = {hot:g}", row, lambda row: row["high"] < EQUIVALENCE_MARGIN)]


def one_for_all(data: Evidence) -> list[Finding]:
    """C20: one temperature gains on every attack, and the largest one costs clean accuracy."""
    method, hot = f"baseline{STAR}", _hot(data)
    if hot is None:
        return []
    rows = _rows(data, method=method, training_temperature=hot, metric="accuracy", adversary="margin")
    found = [
        judge_row(f"{a} at T = {hot:g}", _gain(data, method, hot, "margin", attack=a), _above_zero)
        for a in dict.fromkeys(rows.attack)
    ]
    if len(found) < 2:  # one attack cannot show that one temperature serves all
        found.append(Finding("a second attack", "missing"))
    largest = _rows(data, method=method).training_temperature.max()
    clean = _gain(data, method, largest, "none", attack="clean")
    return [*found, judge_row(f"clean accuracy at T = {largest:g}", clean, lambda row: row["high"] < 0)]


def star_protects(data: Evidence) -> list[Finding]:
    """C23: at high temperature the normalised model is the more accurate one on clean examples."""
    hot = _hot(data)
    if hot is None:
        return []
    plain = {"reference_method": "baseline", "reference_temperature": hot}
    row = _gain(data, f"baseline{STAR}", hot, "none", attack="clean", **plain)
    return [judge_row(f"clean accuracy at T = {hot:g}", row, _above_zero)]


def hot_illusion(data: Evidence) -> list[Finding]:
    """C24: as served, the hot model stands above its own scale-free answer."""
    hot = _hot(data)
    return [] if hot is None else [judge_row(f"T = {hot:g}", _illusion(data, f"baseline{STAR}", hot), _above_zero)]


def transfer_is_weaker(data: Evidence) -> list[Finding]:
    """C25: examples of the cold model leave more standing than the scale-free attack, by more than the margin."""
    method, hot = f"baseline{STAR}", _hot(data)
    if hot is None:
        return []
    own = {"adversary": f"transfer:{method}", "training_temperature": hot}
    row = illusion(data.training, method, attack=data.attack, **own)
    return [judge_row(f"T = {hot:g}", row, lambda row: row["low"] > EQUIVALENCE_MARGIN)]


def not_length(data: Evidence) -> list[Finding]:
    """C26: trained longer, the hot model still gains over the cold one trained as long."""
    found = []
    for method in _methods(data):
        if method.startswith(f"baseline{STAR}(epochs="):
            hot = _hot(data, method)
            row = None if hot is None else _gain(data, method, hot, "margin")
            found.append(judge_row(f"{method}, T = {hot or 0:g}", row, _above_zero))
    return found


def range_grows(data: Evidence) -> list[Finding]:
    """C27: from each training temperature to the next the mean logit range grows, intervals apart."""
    rows = _rows(data, method=f"baseline{STAR}", metric="logit_range").sort_values("training_temperature")
    rows = rows.drop_duplicates("training_temperature", keep="last")
    return [
        Finding(
            f"T = {low['training_temperature']:g} to {high['training_temperature']:g}",
            "holds" if high["low"] > low["high"] else "fails",
            f"{low['mean']:.3g} -> {high['mean']:.3g}",
            sample_text(high),
        )
        for low, high in _successive(rows)
    ]


def _successive(rows: pd.DataFrame) -> Iterator[tuple[pd.Series, pd.Series]]:
    for at in range(len(rows) - 1):
        yield rows.iloc[at], rows.iloc[at + 1]


def schedules_beat_constant(data: Evidence) -> list[Finding]:
    """O4: a schedule leaves more standing than the constant it ends or begins at, and is about as accurate."""
    constant, hot = f"baseline{STAR}", _hot(data)
    found = []
    for method in dict.fromkeys(data.training.method):
        if hot is None or method not in {f"{constant}({name})" for name in SCHEDULES}:
            continue
        over = {"reference_method": constant, "reference_temperature": hot}
        robust = _gain(data, method, hot, "margin", **over)
        clean = _gain(data, method, hot, "none", attack="clean", **over)
        if robust is None or clean is None:
            found.append(Finding(method, "missing"))
            continue
        accurate = clean["mean"] > -CLEAN_MARGIN
        finding = judge_row(method, robust, lambda row, accurate=accurate: row["low"] > 0 and accurate)
        found.append(replace(finding, measured=f"{finding.measured} (clean {clean['mean']:+.1f})"))
    return found


_ABOVE_SELF = "points above the scale-free attack on the same model"
_OVER_COLD = "points over the same training at T = 1, same adversary"

# Claim -> (its test, what the numbers are), as in `robustlib.study.claims.served`.
TESTS: dict[str, tuple[Callable[[Evidence], list[Finding]], str]] = {
    "C4": (overconfident, f"mean confidence, points over standard training (clipping: within {CONFIDENCE_MARGIN:g})"),
    "C5": (starred_illusion, f"as served, {_ABOVE_SELF}"),
    "C12": (no_star_no_illusion, f"as served, {_ABOVE_SELF} (none: below {EQUIVALENCE_MARGIN:g})"),
    "C15": (more_steps, "points over DDi-AT with K = 3"),
    "C17": (hot_gain, _OVER_COLD),
    "C18": (adds_to_adversarial_training, _OVER_COLD),
    "C19": (seen_attack, f"{_OVER_COLD} (no gain: below {EQUIVALENCE_MARGIN:g})"),
    "C20": (one_for_all, _OVER_COLD),
    "C23": (star_protects, "points over training without normalisation at the same T"),
    "C24": (hot_illusion, f"as served, {_ABOVE_SELF}"),
    "C25": (transfer_is_weaker, f"{_ABOVE_SELF} (no substitute: over {EQUIVALENCE_MARGIN:g})"),
    "C26": (not_length, _OVER_COLD),
    "C27": (range_grows, "mean logit range"),
    "O4": (schedules_beat_constant, "points over the constant T under log-odds"),
}
