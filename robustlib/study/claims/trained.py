"""The scorecard's tests of the training half (C4, C5, C12, C15, C17 to C20, C23 to C27, O4): notebooks 08, 09, 13."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from itertools import pairwise

import numpy as np
import pandas as pd

from robustlib.models.pretrained import describe
from robustlib.study.claims.findings import BASELINE, Evidence, gain, illusion, minus
from robustlib.study.claims.rules import (
    CLEAN_COST,
    WORTH_REMOVING,
    Finding,
    above,
    below,
    equal,
    interval_text,
    judge_row,
    sample_text,
)
from robustlib.study.claims.served import BLIND, Test
from robustlib.study.records import HONEST, Reference, difference, matching
from robustlib.training.loop import Training
from robustlib.training.methods import Method
from robustlib.training.schedules import SCHEDULES

# Names are made from settings, as the records' are.
MAIN, CLIPPED = (Training(gradient_rule=rule).label for rule in ("normalise", "clip"))
STAR = MAIN.removeprefix(BASELINE)
PAPER_TEMPERATURE = 200.0  # where a claim names it; of what was trained, the nearest in decades is judged


def _rows(data: Evidence, **columns: object) -> pd.DataFrame:
    return matching(data.training, design_temperature=1, **columns)


def _trainings(data: Evidence) -> pd.DataFrame:
    """The trainings at T = 1 in the usual number of steps by their names, in the columns of `LABEL`."""
    rows = _rows(data, training_temperature=1, metric="accuracy", schedule="", epochs="", n_train="")
    return rows.drop_duplicates("method").set_index("method")


def _illusion(data: Evidence, method: str, temperature: float = 1.0, **options: str) -> pd.Series | None:
    return illusion(data.training, method, attack=data.attack, training_temperature=temperature, **options)


def _gain(data: Evidence, method: str, temperature: float, adversary: str, **options: object) -> pd.Series | None:
    """`claims.gain` as recorded, or else from the accuracies of both models."""
    options = {"attack": data.attack} | options
    recorded = gain(data.training, method, adversary=adversary, training_temperature=temperature, **options)
    if recorded is not None:
        return recorded
    common = {"metric": "accuracy", "adversary": adversary, "attack": options["attack"]}
    reference = options.get("reference_method", method), options.get("reference_temperature", 1.0)
    both = [_rows(data, method=m, training_temperature=t, **common) for m, t in ((method, temperature), reference)]
    if any(rows.empty for rows in both):
        return None
    row, other = (rows.iloc[-1] for rows in both)
    return minus(row, other) if row["n"] == other["n"] else None


def _hot(data: Evidence, method: str = MAIN) -> float | None:
    """The training temperature nearest to the paper's among those this method was trained at."""
    temperatures = sorted(t for t in _rows(data, method=method).training_temperature.unique() if t > 1)
    return min(temperatures, key=lambda t: abs(np.log(t / PAPER_TEMPERATURE))) if temperatures else None


def _at_high_temperature(test: Callable[[Evidence, float, float], list[Finding]]) -> Test:
    """Make a test of `(data, smallest, hot)` one of the first two; without a hot model it finds nothing."""

    @wraps(test)
    def at_hot(data: Evidence, smallest: float) -> list[Finding]:
        hot = _hot(data)
        return [] if hot is None else test(data, smallest, hot)

    return at_hot


def _clean_cost(data: Evidence, method: str, temperature: float, prefix: str = "", **reference: object) -> Finding:
    row = _gain(data, method, temperature, "naive", attack="clean", **reference)
    return judge_row(f"{prefix}clean accuracy at T = {temperature:g}", row, above(-CLEAN_COST), condition=True)


def overconfident(data: Evidence, smallest: float) -> list[Finding]:
    """C4: normalisation raises mean confidence on the same examples; clipping leaves it equal."""
    findings = []
    for words, method, rule in (("normalisation", MAIN, above(smallest)), ("clipping", CLIPPED, equal(smallest))):
        model = {"method": method, "design_temperature": 1}
        row = difference(data.training, reference=HONEST, metric="confidence_difference", attack="clean", **model)
        findings.append(judge_row(words, row, rule, part=words))
    return findings


