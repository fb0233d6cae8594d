"""The scorecard's tests of the training half (C4, C5, C12, C15, C17 to C20, C23 to C27, O4): notebooks 08 and 09."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from itertools import pairwise

import numpy as np
import pandas as pd

from robustlib.study.claims.findings import (
    EQUIVALENCE_MARGIN,
    Evidence,
    Finding,
    above,
    below,
    gain,
    illusion,
    judge_row,
    sample_text,
    within,
)
from robustlib.study.records import HONEST, difference, matching
from robustlib.training.schedules import SCHEDULES

STAR = "_gradnorm"
MAIN = f"baseline{STAR}"
PAPER_TEMPERATURE = 200.0  # where a claim names it; of what was trained, the nearest in decades is judged
CONFIDENCE_MARGIN = 2.0  # points of mean confidence that count as no change
CLEAN_MARGIN = 2.0  # points of clean accuracy that a schedule may lose and count as equally accurate


def _rows(data: Evidence, **columns: object) -> pd.DataFrame:
    """Recorded rows with these columns, of models served undivided."""
    return matching(data.training, design_temperature=1, **columns)


def _methods(data: Evidence) -> list[str]:
    return list(dict.fromkeys(_rows(data, training_temperature=1, metric="accuracy").method))


def _illusion(data: Evidence, method: str, temperature: float = 1.0, **options: str) -> pd.Series | None:
    return illusion(data.training, method, attack=data.attack, training_temperature=temperature, **options)


def _gain(data: Evidence, method: str, temperature: float, adversary: str, **options: object) -> pd.Series | None:
    options = {"attack": data.attack} | options
    return gain(data.training, method, adversary=adversary, training_temperature=temperature, **options)


def _hot(data: Evidence, method: str = MAIN) -> float | None:
    """The training temperature nearest to the paper's among those this method was trained at."""
    temperatures = sorted(t for t in _rows(data, method=method).training_temperature.unique() if t > 1)
    return min(temperatures, key=lambda t: abs(np.log(t / PAPER_TEMPERATURE))) if temperatures else None


def _at_high_temperature(test: Callable[[Evidence, float], list[Finding]]) -> Callable[[Evidence], list[Finding]]:
    """Make a test of `(data, hot)` one of the data; without a model trained at high temperature it finds nothing."""

    @wraps(test)
    def at_hot(data: Evidence) -> list[Finding]:
        hot = _hot(data)
        return [] if hot is None else test(data, hot)

    return at_hot


def overconfident(data: Evidence) -> list[Finding]:
    """C4: normalisation raises mean confidence on the same examples; clipping leaves it within the margin."""
    findings = []
    for words, method, holds in (
        ("normalisation", MAIN, above(0)),
        ("clipping", "baseline_gradclip", within(CONFIDENCE_MARGIN)),
    ):
        model = {"method": method, "design_temperature": 1}
        row = difference(data.training, reference=HONEST, metric="confidence_difference", attack="clean", **model)
        findings.append(replace(judge_row(words, row, holds), part=words))
    return findings


def starred_illusion(data: Evidence) -> list[Finding]:
    """C5: every model trained with normalised gradients stands above its own scale-free answer as served."""
    starred = [method for method in _methods(data) if method.endswith(STAR)]
    return [judge_row(method, _illusion(data, method), above(0)) for method in starred]


def no_star_no_illusion(data: Evidence) -> list[Finding]:
    """C12: adversarially trained without normalisation, a model has less illusion than the margin."""
    plain = [m for m in _methods(data) if not m.startswith("baseline") and not m.endswith((STAR, "_gradclip"))]
    return [judge_row(method, _illusion(data, method), below(EQUIVALENCE_MARGIN)) for method in plain]


def more_steps(data: Evidence) -> list[Finding]:
    """C15: with the most PGD steps DDi stands lower as served than with 3, and higher under the scale-free attack."""
    trained = [method for method in _methods(data) if method.startswith("ddi-at(M=3,") and method.endswith(STAR)]
    if len(trained) < 2:
        return []
    few, many = f"ddi-at(M=3,K=3){STAR}", max(trained, key=lambda method: int(method.split("K=")[1].split(")")[0]))
    served, scale_free = (_gain(data, many, 1.0, adversary, reference_method=few) for adversary in ("none", "margin"))
    return [judge_row(f"{many}, as served", served, below(0)), judge_row(f"{many}, log-odds", scale_free, above(0))]


@_at_high_temperature
def hot_gain(data: Evidence, hot: float) -> list[Finding]:
    """C17: training at high temperature raises adversarial accuracy after `cal`, and under log-odds."""
    return _gains_over_cold(data, MAIN, hot)


def adds_to_adversarial_training(data: Evidence) -> list[Finding]:
    """C18: the same on top of each adversarial training."""
    methods = [method for method in _methods(data) if not method.startswith(("baseline", "dg-aug"))]
    hot = {method: _hot(data, method) for method in methods}
    return [f for m, t in hot.items() if t is not None for f in _gains_over_cold(data, m, t, f"{m}, ")]


