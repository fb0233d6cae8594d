"""The ladder of attacks on texts: one recipe of word substitutions, searched in different ways, judged as served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib.attacks.result import AttackResult
from robustlib.attacks.scores import DLR, Margin, Score, TrueClassProbability
from robustlib.attacks.surrogate import fit_text_surrogate
from robustlib.attacks.words import QueryCache, Rules, attack_texts, blind, label_only, word_importance
from robustlib.audit.case import Case, taken
from robustlib.audit.findings import Finding
from robustlib.audit.gradients import JUMP
from robustlib.audit.needed import if_parts, if_ratio, if_thorough
from robustlib.audit.rungs import N_PARTS, Plan, searched_temperature
from robustlib.audit.verdict import THRESHOLD
from robustlib.models.forward import mixed_seed

N_MEAN = 4  # answers averaged where they are random
N_LABELS = 200  # queries of a search that sees labels only
N_FITTED = 4_000  # answers that a surrogate is fitted to, at most
HOLE, HOLE_SHARE = 0.05, 0.002  # gaps below this share of the median, and how many answers must be among them


def _attack(
    case: Case, score: Score, *, ask: Callable | None = None, rows: np.ndarray | None = None, **options: Any
) -> AttackResult:
    texts, labels = case.attacked, case.attacked_labels
    if rows is not None:
        texts, labels = taken(texts, rows), labels[torch.as_tensor(rows)]
    ask = ask or case.served.logits
    # Answers are remembered by `case.served`, except random ones, which nobody may remember.
    victim = QueryCache(ask, max_bytes=0) if case.random else ask
    return attack_texts(victim, texts, labels, recipe=case.threat["recipe"], score=score, **options)


def _blind(case: Case) -> list:
    shares = case.points.get("changed", np.full(len(case.rows), 0.2))
    return blind(
        case.served.logits,
        case.attacked,
        case.attacked_labels,
        shares=shares,
        recipe=case.threat["recipe"],
        seed=case.seed,
    ).adversarial


def _as_served(case: Case) -> list:
    if case.served.subject.gives == "labels":
        return _labels(case)
    result = _attack(case, TrueClassProbability())
    case.points["changed"] = result.details["changed"]
    return result.adversarial


def _labels(case: Case) -> list:
    options = {"recipe": case.threat["recipe"], "max_queries": N_LABELS, "seed": case.seed}
    return label_only(case.served.logits, case.attacked, case.attacked_labels, **options).adversarial


def _opt(case: Case) -> list:
    def attack(temperature: float, rows: np.ndarray | None) -> list:
        return _attack(case, TrueClassProbability(temperature), rows=rows).adversarial

    return attack(searched_temperature(case, attack), None)


def _mean(case: Case, score: Score) -> list:
    ask = case.served.logits
    if case.random:
        ask = lambda texts: torch.stack([case.served.logits(texts) for _ in range(N_MEAN)]).mean(dim=0)  # noqa: E731
    return _attack(case, score, ask=ask).adversarial


def _inner(case: Case) -> list:
    texts, rows = list(case.attacked), np.arange(len(case.rows))
    for _, part in case.parts[:N_PARTS]:
        memory = QueryCache(_asked(case, part))
        # Fooled where it was searched, right as served: every word gets its turn.
        for rules in (Rules(), Rules(leave_early=False)):
            if len(rows):
                found = _attack(case, Margin(), ask=memory, rows=rows, rules=rules).adversarial
                standing = case.judged(found, rows) > 0.5
                for row, text, stands in zip(rows, found, standing, strict=True):
                    texts[row] = texts[row] if stands else text
                rows = rows[standing]
    return texts


def _asked(case: Case, part: Callable) -> Callable:
    """A part of the model, asked without gradients."""
    search = case.served.search(part, "logits")

    def ask(texts: list) -> Tensor:
        with torch.no_grad():
            return search(texts).cpu()

    return ask


def _transfer(case: Case) -> list:
    """What fools a surrogate; then its order of words, with whatever the subject shows."""
    surrogate = case.handed.surrogate or _fitted(case)
    texts = attack_texts(
        surrogate,
        case.attacked,
        case.attacked_labels,
        recipe=case.threat["recipe"],
        score=Margin(),
        rules=Rules(leave_early=False),
    ).adversarial
    case.points["surrogate"] = list(texts)
    rows = np.flatnonzero(case.judged(texts) > 0.5)
    if len(rows):
        options = {"recipe": case.threat["recipe"], "score": Margin()}
        left, labels = taken(case.attacked, rows), case.attacked_labels[torch.as_tensor(rows)]
        rankings = word_importance(surrogate, left, labels, **options)
        further = _attack(case, Margin(), rows=rows, rankings=rankings, rules=Rules(accept_ties=True)).adversarial
        for row, text in zip(rows, further, strict=True):
            texts[row] = text
    return texts


def _fitted(case: Case) -> Callable:
    """A surrogate of everything that the subject has answered: the texts, and what attacks made of them."""
    known = [(text, label) for text, label in case.served.known.items() if label >= 0]
    if len(known) > N_FITTED:
        kept = np.random.default_rng(mixed_seed(case.seed)).permutation(len(known))[:N_FITTED]
        known = [known[k] for k in kept]
    texts, classes = zip(*known, strict=True)
    return fit_text_surrogate(texts, classes, case.served.subject.n_classes)


def hole(case: Case) -> list[Finding]:
    """Are answers ever near a tie, while the usual attack walks towards the boundary? Costs nothing: they are known."""
    gap = torch.cat(case.served.gaps)
    if len(gap) < 1000 or case.served.subject.gives == "labels":
        return []
    share = float((gap < HOLE * gap.median()).float().mean())
    values = {"share": share, "n": len(gap), "threshold": HOLE_SHARE, "jump_threshold": JUMP}
    sentence = f"{100 * share:.2g} % of {len(gap)} answers show a gap below {HOLE:g} of the median"
    if share < HOLE_SHARE:
        return [Finding("boundary.jump", "scale", "warning", f"{sentence}: scores never come near each other", values)]
    return [Finding("boundary.jump", "scale", "fine", sentence, values)]


def _scores(case: Case) -> str:
    return "the model answers with labels only" if case.served.subject.gives == "labels" else ""


def _if_random(case: Case) -> str:
    return _scores(case) if case.random else "the answers are not random"


def _if_blind(case: Case) -> str:
    if case.thorough:
        return ""
    if not (case.trouble or case.random):
        return "scores show what they should"
    return "what was hidden has been unmasked" if case.unmasked() else ""


def _if_transfer(case: Case) -> str:
    """Answers that look sound may still be moved, so a surrogate is tried wherever nothing behind them was searched."""
    if case.thorough:
        return ""
    if case.parts and not (case.trouble or case.random):
        return "a part behind the answers was searched"
    if case.unmasked():
        return "what was hidden has been unmasked"
    if len({label for label in case.served.known.values() if label >= 0}) < 2:
        return "the model predicted one class only"
    bound = (rung.accuracy.percent for rung in case.rungs if rung.status == "done" and rung.family != "sanity")
    return "too few stand for a gap that counts" if min(bound, default=100.0) <= THRESHOLD else ""


def _if_labels(case: Case) -> str:
    return "it is the usual attack here" if case.served.subject.gives == "labels" else _if_blind(case)


WORDS = 80  # queries of a search, about: two or three for each word

TEXT_LADDER = (
    Plan("as served", "1 - p(true class), as the answers come", "words", "served", lambda case: "", _as_served, WORDS),
    Plan("noise", "as many words changed, at random", "words", "sanity", lambda case: "", _blind, 2),
    Plan(
        "calibrated",
        "1 - p(true class) at T*",
        "words",
        "scale",
        _scores,
        lambda case: _attack(case, TrueClassProbability(case.temperature)).adversarial,
        WORDS,
    ),
    Plan(
        "margin",
        "log-odds of the true class, free of any scale",
        "words",
        "scale",
        _scores,
        lambda case: _attack(case, Margin()).adversarial,
        WORDS,
    ),
    Plan(
        "opt",
        "1 - p(true class) at the temperature that breaks most",
        "words",
        "scale",
        lambda case: _scores(case) or if_thorough(case),
        _opt,
        4 * WORDS,
    ),
    Plan(
        "ratio",
        "ratio of logit differences, free of a scale that varies",
        "words",
        "scale",
        if_ratio,
        lambda case: _attack(case, DLR()).adversarial,
        WORDS,
    ),
    Plan(
        "averaged",
        f"log-odds of the mean of {N_MEAN} answers",
        "words",
        "unmask",
        _if_random,
        lambda case: _mean(case, Margin()),
        WORDS * N_MEAN,
    ),
    Plan("inner", "a part that predicts as the model does, then judged", "words", "unmask", if_parts, _inner, WORDS),
    Plan(
        "transfer",
        "a surrogate fitted to the answers, and its order of words",
        "words",
        "black box",
        _if_transfer,
        _transfer,
        WORDS,
    ),
    Plan(
        "decisions",
        "predicted classes only: random changes, begun anew",
        "words",
        "black box",
        _if_labels,
        _labels,
        N_LABELS,
    ),
)
