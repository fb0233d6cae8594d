"""What the figures of a report draw beside the rungs: accuracy against the radius, and reliability."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from torch import Tensor

from robustlib.audit.case import Case
from robustlib.audit.findings import Finding
from robustlib.audit.rungs import anything, climb, search_of
from robustlib.audit.verdict import THRESHOLD
from robustlib.calibration.metrics import reliability_bins, top_label

STEPS = 10
FACTORS = (0.5, 2.0)  # of the radius that is audited


def reliability(logits: Tensor, labels: Tensor) -> list[list[float]]:
    """[mean confidence, accuracy in %, examples] of each bin that holds any."""
    bins = reliability_bins(*top_label(logits.double().softmax(dim=1), labels))
    rows = zip(bins["confidence"], bins["accuracy"], bins["count"], strict=True)
    return [[float(confidence), 100 * float(share), int(n)] for confidence, share, n in rows if n]


def accuracy_by_radius(case: Case, found_by: str) -> dict[str, list[list[float]]]:
    """[radius, accuracy in %] of the usual attack and of the one that leaves least, up to a radius that allows all."""
    curves, epsilon = {}, case.threat["epsilon"]
    for label, name in (("as served", "as served"), ("at most", found_by)):
        rung = next((rung for rung in case.rungs if rung.name == name and rung.status == "done"), None)
        if rung is None or search_of(case, name) is None:
            continue
        curve = {0.0: 100 * float(case.clean.mean()), epsilon: rung.accuracy.percent}
        for radius in (*(factor * epsilon for factor in FACTORS), anything(case)):
            search, score = search_of(case, name)
            points = climb(case, search, score, epsilon=radius, steps=STEPS)
            curve[radius] = 100 * float(np.mean(case.standing(case.judged(points))))
        curves[label] = [list(point) for point in sorted(curve.items())]
    return curves


def rising(curves: dict[str, list[list[float]]], *, forwards: int) -> list[Finding]:
    """More room must never help the model: what stands at a larger radius stands at a smaller one.

    Args:
        forwards: passes that the curves cost, for the record.
    """
    rises = [b[1] - a[1] for curve in curves.values() for a, b in pairwise(curve)]
    if not rises:
        return []
    worst = max(rises)
    values = {"rise": worst, "threshold": THRESHOLD, "forwards": forwards}
    if worst > THRESHOLD:
        sentence = f"{worst:.0f} points more stand at a larger radius than at a smaller one: the search fails at some"
        return [Finding("attack.rising", "attack", "warning", sentence, values)]
    return [Finding("attack.rising", "attack", "fine", "a larger radius never leaves more", values)]