def _gains_over_cold(data: Evidence, method: str, hot: float, prefix: str = "") -> list[Finding]:
    gains = {adversary: _gain(data, method, hot, adversary) for adversary in ("cal", "margin")}
    return [judge_row(f"{prefix}{name} at T = {hot:g}", row, above(0)) for name, row in gains.items()]


def seen_attack(data: Evidence) -> list[Finding]:
    """C19: on the attack whose examples were trained on, high temperature gains less than the margin."""
    method = f"dg-aug{STAR}"
    hot = _hot(data, method)
    if hot is None:
        return []
    row = _gain(data, method, hot, "margin", attack="dg")
    return [judge_row(f"dg at T = {hot:g}", row, below(EQUIVALENCE_MARGIN))]


@_at_high_temperature
def one_for_all(data: Evidence, hot: float) -> list[Finding]:
    """C20: one temperature gains on every attack, and the largest one costs clean accuracy."""
    rows = _rows(data, method=MAIN, training_temperature=hot, metric="accuracy", adversary="margin")
    gains = {attack: _gain(data, MAIN, hot, "margin", attack=attack) for attack in dict.fromkeys(rows.attack)}
    findings = [judge_row(f"{attack} at T = {hot:g}", row, above(0)) for attack, row in gains.items()]
    if len(findings) < 2:  # one attack cannot show that one temperature serves all
        findings.append(Finding("a second attack", "missing"))
    largest = _rows(data, method=MAIN).training_temperature.max()
    clean = _gain(data, MAIN, largest, "none", attack="clean")
    return [*findings, judge_row(f"clean accuracy at T = {largest:g}", clean, below(0))]


@_at_high_temperature
def star_protects(data: Evidence, hot: float) -> list[Finding]:
    """C23: at high temperature the normalised model is the more accurate one on clean examples."""
    plain = {"reference_method": "baseline", "reference_temperature": hot}
    row = _gain(data, MAIN, hot, "none", attack="clean", **plain)
    return [judge_row(f"clean accuracy at T = {hot:g}", row, above(0))]


@_at_high_temperature
def hot_illusion(data: Evidence, hot: float) -> list[Finding]:
    """C24: as served, the hot model stands above its own scale-free answer."""
    return [judge_row(f"T = {hot:g}", _illusion(data, MAIN, hot), above(0))]


@_at_high_temperature
def transfer_is_weaker(data: Evidence, hot: float) -> list[Finding]:
    """C25: examples of the cold model leave more standing than the scale-free attack, by more than the margin."""
    row = _illusion(data, MAIN, hot, adversary=f"transfer:{MAIN}")
    return [judge_row(f"T = {hot:g}", row, above(EQUIVALENCE_MARGIN))]


def not_length(data: Evidence) -> list[Finding]:
    """C26: trained longer, the hot model still gains over the cold one trained as long."""
    longer = {method: _hot(data, method) for method in _methods(data) if method.startswith(f"{MAIN}(epochs=")}
    gains = {method: None if hot is None else _gain(data, method, hot, "margin") for method, hot in longer.items()}
    return [judge_row(f"{method}, T = {longer[method] or 0:g}", row, above(0)) for method, row in gains.items()]


def range_grows(data: Evidence) -> list[Finding]:
    """C27: from each training temperature to the next the mean logit range grows, intervals apart."""
    rows = _rows(data, method=MAIN, metric="logit_range").sort_values("training_temperature")
    rows = rows.drop_duplicates("training_temperature", keep="last").to_dict("records")
    return [
        Finding(
            f"T = {low['training_temperature']:g} to {high['training_temperature']:g}",
            "holds" if high["low"] > low["high"] else "fails",
            f"{low['mean']:.3g} -> {high['mean']:.3g}",
            sample_text(high),
        )
        for low, high in pairwise(rows)
    ]


@_at_high_temperature
def schedules_beat_constant(data: Evidence, hot: float) -> list[Finding]:
    """O4: a schedule leaves more standing than the constant it ends or begins at, and is about as accurate."""
    findings = []
    scheduled = {f"{MAIN}({name})" for name in SCHEDULES}
    for method in (method for method in dict.fromkeys(data.training.method) if method in scheduled):
        constant = {"reference_method": MAIN, "reference_temperature": hot}
        robust = _gain(data, method, hot, "margin", **constant)
        clean = _gain(data, method, hot, "none", attack="clean", **constant)
        if robust is None or clean is None:
            findings.append(Finding(method, "missing"))
            continue
        accurate = clean["mean"] > -CLEAN_MARGIN
        finding = judge_row(method, robust, lambda row, accurate=accurate: row["low"] > 0 and accurate)
        findings.append(replace(finding, measured=f"{finding.measured} (clean {clean['mean']:+.1f})"))
    return findings


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