def starred_illusion(data: Evidence, smallest: float) -> list[Finding]:
    """C5: every model trained with normalised gradients stands above its own scale-free answer as served."""
    starred = _trainings(data).query("rule == 'norm'")
    return [judge_row(method, _illusion(data, method), above(smallest)) for method in starred.index]


def no_star_no_illusion(data: Evidence, smallest: float) -> list[Finding]:
    """C12: adversarially trained without normalisation, a model has no illusion, where with it there is one."""
    plain = _trainings(data).query("family != @BASELINE and rule == ''")
    findings = []
    for method in plain.index:
        finding = judge_row(method, _illusion(data, method), equal(smallest))
        starred = judge_row(method, _illusion(data, f"{method}{STAR}"), above(smallest))
        if finding.outcome == "holds" and starred.outcome in ("fails", "open"):
            outcome = {"fails": "void", "open": "open"}[starred.outcome]
            finding = replace(finding, outcome=outcome, measured=f"{finding.measured} (normalised {starred.measured})")
        findings.append(finding)
    return findings


def more_steps(data: Evidence, smallest: float) -> list[Finding]:
    """C15: with the most PGD steps DDi stands lower as served than with 3, and higher under the scale-free attack.

    Void where 3 steps leave no illusion that could shrink.
    """
    known = _trainings(data).index
    names = (Training(method=Method("ddi", steps), gradient_rule="normalise").label for steps in range(1, 100))
    trained = [name for name in names if name in known]
    if len(trained) < 2:
        return []
    few, many = Training(method=Method("ddi", 3), gradient_rule="normalise").label, trained[-1]
    served, scale_free = (_gain(data, many, 1.0, adversary, reference_method=few) for adversary in ("naive", "margin"))
    findings = [
        judge_row(f"{many}, as served", served, below(-smallest), part="as served"),
        judge_row(f"{many}, log-odds", scale_free, above(smallest), part="log-odds"),
    ]
    to_shrink = _illusion(data, few)
    if to_shrink is not None and not to_shrink["low"] > WORTH_REMOVING:
        return [replace(finding, outcome="void") for finding in findings if finding.outcome != "missing"]
    return findings


@_at_high_temperature
def hot_gain(data: Evidence, smallest: float, hot: float) -> list[Finding]:
    """C17: training at high temperature raises adversarial accuracy after `cal`, and under log-odds, at little cost."""
    return _gains_over_cold(data, smallest, MAIN, hot)


def adds_to_adversarial_training(data: Evidence, smallest: float) -> list[Finding]:
    """C18: the same on top of each adversarial training."""
    trainings = _trainings(data)
    adversarial = trainings[~trainings.family.isin([BASELINE, Method("dg-aug").label])]
    hot = {method: _hot(data, method) for method in adversarial.index}
    return [f for m, t in hot.items() if t is not None for f in _gains_over_cold(data, smallest, m, t, f"{m}, ")]


def _gains_over_cold(data: Evidence, smallest: float, method: str, hot: float, prefix: str = "") -> list[Finding]:
    gains = {adversary: _gain(data, method, hot, adversary) for adversary in ("cal", "margin")}
    judged = [judge_row(f"{prefix}{name} at T = {hot:g}", row, above(smallest)) for name, row in gains.items()]
    return [*judged, _clean_cost(data, method, hot, prefix)]


def seen_attack(data: Evidence, smallest: float) -> list[Finding]:
    """C19: high temperature gains nothing on the attack whose examples were trained on, but does on another.

    Void where it gains nothing on an unseen attack either: then nothing is special about the seen one.
    """
    method = Training(method=Method("dg-aug"), gradient_rule="normalise").label
    hot = _hot(data, method)
    if hot is None:
        return []
    seen = judge_row(f"dg at T = {hot:g}", _gain(data, method, hot, "margin", attack="dg"), below(smallest))
    attacks = dict.fromkeys(_rows(data, method=method, training_temperature=hot, metric="accuracy").attack)
    unseen = [attack for attack in attacks if attack not in ("dg", "clean")]
    contrast = [
        judge_row(f"{a} at T = {hot:g}", _gain(data, method, hot, "margin", attack=a), above(smallest), condition=True)
        for a in unseen
    ]
    if contrast and all(finding.outcome == "fails" for finding in contrast) and seen.outcome == "holds":
        return [replace(finding, outcome="void") for finding in [seen, *contrast]]
    return [seen, *(contrast or [Finding("an unseen attack", "missing", condition=True)])]


