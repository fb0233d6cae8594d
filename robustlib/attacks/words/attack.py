"""Attack texts: one call for many sentences, any recipe, any score."""

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib.attacks.result import AttackResult
from robustlib.attacks.scores import Score, TrueClassProbability
from robustlib.attacks.words import search
from robustlib.attacks.words.labels import edit_blindly, search_labels
from robustlib.attacks.words.queries import QueryCache, Victim
from robustlib.attacks.words.resources import load_recipe
from robustlib.attacks.words.search import Ask, Questions, Ranking, Recipe, Rules
from robustlib.attacks.words.words import Example, Words, changed_share, joined, text_rng
from robustlib.calibration.checks import check_labels
from robustlib.data.progress import progress
from robustlib.models.texts import check_texts

WIDTH = 512  # sentences under way at a time: bounds memory, does not change results


def attack_texts(
    model: Victim,
    texts: Sequence[Example],
    labels: Tensor,
    *,
    recipe: Recipe | str = "dg",
    score: Score | None = None,
    max_queries: int | None = None,
    rankings: Sequence[Ranking] | None = None,
    rules: Rules = search.GREEDY,
    trace: bool = False,
    description: str | None = None,
) -> AttackResult:
    """Attack every text with one recipe, all of them in lockstep. Paper: section 4. Taught in: notebooks/05.

    The attacker sees `score` of the model's logits; success is read off their argmax, which no temperature changes,
    and a text that fools is kept whatever its score.

    Args:
        model: texts (or pairs) to logits (n, n_classes); or a `QueryCache` of one, which remembers earlier calls.
        texts: strings, or pairs of strings, of which both are attacked. labels: (n,) class indices.
        recipe: "dg", "pwws", "tf", or a recipe from `resources.load_recipe` or `recipes`.
        score: default `TrueClassProbability()`, the paper's.
        max_queries: bound on the queries of one text, clean one included.
        rankings: the order of each text's words, from `word_importance`; default: the search ranks them with `score`.
        rules: when a change is accepted, and when the search ends.
        trace: keep every step in `details["trace"]` (see `format_trace`).
        description: of the progress bar; None shows none.

    Returns:
        The last text each search reached, `queries` (n,), `n_forward`, texts the model was run on in this call, and
        `details["changed"]`, (n,) the share of words that differ.

    Raises:
        TypeError, ValueError: as `check_texts`, `check_labels` and `QueryCache`; or `max_queries` below 1.
    """
    cache, labels, recipe, score = _prepared(model, texts, labels, recipe, score)
    if max_queries is not None and max_queries < 1:
        raise ValueError(f"max_queries must be at least 1 (the clean text), got {max_queries}")
    options = {"scale_free": score.scale_free, "max_queries": max_queries, "rules": rules}
    orders = [None] * len(texts) if rankings is None else rankings
    searches = (
        search.search_sentence(text, label, recipe, ranking=order, **options)
        for text, label, order in zip(texts, labels.tolist(), orders, strict=True)
    )
    return _attacked(searches, cache, recipe, score, texts, trace=trace, description=description)


def label_only(
    model: Victim,
    texts: Sequence[Example],
    labels: Tensor,
    *,
    recipe: Recipe | str = "dg",
    score: Score | None = None,
    max_queries: int = 300,
    seed: int = 0,
) -> AttackResult:
    """Attack every text with nothing but the model's labels; `score` is not seen. Otherwise as `attack_texts`.

    Random substitutions until the label flips, begun anew where they do not, then words restored as long as it stays
    flipped: initialisation and reduction of Maheshwary et al. 2021 (arXiv 2012.14956), without their genetic search.
    """
    cache, labels, recipe, score = _prepared(model, texts, labels, recipe, score)
    searches = (
        search_labels(text, label, recipe, rng=text_rng(seed, "labels", text), max_queries=max_queries)
        for text, label in zip(texts, labels.tolist(), strict=True)
    )
    return _attacked(searches, cache, recipe, score, texts)


def blind(
    model: Victim,
    texts: Sequence[Example],
    labels: Tensor,
    *,
    shares: Sequence[float],
    recipe: Recipe | str = "dg",
    score: Score | None = None,
    seed: int = 0,
) -> AttackResult:
    """Change words at random, asking nobody: what an attack that changes as many must be compared with.

    `shares`: (n,) share of each text's words to change, such as `details["changed"]`. Otherwise as `label_only`.
    """
    cache, labels, recipe, score = _prepared(model, texts, labels, recipe, score)
    searches = (
        edit_blindly(text, label, recipe, share=share, rng=text_rng(seed, "blind", text))
        for text, label, share in zip(texts, labels.tolist(), shares, strict=True)
    )
    return _attacked(searches, cache, recipe, score, texts)


