"""The record of an audit: the verdict, its evidence, and what the figures draw."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

import robustlib
from robustlib.audit import handed
from robustlib.audit.again import adversarial_of
from robustlib.audit.case import Case, accuracy_of
from robustlib.audit.findings import Audit, Finding, Rung
from robustlib.audit.subject import Subject
from robustlib.audit.verdict import THRESHOLD, judge


def record(
    case: Case, *, positions: np.ndarray, claim: float | None, complete: bool, budget: float | None, seconds: float
) -> Audit:
    """Everything as it is written down.

    Args:
        positions: of the examples in the data that was handed in.
    """
    served = case.served
    if served.batch_size < served.first_batch_size:
        sentence = f"memory ran out: batches were halved to {served.batch_size}"
        case.findings.append(Finding("attack.memory", "attack", "note", sentence, {"batch_size": served.batch_size}))
    verdict = judge(case.findings, case.rungs)
    bound = [rung for rung in case.rungs if rung.status == "done" and rung.family != "sanity"]
    usual = next((rung for rung in bound if rung.family == "served"), None)
    low = next((rung for rung in bound if rung.name == verdict.found_by), None)
    together = accuracy_of(np.min([rung.standing for rung in bound], axis=0)) if bound else None
    n = len(case.inputs)
    claim, outcome = _claimed(case, claim, low)
    settings = _settings(case, budget)
    return Audit(
        verdict=verdict.verdict,
        reason=verdict.reason,
        remedy=verdict.remedy,
        subject=_described(served.subject),
        settings=settings,
        clean=accuracy_of(case.clean) if n else None,
        as_served=usual.accuracy if usual else None,
        at_most=low.accuracy if low else None,
        together=together,
        gap=verdict.gap,
        found_by=verdict.found_by,
        smallest=smallest_gap(n),
        findings=tuple(case.findings),
        rungs=tuple(case.rungs),
        seconds=seconds,
        forwards=served.n_forward,
        backwards=served.n_backward,
        complete=complete,
        claim=claim,
        claim_outcome=outcome,
        curves=case.curves,
        adversarial=adversarial_of(case, positions, settings),
    )


def _claimed(case: Case, claim: float | None, low: Rung | None) -> tuple[float | None, str]:
    """The accuracy in percent that is tested, by default what the attack that was handed in leaves, and the outcome."""
    yours = next((rung for rung in case.rungs if rung.name == handed.YOURS and rung.status == "done"), None)
    if yours is not None and low is not None:
        case.findings.append(finding := handed.compared_with_yours(yours, low, THRESHOLD))
        if claim is None:
            return yours.accuracy.percent, "refuted" if finding.severity == "warning" else "not refuted"
    if claim is None or low is None:
        return None if claim is None else 100 * claim, ""
    return 100 * claim, "refuted" if low.accuracy.high < 100 * claim else "not refuted"


def _described(subject: Subject) -> dict[str, Any]:
    names = ("name", "gives", "modality", "n_classes")
    access = "gradients" if subject.module is not None else "answers"
    return {**{name: getattr(subject, name) for name in names}, "access": access, "notes": list(subject.notes)}


def _settings(case: Case, budget: float | None) -> dict[str, Any]:
    return {
        **plain_threat(case.threat),
        "n": len(case.inputs),
        "seed": case.seed,
        "budget": budget,
        "batch_size": case.served.batch_size,
        "draws": case.served.draws,
        "examples": digest(case.inputs, case.labels),
        "robustlib": robustlib.__version__,
        "torch": torch.__version__,
    }


def smallest_gap(n: int) -> float:
    """The smallest true gap, in points, that n examples show in four of five repetitions, at least the threshold.

    If every example that differs falls one way, a gap g has the standard error sqrt(g (1 - g) / n), and must be
    1.96 + 0.84 of them from 0.
    """
    factor = (1.96 + 0.84) ** 2
    return max(THRESHOLD, 100 * factor / (n + factor))


def digest(inputs: Any, labels: Tensor) -> str:
    """Sixteen hexadecimal digits that stand for these examples in this order."""
    content = hashlib.sha256(labels.cpu().numpy().tobytes())
    if isinstance(inputs, Tensor):
        content.update(inputs.detach().cpu().float().numpy().tobytes())
    else:
        content.update(json.dumps(list(inputs)).encode())
    return content.hexdigest()[:16]


def plain_threat(threat: dict[str, Any]) -> dict[str, Any]:
    """The threat as JSON holds it: a recipe by its name."""
    return {name: getattr(value, "name", value) for name, value in threat.items()}
