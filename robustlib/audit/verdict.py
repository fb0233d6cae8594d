"""From findings and rungs to a verdict: a pure function, so that every rule can be tried on a made-up audit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustlib.audit.case import difference_of
from robustlib.audit.findings import Difference, Finding, Rung

THRESHOLD = 5.0  # points of a gap that counts; honest models show up to 4
BLINDING = (
    "answers.labels",
    "gradient.missing",
    "gradient.nan",
    "gradient.zero",
    "gradient.differences",
    "boundary.jump",
    "attack.radius",
)

# Signs that scores do not show what decides. Without any, a black-box attack that does better is a better attack. A
# scale is none: it hides nothing from a search by margins, unless it has turned probabilities into 0 and 1.
HIDING = {*BLINDING, "answers.coarse", "answers.finite", "answers.random", "answers.ties", "scores.direction"}

REMEDIES = {
    "no illusion found": "quote the upper bound with its attacks; an attacker made for this model may do better",
    "miscalibration": "publish the upper bound, serve logits divided by T*, compare models by margin or AutoAttack",
    "masked": "publish the upper bound, and evaluate what lies behind the mask",
    "inconclusive": "hand in logits, or a model that gradients can pass, and audit again",
    "broken": "fix this first, then audit again: the other numbers mean little until then",
}


@dataclass(frozen=True)
class Verdict:
    """The verdict with its reason and remedy, the rung that leaves least, and how much below the usual attack it is."""

    verdict: str
    reason: str
    remedy: str
    found_by: str = ""
    gap: Difference | None = None


def judge(findings: list[Finding], rungs: list[Rung]) -> Verdict:
    """The rules, in order.

    1. A fatal finding: broken.
    2. The rung that leaves least lies more than 5 points below the usual attack, and surely below: an illusion. It is
       miscalibration if a temperature or a scale-free score closes more of the gap than it leaves, else masked.
       Two gaps are no evidence of a mask: those of labels alone, of which the usual attack is no more than one among
       others, and those that a surrogate or decisions open beyond all other attacks where no finding says that scores
       hide anything.
    3. No illusion, but the search was blind (a finding of `BLINDING`, coarse answers): inconclusive, unless the usual
       attack leaves so little that no gap could count.
    4. Otherwise none was found.
    """
    served = next((rung for rung in rungs if rung.family == "served" and rung.status == "done"), None)
    bound = [rung for rung in rungs if rung.status == "done" and rung.family != "sanity"]
    low = min(bound, key=lambda rung: rung.accuracy.percent, default=None)
    gap = None
    if served is not None and low is not None:
        gap = difference_of(np.array(served.standing), np.array(low.standing))
    found_by = low.name if low else ""
    if fatal := [finding for finding in findings if finding.severity == "fatal"]:
        reason = "; ".join(finding.sentence for finding in fatal)
        return Verdict("broken", reason, REMEDIES["broken"], found_by, gap)
    if served is None or gap is None:
        return Verdict("inconclusive", "the usual attack did not finish", _instead(findings), found_by, gap)
    flagged = {finding.name for finding in findings if finding.severity != "fine"}
    if gap.points > THRESHOLD and gap.low > 0 and "answers.labels" not in flagged:
        if low.family == "black box" and not (flagged & HIDING or _lost_in_probabilities(findings)):
            return _beyond_scores(served, low, gap, bound, findings)
        return _illusion(served, low, low, gap, bound, findings)
    if served.accuracy.percent > THRESHOLD and (reasons := _blind(findings)):
        reason = f"the answers hide what a search needs ({'; '.join(reasons)})"
        return Verdict("inconclusive", reason, _instead(findings), found_by, gap)
    if not any(rung.family in ("scale", "strength", "black box") for rung in bound):
        reason = "no attack beside the usual one finished"
        return Verdict("inconclusive", reason, "give it more time (budget)", found_by, gap)
    reason = (
        f"{len(bound)} attacks leave at least {low.accuracy.percent:.1f} %, the usual one "
        f"{served.accuracy.percent:.1f} %: {max(gap.points, 0):.1f} points apart"
    )
    if any(f.name.startswith("scale.") and f.severity == "warning" for f in findings):
        reason += "; the model is miscalibrated, but that hides nothing here"
    return Verdict("no illusion found", reason, REMEDIES["no illusion found"], found_by, gap)


def _lost_in_probabilities(findings: list[Finding]) -> bool:
    """Whether probabilities beyond float32's wall were answered, which no logarithm brings back."""
    gives = [finding.values.get("gives") for finding in findings if finding.name == "answers.kind"]
    walls = any(finding.name == "scale.walls" and finding.severity != "fine" for finding in findings)
    return walls and "probabilities" in gives


