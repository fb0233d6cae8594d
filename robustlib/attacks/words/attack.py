"""Attack texts: one call for many sentences, any recipe, any score."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib.attacks.result import AttackResult
from robustlib.attacks.scores import Score, TrueClassProbability
from robustlib.attacks.words.queries import Memory, QueryCache, Victim
from robustlib.attacks.words.resources import load_recipe
from robustlib.attacks.words.search import (
    Ask,
    Found,
    Questions,
    Ranking,
    Recipe,
    rank_words,
    run_lockstep,
    search_sentence,
)
from robustlib.attacks.words.words import Example, Words, joined
from robustlib.calibration.checks import check_labels
from robustlib.data.progress import progress


def attack_texts(
    model: Victim | QueryCache,
    texts: Sequence[Example],
    labels: Tensor,
    *,
    recipe: Recipe | str = "dg",
    score: Score | None = None,
    max_queries: int | None = None,
    trace: bool = False,
    width: int = 512,
    description: str | None = None,
) -> AttackResult:
    """Attack every text with one recipe, all of them in lockstep.

    What the attacker sees of the model is `score` of its logits; success is read off the logits' argmax, so scoring
    at temperature T is the attack on the model served at temperature T, and its result holds for the model itself.
    Paper: equation 1, section 4. Taught in: notebooks/05.

    Args:
        model: texts (or pairs) to logits (n, n_classes), no temperature applied; or a `QueryCache` of one, which then
            answers again what it was asked in earlier calls (other temperatures, scores, recipes).
        texts: strings, or pairs of strings, of which both are attacked.
        labels: (n,) int64 class indices.
        recipe: "dg", "pwws", "tf", or a recipe from `resources.load_recipe` or `recipes`.
        score: higher is nearer to fooled; default `TrueClassProbability()`, the paper's. `Margin()` has no temperature.
        max_queries: bound on the queries of one text, clean one included.
        trace: keep every step in `details["trace"]` (see `format_trace`).
        width: texts under way at a time; bounds memory, does not change results.
        description: of the progress bar; None shows none.

    Returns:
        `AttackResult` with the texts found (of a failed attack the last text reached, as in TextAttack), `queries` (n,)
        and n_forward = texts the model was run on in this call. `details`: "n_hits" (queries answered from memory),
        "n_batches", "model_seconds", "helper_seconds" (in sentence encoder and masked language model), "n_words" (n,),
        "n_changed" (n,) words that differ, and "trace".

    Raises:
        ValueError: an empty text or one with a lone surrogate (its index is named), labels outside the model's
            classes, probabilities or non-finite numbers from the model.
        TypeError: something that is neither string nor pair of strings.
    """
    cache, recipe, score = _prepared(model, texts, labels, recipe, score)
    if max_queries is not None and max_queries < 1:
        raise ValueError(f"max_queries must be at least 1 (the clean text), got {max_queries}")
    helpers = [recipe.masked_lm, recipe.similarity and recipe.similarity.encoder]
    before = cache.n_hits, cache.n_forward, cache.n_batches, cache.seconds, _seconds(helpers)
    searches = (
        search_sentence(text, label, recipe, scale_free=score.scale_free, max_queries=max_queries)
        for text, label in zip(texts, labels.tolist(), strict=True)
    )
    ended: list[Found] = _run(searches, cache, recipe, score, width, len(texts), description)
    details: dict[str, Any] = {
        "n_hits": cache.n_hits - before[0],
        "n_batches": cache.n_batches - before[2],
        "model_seconds": cache.seconds - before[3],
        "helper_seconds": _seconds(helpers) - before[4],
        "n_words": np.array([found.n_words for found in ended], dtype=np.int64),
        "n_changed": np.array([found.n_changed for found in ended], dtype=np.int64),
    }
    if trace:
        details["trace"] = [found.trace for found in ended]
    return AttackResult(
        adversarial=[found.example for found in ended],
        outcome=np.array([found.outcome for found in ended], dtype="U9"),
        n_forward=cache.n_forward - before[1],
        queries=np.array([found.n_queries for found in ended], dtype=np.int64),
        details=details,
    )


def word_importance(
    model: Victim | QueryCache,
    texts: Sequence[Example],
    labels: Tensor,
    *,
    recipe: Recipe | str = "dg",
    score: Score | None = None,
    width: int = 512,
) -> list[Ranking]:
    """The word ranking an attack starts with, for each text (paper: appendix E.7, table 20).

    Arguments as for `attack_texts`. Returns one `Ranking` a text, words in reading order. `rank_correlation` compares
    two of them, `tied_share` tells how much of one is left to chance.
    """
    cache, recipe, score = _prepared(model, texts, labels, recipe, score)

    def rank(text: Example, label: int):
        words = Words.of(text)
        questions = Questions.about(words, label)
        (clean,), _ = yield from questions.judge([text])
        return (yield from rank_words(words, recipe, questions, clean, scale_free=score.scale_free))

    searches = (rank(text, label) for text, label in zip(texts, labels.tolist(), strict=True))
    return _run(searches, cache, recipe, score, width, len(texts), None)


def tied_share(importance: np.ndarray) -> float:
    """Share of words whose importance equals that of another word of the text; NaN without words."""
    if not len(importance):
        return float("nan")
    _, inverse, counts = np.unique(importance, return_inverse=True, return_counts=True)
    return float((counts[inverse] > 1).mean())


def rank_correlation(a: Ranking, b: Ranking) -> float:
    """Spearman correlation of the orders in which two attacks of one text would go through its words.

    Ties are in reading order, as in the attack; so two rankings that are all ties correlate perfectly. NaN below two
    words. Paper: appendix E.7, table 20.
    """
    if a.positions != b.positions:
        raise ValueError("the rankings are of different texts or recipes: their words differ")
    orders = (np.argsort(-ranking.importance, kind="stable") for ranking in (a, b))
    ranks = [np.argsort(order) for order in orders]
    return float(np.corrcoef(ranks)[0, 1]) if len(a.positions) > 1 else float("nan")


def format_trace(steps: Sequence[dict[str, Any]], *, n_candidates: int = 4, n_words: int = 12) -> str:
    """One sentence's attack as lines of text: clean score, word ranking, then each word with its candidates' scores."""
    lines = []
    for step in steps:
        if step["step"] == "clean":
            lines.append(f"score {step['score']:.6g}  {joined(step['text'])}")
        elif step["step"] == "ranking":
            order = np.argsort(-np.array(step["importance"]), kind="stable")[:n_words]
            lines.append("words  " + "  ".join(f"{step['words'][k]} {step['importance'][k]:.6g}" for k in order))
        else:
            best = sorted(zip(step["candidates"], step["scores"], strict=True), key=lambda pair: -pair[1])
            shown = "  ".join(f"{word} {value:.6g}" for word, value in best[:n_candidates])
            lines.append(f"{step['word']} -> {step['accepted'] or '(kept)'}  of  {shown}")
    return "\n".join(lines)


def _prepared(
    model: Victim | QueryCache, texts: Sequence[Example], labels: Tensor, recipe: Recipe | str, score: Score | None
) -> tuple[QueryCache, Recipe, Score]:
    """Checked inputs, with the defaults filled in."""
    if isinstance(texts, str):
        raise TypeError("texts must be a list of texts, got one string: put it into a list")
    for index, text in enumerate(texts):
        parts = (text,) if isinstance(text, str) else text
        pair = isinstance(text, tuple) and len(text) == 2 and all(isinstance(part, str) for part in text)
        if not (isinstance(text, str) or pair):
            raise TypeError(f"texts[{index}] must be a string or a tuple of two strings, got {text!r:.60}")
        if not all(part.strip() for part in parts):
            raise ValueError(f"texts[{index}] is empty: leave it out, there is nothing to attack")
        try:
            joined(text).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"texts[{index}] is no valid Unicode ({error.reason}), tokenisers refuse it: "
                'replace what is wrong with text.encode("utf-8", "replace").decode()'
            ) from None
    check_labels(labels, len(texts))
    return (
        model if isinstance(model, QueryCache) else QueryCache(model),
        load_recipe(recipe) if isinstance(recipe, str) else recipe,
        TrueClassProbability() if score is None else score,
    )


def _run(
    searches: Iterable[Generator[Ask, Any, Any]],
    cache: QueryCache,
    recipe: Recipe,
    score: Score,
    width: int,
    total: int,
    description: str | None,
) -> list[Any]:
    """Results of the searches in their order."""
    services: dict[str, Callable[[list[Ask]], list[Any]]] = {}
    if recipe.masked_lm is not None:
        services["fill"] = lambda asks: _split(recipe.masked_lm.answers(_items(asks)), asks)
    if recipe.similarity is not None:
        encoder = recipe.similarity.encoder
        services["encode"] = lambda asks: _split(np.stack(encoder.answers(_items(asks))), asks)
    services["judge"] = _judge(cache, score)
    ended = run_lockstep(searches, services, width=width)
    if description is not None:
        ended = progress(ended, description=description, total=total)
    results = dict(ended)
    return [results[position] for position in range(total)]


def _judge(cache: QueryCache, score: Score) -> Callable[[list[Ask]], list[Any]]:
    def judge(asks: list[Ask]) -> list[tuple[list[float], list[bool]]]:
        logits = cache(_items(asks))
        labels = torch.tensor([ask.label for ask in asks for _ in ask.items])
        check_labels(labels, len(logits), logits.shape[1])
        if logits.shape[1] < score.minimum_classes:
            raise ValueError(f"{score} needs {score.minimum_classes} classes, the model has {logits.shape[1]}")
        scores, fooled = score(logits, labels).tolist(), (logits.argmax(dim=1) != labels).tolist()
        return list(zip(_split(scores, asks), _split(fooled, asks), strict=True))

    return judge


def _seconds(helpers: Sequence[Memory | None]) -> float:
    return sum(helper.seconds for helper in helpers if helper is not None)


def _items(asks: list[Ask]) -> list[Any]:
    return [item for ask in asks for item in ask.items]


def _split(answers: Any, asks: list[Ask]) -> list[Any]:
    parts, start = [], 0
    for ask in asks:
        parts.append(answers[start : start + len(ask.items)])
        start += len(ask.items)
    return parts
