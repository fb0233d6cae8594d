"""Whether a text model's scores lead where a surrogate got: what tells a mask from a search that was merely weaker."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from robustlib.attacks.scores import Margin
from robustlib.attacks.statistics import proportion_interval
from robustlib.attacks.words import attack_texts
from robustlib.attacks.words.search import Recipe
from robustlib.attacks.words.words import Words, joined
from robustlib.audit.case import Case, taken
from robustlib.audit.findings import Finding
from robustlib.audit.verdict import THRESHOLD

LED = 0.5  # share of such texts that the scores must find, to be trusted


def retraced(case: Case) -> list[Finding]:
    """Search the surrogate's own changes by the model's log-odds, where the surrogate got through and no score did.

    Whoever follows sound scores and may choose among changes that fool the model together finds most of them. Nothing
    is said of random answers, of labels alone, and where the texts in question are too few for a gap that counts.
    """
    fooling = case.points.get("surrogate")
    if fooling is None or case.random or case.served.subject.gives == "labels":
        return []
    rows = _rows(case, fooling)
    if 100 * len(rows) <= THRESHOLD * len(case.inputs):
        return []
    texts, labels = taken(case.attacked, rows), case.attacked_labels[torch.as_tensor(rows)]
    recipe = _restricted(case.threat["recipe"], texts, taken(fooling, rows))
    ended = attack_texts(case.served.logits, texts, labels, recipe=recipe, score=Margin()).adversarial
    n, led = len(rows), int((case.judged(ended, rows) <= 0.5).sum())
    _, high = proportion_interval(led, n)
    values = {"led": led / n, "high": high, "n": n, "threshold": LED}
    sentence = (
        f"of {n} texts that fell to a surrogate and to no search by scores, the scores find {100 * led / n:.0f} % even "
        "where they choose among the surrogate's changes only"
    )
    return [Finding("scores.direction", "attack", "warning" if high < LED else "fine", sentence, values)]


def _rows(case: Case, fooling: list) -> np.ndarray:
    """Attacked texts that the surrogate's changes fool, word for word, while every search by scores failed."""
    by_scores = [r.standing for r in case.rungs if r.status == "done" and r.family in ("served", "scale", "strength")]
    standing = np.min(by_scores, axis=0)[case.rows] > 0.5
    alike = [len(Words.of(a)) == len(Words.of(b)) for a, b in zip(case.attacked, fooling, strict=True)]
    return np.flatnonzero(standing & np.array(alike) & (case.judged(fooling) <= 0.5))


def _restricted(recipe: Recipe, texts: list, fooling: list) -> Recipe:
    """The recipe with one replacement for each word: the one in the text that fools."""
    words = {joined(text): Words.of(changed).words for text, changed in zip(texts, fooling, strict=True)}

    def propose(original: Words, current: Words, index: int) -> list[str]:
        word = words[original.text][index]
        return [word] if word != current.words[index] else []

    free = {"constraints": (), "similarity": None, "masked_lm": None, "most_changed": 1.0}
    return replace(recipe, propose=propose, **free)