def _stronger(served: Rung, low: Rung) -> str:
    return (
        f"{low.name} ({low.adversary}) leaves {low.accuracy.percent:.1f} %, the usual attack "
        f"{served.accuracy.percent:.1f} %, but nothing says that scores are hidden: it may just be the better attack"
    )


def _beyond_scores(served: Rung, low: Rung, gap: Difference, bound: list[Rung], findings: list[Finding]) -> Verdict:
    """A surrogate or decisions did best, and nothing says that scores hide anything: what the others show decides."""
    others = [rung for rung in bound if rung.family != "black box"]
    least = min(others, key=lambda rung: rung.accuracy.percent)
    seen = difference_of(np.array(served.standing), np.array(least.standing))
    if seen.points > THRESHOLD and seen.low > 0:
        return _illusion(served, least, low, gap, others, findings)
    return Verdict("inconclusive", _stronger(served, low), _instead(findings), low.name, gap)


def _illusion(
    served: Rung, low: Rung, least: Rung, gap: Difference, bound: list[Rung], findings: list[Finding]
) -> Verdict:
    """An illusion by the least that attacks leave which count as evidence, `low`, and that any leaves, `least`."""
    scales = [rung for rung in bound if rung.family in ("served", "scale")]
    scale = min(scales, key=lambda rung: rung.accuracy.percent)
    by_scale = served.accuracy.percent - scale.accuracy.percent
    by_mask = scale.accuracy.percent - low.accuracy.percent
    size = f"{served.accuracy.percent:.1f} % as served, at most {least.accuracy.percent:.1f} %"
    if by_scale > by_mask:
        reason = f"{size}: {by_scale:.1f} points fall to {scale.name} ({scale.adversary})"
        if by_mask > THRESHOLD:
            reason += f", {by_mask:.1f} more to {low.name} ({low.adversary})"
        return Verdict("miscalibration", reason, REMEDIES["miscalibration"], least.name, gap)
    reason = f"{size}: {by_mask:.1f} points fall to {low.name} ({low.adversary})"
    if by_scale > THRESHOLD:
        reason += f", {by_scale:.1f} to {scale.name} ({scale.adversary})"
    if kinds := _kinds(findings):
        reason += f"; the answers are {', '.join(kinds)}"
    return Verdict("masked", reason, REMEDIES["masked"], least.name, gap)


def _kinds(findings: list[Finding]) -> list[str]:
    """Names of the masks that the findings point to."""
    flagged = {finding.name for finding in findings if finding.severity in ("warning", "note", "fatal")}
    names = {
        "answers.labels": "labels only",
        "answers.random": "random",
        "answers.coarse": "rounded",
        "gradient.zero": "without a gradient",
        "gradient.missing": "cut off from the gradient",
        "gradient.nan": "of NaN gradients",
        "gradient.differences": "shattered (gradients do not foretell them)",
        "boundary.jump": "not what decides (they jump at the boundary)",
        "scores.direction": "misleading (they do not lead where a surrogate gets)",
    }
    return [word for name, word in names.items() if name in flagged]


def _blind(findings: list[Finding]) -> list[str]:
    """Why a search that found nothing need not mean much; nothing where a part behind the answers was searched well."""
    names = {finding.name for finding in findings}
    if "inner.sound" in names:
        return []
    passed = {"gradient.nan"} if "inside.sound" in names else set()
    blinding = set(BLINDING) - passed
    reasons = [f.sentence for f in findings if f.name in blinding and f.severity in ("warning", "note")]
    for finding in findings:
        if finding.name == "answers.coarse" and finding.values["distinct"] < finding.values["blind"]:
            reasons.append(finding.sentence)
    return reasons


def _instead(findings: list[Finding]) -> str:
    """What to hand in instead."""
    names = {finding.name for finding in findings if finding.severity != "fine"}
    if "answers.labels" in names:
        return "hand in scores (logits or probabilities) instead of labels, and audit again"
    if "answers.coarse" in names:
        return "hand in unrounded scores, at best logits, and audit again"
    if names & {"gradient.missing", "gradient.zero", "gradient.nan", "gradient.differences"}:
        return "hand in the model without the step that stops gradients, or a surrogate= that gradients can pass"
    return REMEDIES["inconclusive"]