@_at_high_temperature
def one_for_all(data: Evidence, smallest: float, hot: float) -> list[Finding]:
    """C20: one temperature gains on every attack and is about the best for each; the largest one hurts."""
    rows = _rows(data, method=MAIN, metric="accuracy", adversary="margin").sort_values("training_temperature")
    rows = rows.drop_duplicates(["attack", "training_temperature"], keep="last")
    curves = {
        attack: {row["training_temperature"]: row for _, row in g.iterrows()}
        for attack, g in rows.groupby("attack", sort=False)
    }
    curves = {attack: curve for attack, curve in curves.items() if hot in curve}
    findings = [
        judge_row(f"{attack} at T = {hot:g}", _gain(data, MAIN, hot, "margin", attack=attack), above(smallest))
        for attack in curves
    ]
    if len(findings) < 2:  # one attack cannot show that one temperature serves all
        findings.append(Finding("a second attack", "missing"))
    largest = _rows(data, method=MAIN).training_temperature.max()
    for attack, curve in curves.items():
        best = max(curve, key=lambda t: curve[t]["mean"])
        if best != hot:
            where = f"{attack}, T = {hot:g} minus its best T = {best:g}"
            findings.append(judge_row(where, minus(curve[hot], curve[best]), above(-smallest), condition=True))
        findings.append(_declines(attack, curve, hot, largest, smallest))
    clean = _gain(data, MAIN, largest, "naive", attack="clean") if largest > hot else None
    return [*findings, judge_row(f"clean accuracy at T = {largest:g}", clean, below(-smallest))]


def _declines(attack: str, curve: dict[float, pd.Series], hot: float, largest: float, smallest: float) -> Finding:
    if largest <= hot or largest not in curve:
        return Finding(f"{attack} beyond T = {hot:g}", "missing", condition=True)
    row = minus(curve[largest], curve[hot])
    return judge_row(f"{attack}, T = {largest:g} minus T = {hot:g}", row, below(-smallest), condition=True)


def helps_other_encoders(data: Evidence, smallest: float) -> list[Finding]:
    """C21: the gain of `hot_gain` on other encoders, each at the highest temperature it was trained at."""
    findings = []
    for model, rows in data.other_encoders.groupby("model", sort=False):
        hot = matching(rows, method=MAIN).training_temperature.max()
        if not hot > 1:
            continue
        for adversary in ("cal", "margin"):
            row = gain(rows, MAIN, attack=data.attack, adversary=adversary, training_temperature=hot)
            findings.append(judge_row(f"{describe(model)}, {adversary} at T = {hot:g}", row, above(smallest)))
    return findings


@_at_high_temperature
def star_protects(data: Evidence, smallest: float, hot: float) -> list[Finding]:
    """C23: at high temperature the normalised model is the more accurate one on clean examples."""
    plain = {"reference_method": "baseline", "reference_temperature": hot}
    row = _gain(data, MAIN, hot, "naive", attack="clean", **plain)
    return [judge_row(f"clean accuracy at T = {hot:g}", row, above(smallest))]


@_at_high_temperature
def hot_illusion(data: Evidence, smallest: float, hot: float) -> list[Finding]:
    """C24: as served, the hot model stands above its own scale-free answer, whether T is dropped or divided by."""
    findings = [judge_row(f"T = {hot:g} dropped", _illusion(data, MAIN, hot), above(smallest))]
    model = {"method": MAIN, "training_temperature": hot, "design_temperature": hot, "adversary": "naive"}
    reference = Reference(MAIN, "margin", training_temperature=hot)
    divided = difference(data.training, reference=reference, attack=data.attack, **model)
    return [*findings, judge_row(f"divided by T = {hot:g}", divided, above(smallest), condition=True)]


