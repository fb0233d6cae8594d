"""Search in low precision, judge in float32: the time of the search without its precision in the result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from robustlib.attacks.result import SKIPPED, SUCCEEDED, AttackResult
from robustlib.attacks.scores import Score
from robustlib.attacks.words.attack import attack_texts
from robustlib.attacks.words.queries import QueryCache
from robustlib.attacks.words.search import Recipe
from robustlib.attacks.words.words import Example
from robustlib.models.precision import at_precision
from robustlib.models.texts import TextClassifier


def attack_in_low_precision(
    model: TextClassifier,
    texts: Sequence[Example],
    labels: Tensor,
    *,
    precision: str = "bfloat16",
    recipe: Recipe | str = "dg",
    score: Score | None = None,
) -> AttackResult:
    """`attack_texts` whose search asks a copy of the model in another precision first.

    The float32 model judges each text that this search ends with, and those that do not fool it are attacked once more
    in float32 from the start: what survives has survived the attack on the model itself. Rounding alone can hide texts
    from a search (claim O3), so no text counts as robust for that.

    Args:
        model: float32. Other arguments and the result: as for `attack_texts`; `queries` and `n_forward` count both
            searches.

    Raises:
        ValueError: as `at_precision`, or as `attack_texts`.
    """
    whole = QueryCache(model)
    low = attack_texts(QueryCache(at_precision(model, precision)), texts, labels, recipe=recipe, score=score)
    right = (whole(texts).argmax(dim=1) == labels.cpu()).numpy()
    stands = (whole(low.adversarial).argmax(dim=1) == labels.cpu()).numpy()
    again = np.flatnonzero(right & stands)
    second = attack_texts(whole, [texts[i] for i in again], labels[again], recipe=recipe, score=score)
    adversarial, queries = list(low.adversarial), low.queries.copy()
    changed = low.details["changed"].copy()
    outcome = np.where(right, SUCCEEDED, SKIPPED).astype(low.outcome.dtype)
    for place, index in enumerate(again):
        adversarial[index] = second.adversarial[place]
        outcome[index], changed[index] = second.outcome[place], second.details["changed"][place]
    for index in np.flatnonzero(~right):
        adversarial[index], changed[index] = texts[index], 0.0
    queries[again] += second.queries
    return AttackResult(
        adversarial=adversarial,
        outcome=outcome,
        n_forward=low.n_forward + whole.n_forward,
        queries=queries,
        details={"changed": changed, "searched_again": len(again)},
    )
