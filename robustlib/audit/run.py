"""The audit from end to end: checks, then the ladder within the budget, then the verdict."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib.attacks.words import load_recipe
from robustlib.audit import checks, curves, gradients, handed, rungs, words
from robustlib.audit.case import Case, accuracy_of, difference_of, taken
from robustlib.audit.findings import Audit, Finding, Rung
from robustlib.audit.handed import Handed
from robustlib.audit.needed import always
from robustlib.audit.record import digest, record
from robustlib.audit.retraced import retraced
from robustlib.audit.rungs import IMAGE_LADDER, Plan
from robustlib.audit.served import Served, as_logits, device_of, left_alone, parts_that_predict
from robustlib.audit.state import Store
from robustlib.audit.subject import Subject
from robustlib.audit.verdict import judge
from robustlib.calibration.checks import check_counts, check_labels, check_pixels, check_radius
from robustlib.models.forward import mixed_seed, seeded
from robustlib.models.texts import check_texts

N_DRAWS = 8  # passes by which a random subject is judged
N_MORE = {"image": 1000, "text": 100}  # examples beyond n that are asked without an attack
FEWEST = 50  # examples that a small budget leaves
NO_GRADIENT = ("does not require grad", "not have been used in the graph")  # PyTorch's words
NOTHING = Handed()
REACHED = 5.0  # percent that may stand at a radius that allows anything


def audit_subject(
    subject: Subject,
    inputs: Any,
    labels: Tensor,
    *,
    epsilon: float | None = None,
    norm: str = "linf",
    recipe: str = "dg",
    n: int | None = None,
    budget: float | None = None,
    claim: float | None = None,
    random: bool = False,
    given: Handed = NOTHING,
    thorough: bool = False,
    figures: bool = True,
    seed: int = 0,
    batch_size: int | None = None,
    state: str | os.PathLike | None = None,
    tell: Callable[[str], None] | None = None,
) -> Audit:
    """Audit a subject: is its accuracy under attack an illusion?

    Args:
        inputs: images (N, channels, height, width) in [0, 1], or N texts or pairs. labels: (N,) class indices.
        epsilon: radius in pixel units (images). norm: "linf" or "l2". recipe: of substitutions (texts).
        n: examples that are attacked, drawn by `seed`; default 200 images or 100 texts. What is left over, up to
            1,000 images or 100 texts, calibrates; without any the attacked ones do, which leaks nothing to a bound.
        budget: seconds; rungs that would exceed it are skipped and named. Default: no limit.
        claim: the accuracy that one would publish, from 0 to 1.
        random: randomness is part of the model as served, and no mistake.
        given: a surrogate, an attack of one's own, the inputs of an earlier audit.
        thorough: run every rung, also where cheaper ones say that it is not needed.
        figures: measure the accuracy against the radius, too (images with gradients), for the report's figure.
        state: file in which finished rungs are kept, from which an interrupted audit goes on.
        tell: gets a line before each rung.

    Raises:
        TypeError, ValueError: inputs, labels, threat or numbers that make no audit. What the subject or an attack
            raises during an attack is reported instead.
    """
    start = time.perf_counter()
    everything, labels, threat = _checked(subject, inputs, labels, epsilon, norm, recipe)
    n = n if n is not None else (200 if subject.modality == "image" else 100)
    check_counts(n=n, **({} if batch_size is None else {"batch_size": batch_size}))
    rows = np.random.default_rng(mixed_seed(seed)).permutation(len(labels))
    rows, more = rows[:n], rows[n : n + N_MORE[subject.modality]]
    given.check_examples(digest(taken(everything, rows), labels[rows]))
    served = Served(subject, batch_size=batch_size)
    with seeded(seed), warnings.catch_warnings(), left_alone(subject.module):
        warnings.simplefilter("ignore")
        case, findings = _examined(served, everything, labels, rows, more, threat, random)
        case.thorough, case.handed, case.seed = thorough, given, seed
        ladder = (*(IMAGE_LADDER if subject.modality == "image" else words.TEXT_LADDER), *_further(given))
        case, notes = _affordable(case, ladder, budget, start)
        case.findings = [*findings, *notes]
        store = Store(state, case)
        complete = _climbed(case, ladder, store, budget, start, tell or (lambda line: None))
        complete = complete and (not figures or _drawn(case, budget, start))
    options = {"claim": claim, "complete": complete, "budget": budget}
    return record(case, positions=rows, seconds=time.perf_counter() - start, **options)


def _further(given: Handed) -> tuple[Plan, ...]:
    """Rungs for what was handed in."""
    yours = Plan(
        handed.YOURS, "the attack that was handed in", "yours", "strength", always, handed.attacked_by_yours, 0
    )
    replayed = Plan(handed.REPLAYED, "what an earlier audit found", "replay", "black box", always, handed.replayed, 1)
    return (yours,) * (given.attack is not None) + (replayed,) * (given.replay is not None)


def _checked(
    subject: Subject, inputs: Any, labels: Any, epsilon: Any, norm: str, recipe: Any
) -> tuple[Any, Tensor, dict]:
    """Inputs and labels as they are attacked, and the threat."""
    if subject.modality == "image":
        if epsilon is None:
            raise ValueError("images need the radius of the attack: give epsilon, for example 8 / 255")
        check_radius(epsilon, norm)
        inputs = check_pixels(inputs).detach().to(device_of(subject))
        threat = {"epsilon": float(epsilon), "norm": norm}
    else:
        inputs = list(inputs)
        check_texts(inputs)
        threat = {"recipe": load_recipe(recipe) if isinstance(recipe, str) else recipe}
    labels = check_labels(labels, len(inputs), subject.n_classes)
    if len(labels) < 10:
        raise ValueError(f"an audit needs at least 10 labelled examples, got {len(labels)}")
    return inputs, labels.cpu(), threat


def _examined(
    served: Served, everything: Any, labels: Tensor, rows: np.ndarray, more: np.ndarray, threat: dict, random: bool
) -> tuple[Case, list[Finding]]:
    """The case with its findings before any attack."""
    both = np.concatenate([rows, more])
    inputs = taken(everything, both)
    answers = served.answers(inputs)
    if answers.ndim != 2 or answers.shape != (len(both), served.subject.n_classes):
        raise ValueError(
            f"the model answered {tuple(answers.shape)} for {len(both)} examples where ({len(both)}, "
            f"{served.subject.n_classes}) was expected"
        )
    look = checks.Look(served, inputs, labels[both], answers, random)
    findings = checks.contract(look)
    by = slice(len(rows), None) if len(more) >= 100 else slice(None)
    scale, temperature = checks.scale(replace(look, inputs=inputs[by], labels=look.labels[by], answers=answers[by]))
    findings += scale
    clean = (checks.predicted(answers[: len(rows)]) == labels[rows]).numpy().astype(float)
    if any(f.name == "answers.random" and f.severity != "fine" for f in findings):
        served.draws = N_DRAWS
        clean = served.right(inputs[: len(rows)], labels[rows])
    attacked = taken(everything, rows)
    device = attacked.device if isinstance(attacked, Tensor) else "cpu"
    case = Case(served, attacked, labels[rows].to(device), clean, threat, temperature)
    case.more = taken(everything, more) if len(more) else None
    if served.subject.gives != "labels" and torch.isfinite(answers).all():
        case.curves["reliability"] = curves.reliability(as_logits(answers[by], served.subject.gives), look.labels[by])
    predictions = checks.predicted(answers)
    case.parts = [*served.subject.inner, *served.retried(lambda: parts_that_predict(served, inputs, predictions))]
    if isinstance(attacked, Tensor):
        findings += served.retried(lambda: _gradients(case, attacked, predictions[: len(rows)]))
    return case, findings


def _gradients(case: Case, images: Tensor, predictions: Tensor) -> list[Finding]:
    threat, found = case.threat, []
    right = case.rows[: min(checks.N_PROBE, case.served.batch_size)]
    if case.served.subject.module is not None and len(right):
        search, labels = case.served.search(), case.labels[torch.as_tensor(right, device=images.device)]
        found += gradients.gradient_facts(search, taken(images, right), labels, threat, random=case.random)
    if not case.random and case.served.subject.gives != "labels":
        found += gradients.boundary_jump(case.served, images, predictions)
    return found


def _affordable(case: Case, ladder: tuple[Plan, ...], budget: float | None, start: float) -> tuple[Case, list[Finding]]:
    """The case with as many examples as the usual attack and the two scale-free ones have time for."""
    if budget is None:
        return case, []
    core = sum(plan.passes for plan in ladder if plan.family in ("served", "scale") and not plan.unneeded(case))
    left = budget - (time.perf_counter() - start)
    n = len(case.inputs)
    fitting = int(0.7 * left / max(core * _seconds_a_pass(case.served), 1e-9))
    if fitting >= n or n <= FEWEST:
        return case, []
    kept = max(FEWEST, fitting)
    sentence = f"{kept} of {n} examples are attacked, since {budget:.0f} s were given"
    rows = np.arange(kept)
    smaller = replace(case, inputs=taken(case.inputs, rows), labels=case.labels[:kept], clean=case.clean[:kept])
    return smaller, [Finding("attack.budget", "attack", "note", sentence, {"n": kept, "budget": float(budget)})]


def _seconds_a_pass(served: Served) -> float:
    return served.seconds / max(served.asked, 1)


def _climbed(
    case: Case, ladder: tuple[Plan, ...], store: Store, budget: float | None, start: float, tell: Callable[[str], None]
) -> bool:
    """Run the ladder into `case.rungs`; whether it came to its end."""
    before = len(case.findings)
    done, found = store.load()
    case.findings += found
    for plan in ladder:
        if not len(case.rows):
            case.rungs.append(_nothing_left(case, plan))
            continue
        if plan.name in done:
            case.rungs.append(done[plan.name])
            continue
        if reason := plan.unneeded(case) or _too_long(case, plan, budget, start):
            case.rungs.append(_blank(plan, "skipped", reason))
            continue
        tell(f"{plan.name}: {plan.adversary}")
        try:
            case.rungs.append(_run(case, plan))
        except KeyboardInterrupt:
            case.rungs.append(_blank(plan, "unfinished", "interrupted"))
            return False
        except Exception as error:  # somebody else's model may raise anything; the audit says so and goes on
            if any(words in str(error) for words in NO_GRADIENT):
                case.rungs.append(_blank(plan, "skipped", "no gradient reaches the inputs this way either"))
                continue
            case.rungs.append(_blank(plan, "failed", f"{type(error).__name__}: {error}"))
            sentence = f"the attack {plan.name!r} raised {type(error).__name__}: {str(error)[:300]}"
            case.findings.append(Finding("attack.failed", "attack", "warning", sentence, {"rung": plan.name}))
        case.findings += _afterwards(case, plan)
        store.save(case.rungs, case.findings[before:])
    return True


def _drawn(case: Case, budget: float | None, start: float) -> bool:
    """Accuracy against the radius, where gradients and time allow it; whether it came to its end."""
    found_by = judge(case.findings, case.rungs).found_by
    seconds = 6 * 3 * curves.STEPS * len(case.rows) * _seconds_a_pass(case.served)
    late = budget is not None and time.perf_counter() - start + seconds > budget
    if case.served.subject.modality != "image" or not len(case.rows) or late:
        return True
    before = case.served.n_forward
    try:
        case.curves["radius"] = case.served.retried(lambda: curves.accuracy_by_radius(case, found_by))
    except KeyboardInterrupt:
        return False
    case.findings += curves.rising(case.curves["radius"], forwards=case.served.n_forward - before)
    return True


def _too_long(case: Case, plan: Plan, budget: float | None, start: float) -> str:
    """Why there is no time for a rung, by what it costs at most; the usual attack is always run."""
    if budget is None or plan.family == "served":
        return ""
    seconds = plan.passes * len(case.rows) * _seconds_a_pass(case.served)
    left = budget - (time.perf_counter() - start)
    return f"it may take {seconds:.0f} s, {max(left, 0):.0f} of {budget:.0f} s are left" if seconds > left else ""


def _run(case: Case, plan: Plan) -> Rung:
    """One rung, again in smaller batches where memory runs out."""
    served, start = case.served, time.perf_counter()
    before = served.n_forward, served.n_backward
    points = served.retried(lambda: plan.run(case))
    share = case.judged(points)
    if plan.name == "margin" and isinstance(points, Tensor):
        case.points["margin"] = points, share
    if plan.family != "sanity":
        case.remember(points, share)
    standing = case.standing(share)
    usual = next((rung for rung in case.rungs if rung.family == "served" and rung.status == "done"), None)
    difference = difference_of(standing, np.array(usual.standing)) if usual is not None else None
    note = f"T* = {case.temperature:.3g}" if plan.name == "calibrated" else ""
    if plan.name == "inner":
        note = ", ".join(name for name, _ in case.parts[: rungs.N_PARTS])
    return Rung(
        name=plan.name,
        adversary=plan.adversary,
        attack=_attack_name(case, plan),
        family=plan.family,
        accuracy=accuracy_of(standing),
        difference=difference,
        n=len(standing),
        forwards=served.n_forward - before[0],
        backwards=served.n_backward - before[1],
        seconds=time.perf_counter() - start,
        standing=tuple(standing.tolist()),
        note=note,
    )


def _attack_name(case: Case, plan: Plan) -> str:
    if "recipe" in case.threat:
        return case.threat["recipe"].name
    if plan.family != "served" or case.white:
        return plan.attack
    return "rays" if case.served.subject.gives == "labels" else "queries"


def _blank(plan: Plan, status: str, note: str) -> Rung:
    return Rung(plan.name, plan.adversary, plan.attack, plan.family, status, note=note)


def _nothing_left(case: Case, plan: Plan) -> Rung:
    """Where no example is right without an attack the usual one leaves none, and the others need not run."""
    note = "no example is right without an attack"
    if plan.family != "served":
        return _blank(plan, "skipped", note)
    nobody = np.zeros(len(case.clean))
    values = {"accuracy": accuracy_of(nobody), "difference": difference_of(nobody, nobody)}
    return replace(_blank(plan, "done", note), n=len(nobody), standing=tuple(nobody.tolist()), **values)


def _afterwards(case: Case, plan: Plan) -> list[Finding]:
    """What a rung shows beside its accuracy."""
    found, rung = [], case.rungs[-1]
    if (
        plan.name == "as served"
        and case.served.subject.modality == "text"
        and rung.status == "done"
        and not case.random
    ):
        found += words.hole(case)
    if plan.name == "transfer" and case.served.subject.modality == "text" and rung.status == "done":
        found += retraced(case)
    if plan.name == "radius" and rung.status == "done":
        standing = rung.accuracy.percent
        values = {"accuracy": standing, "epsilon": rungs.anything(case), "threshold": REACHED}
        if standing > REACHED:
            sentence = f"{standing:.0f} % stand at a radius that allows anything: the search is blind"
            found.append(Finding("attack.radius", "attack", "warning", sentence, values))
        else:
            sentence = f"{standing:.0f} % stand at a radius that allows anything, as it should be"
            found.append(Finding("attack.radius", "attack", "fine", sentence, values))
    if plan.name in ("inner", "inside") and rung.status == "done" and isinstance(case.inputs, Tensor):
        found += _searched_well(case, plan)
    return found


def _searched_well(case: Case, plan: Plan) -> list[Finding]:
    """Whether what was searched instead has sound gradients: then what hides it blinds nobody."""
    rows = case.rows[: min(checks.N_PROBE, case.served.batch_size)]
    labels = case.labels[torch.as_tensor(rows, device=case.labels.device)]
    search = rungs.inner(case) if plan.name == "inner" else rungs.inside(case)
    facts = gradients.gradient_facts(search, taken(case.inputs, rows), labels, case.threat, random=case.random)
    if any(finding.severity != "fine" for finding in facts):
        return []
    return [Finding(f"{plan.name}.sound", "gradient", "fine", f"{plan.adversary}: gradients are sound there")]