@_at_high_temperature
def transfer_is_weaker(data: Evidence, smallest: float, hot: float) -> list[Finding]:
    """C25: examples of the cold model leave more standing than the scale-free attack."""
    transfer = f"transfer:{MAIN}"
    row, blind = (_illusion(data, MAIN, hot, adversary=adversary) for adversary in (transfer, f"{BLIND}{transfer}"))
    finding = judge_row(f"T = {hot:g}", row, above(smallest))
    if row is None or blind is None:
        return [finding]
    return [replace(finding, measured=f"{finding.measured} (blind edits {interval_text(blind, signed=True)})")]


def not_length(data: Evidence, smallest: float) -> list[Finding]:
    """C26: trained longer, the hot model still gains over the cold one trained as long, at little cost."""
    findings = []
    cold = _rows(data, training_temperature=1, metric="accuracy", family=BASELINE, rule="norm", n_train="")
    for method in dict.fromkeys(cold[cold.epochs != ""].method):
        hot = _hot(data, method)
        row = None if hot is None else _gain(data, method, hot, "margin")
        findings.append(judge_row(f"{method}, T = {hot or 0:g}", row, above(smallest)))
        if hot is not None:
            findings.append(_clean_cost(data, method, hot, f"{method}, "))
    return findings


def range_grows(data: Evidence, smallest: float) -> list[Finding]:
    """C27: from the first training temperature to the last the mean logit range grows, and it falls at no step.

    Changes in percent, from the ends of both intervals.
    """
    rows = _rows(data, method=MAIN, metric="logit_range").sort_values("training_temperature")
    rows = rows.drop_duplicates("training_temperature", keep="last").to_dict("records")
    if len(rows) < 2:
        return []
    whole = _growth(rows[0], rows[-1], smallest)
    return [whole, *(replace(_growth(a, b, -smallest), condition=True) for a, b in pairwise(rows))]


def _growth(low: dict, high: dict, threshold: float) -> Finding:
    ends = 100 * (high["low"] / low["high"] - 1), 100 * (high["high"] / low["low"] - 1)
    where = f"T = {low['training_temperature']:g} to {high['training_temperature']:g}"
    text = f"{low['mean']:.3g} -> {high['mean']:.3g}"
    return Finding(where, above(threshold)(ends), text, sample_text(high))


@_at_high_temperature
def schedules_beat_constant(data: Evidence, smallest: float, hot: float) -> list[Finding]:
    """O4: a schedule leaves more standing than the constant it ends or begins at, and is about as accurate."""
    others = (name for name in SCHEDULES if name != "constant")
    scheduled = {Training(gradient_rule="normalise", temperature_schedule=name).label for name in others}
    constant = {"reference_method": MAIN, "reference_temperature": hot}
    findings = []
    for method in (method for method in dict.fromkeys(data.training.method) if method in scheduled):
        findings.append(judge_row(method, _gain(data, method, hot, "margin", **constant), above(smallest)))
        findings.append(_clean_cost(data, method, hot, f"{method}, ", **constant))
    return findings


_ABOVE_SELF = "points above the scale-free attack on the same model"
_OVER_COLD = "points over the same training at T = 1, same adversary"

# Claim -> (its test, what the numbers are), as in `robustlib.study.claims.served`.
TESTS: dict[str, tuple[Test, str]] = {
    "C4": (overconfident, "mean confidence, points over standard training"),
    "C5": (starred_illusion, f"as served, {_ABOVE_SELF}"),
    "C12": (no_star_no_illusion, f"as served, {_ABOVE_SELF}"),
    "C15": (more_steps, "points over DDi-AT with K = 3"),
    "C17": (hot_gain, _OVER_COLD),
    "C18": (adds_to_adversarial_training, _OVER_COLD),
    "C19": (seen_attack, _OVER_COLD),
    "C20": (one_for_all, _OVER_COLD),
    "C21": (helps_other_encoders, _OVER_COLD),
    "C23": (star_protects, "points over training without normalisation at the same T"),
    "C24": (hot_illusion, f"as served, {_ABOVE_SELF}"),
    "C25": (transfer_is_weaker, _ABOVE_SELF),
    "C26": (not_length, _OVER_COLD),
    "C27": (range_grows, "mean logit range"),
    "O4": (schedules_beat_constant, "points over the constant T under log-odds"),
}