def word_importance(
    model: Victim, texts: Sequence[Example], labels: Tensor, *, recipe: Recipe | str = "dg", score: Score | None = None
) -> list[Ranking]:
    """The word ranking an attack starts with, one for each text (appendix E.7); arguments as `attack_texts`."""
    cache, labels, recipe, score = _prepared(model, texts, labels, recipe, score)

    def rank(text: Example, label: int) -> Generator[Ask, Any, Ranking]:
        words = Words.of(text)
        questions = Questions.of(words, label)
        (clean,), _ = yield from questions.judge([text])
        return (yield from search.rank_words(words, recipe, questions, clean, scale_free=score.scale_free))

    searches = (rank(text, label) for text, label in zip(texts, labels.tolist(), strict=True))
    return _run(searches, cache, recipe, score, len(texts), None)


def tied_share(importance: np.ndarray) -> float:
    """Share of words whose importance equals that of another word of the text; NaN without words."""
    if not len(importance):
        return float("nan")
    _, inverse, counts = np.unique(importance, return_inverse=True, return_counts=True)
    return float((counts[inverse] > 1).mean())


def rank_correlation(a: Ranking, b: Ranking) -> float:
    """Spearman correlation of the orders in which two attacks of one text would go through its words (table 20).

    Ties are in reading order, as in the attack; so two rankings that are all ties correlate perfectly. NaN below two
    words.
    """
    if a.positions != b.positions:
        raise ValueError("the rankings are of different texts or recipes: their words differ")
    orders = (np.argsort(-ranking.importance, kind="stable") for ranking in (a, b))
    ranks = [np.argsort(order) for order in orders]
    return float(np.corrcoef(ranks)[0, 1]) if len(a.positions) > 1 else float("nan")


def format_trace(steps: Sequence[dict[str, Any]]) -> str:
    """One sentence's attack as lines: clean score, the 12 first words, each word tried with its 4 best candidates."""
    lines = []
    for step in steps:
        if step["step"] == "clean":
            lines.append(f"score {step['score']:.6g}  {joined(step['text'])}")
        elif step["step"] == "ranking":
            order = np.argsort(-np.array(step["importance"]), kind="stable")[:12]
            lines.append("words  " + "  ".join(f"{step['words'][k]} {step['importance'][k]:.6g}" for k in order))
        else:
            best = sorted(zip(step["candidates"], step["scores"], strict=True), key=lambda pair: -pair[1])
            candidates = "  ".join(f"{word} {value:.6g}" for word, value in best[:4])
            lines.append(f"{step['word']} -> {step['accepted'] or '(kept)'}  of  {candidates}")
    return "\n".join(lines)


def _prepared(
    model: Victim, texts: Sequence[Example], labels: Tensor, recipe: Recipe | str, score: Score | None
) -> tuple[QueryCache, Tensor, Recipe, Score]:
    check_texts(texts)
    return (
        QueryCache.of(model),
        check_labels(labels, len(texts)),
        load_recipe(recipe) if isinstance(recipe, str) else recipe,
        TrueClassProbability() if score is None else score,
    )


def _attacked(
    searches: Iterable[Generator[Ask, Any, search.SentenceResult]],
    cache: QueryCache,
    recipe: Recipe,
    score: Score,
    texts: Sequence[Example],
    *,
    trace: bool = False,
    description: str | None = None,
) -> AttackResult:
    n_forward = cache.n_forward
    results = _run(searches, cache, recipe, score, len(texts), description)
    adversarial = [result.example for result in results]
    changed = np.array([changed_share(*pair) for pair in zip(texts, adversarial, strict=True)], dtype=np.float64)
    return AttackResult(
        adversarial=adversarial,
        outcome=np.array([result.outcome for result in results], dtype="U9"),
        n_forward=cache.n_forward - n_forward,
        queries=np.array([result.n_queries for result in results], dtype=np.int64),
        details={"changed": changed} | ({"trace": [result.trace for result in results]} if trace else {}),
    )


def _run(
    searches: Iterable[Generator[Ask, Any, Any]],
    cache: QueryCache,
    recipe: Recipe,
    score: Score,
    total: int,
    description: str | None,
) -> list[Any]:
    services: dict[str, Callable[[list[Ask]], list[Any]]] = {}
    if recipe.masked_lm is not None:
        services["fill"] = lambda asks: _split(recipe.masked_lm.answers(_items(asks)), asks)
    if recipe.similarity is not None:
        encoder = recipe.similarity.encoder
        services["encode"] = lambda asks: _split(np.stack(encoder.answers(_items(asks))), asks)
    services["judge"] = _judge(cache, score)
    ended = search.run_lockstep(searches, services, width=WIDTH)
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
        scores, success = score(logits, labels).tolist(), (logits.argmax(dim=1) != labels).tolist()
        return list(zip(_split(scores, asks), _split(success, asks), strict=True))

    return judge


def _items(asks: list[Ask]) -> list[Any]:
    return [item for ask in asks for item in ask.items]


def _split(answers: Any, asks: list[Ask]) -> list[Any]:
    parts, start = [], 0
    for ask in asks:
        parts.append(answers[start : start + len(ask.items)])
        start += len(ask.items)
    return parts
