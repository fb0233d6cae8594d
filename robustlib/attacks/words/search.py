"""Greedy word replacement by importance, many sentences in lockstep.

Each sentence is searched by a generator that reads like the algorithm: it yields its questions and is sent the
answers. `run_lockstep` collects the questions of all sentences, so that a model sees full batches; no sentence's
result depends on the others. Taught in: notebooks/05.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from robustlib.attacks.result import FAILED, SKIPPED, SUCCEEDED
from robustlib.attacks.words.constraints import Constraint
from robustlib.attacks.words.queries import Memory
from robustlib.attacks.words.words import Example, Words, joined

UNKNOWN = "[UNK]"  # TextAttack puts these letters into the text, whatever the model's own unknown token
WINDOW = 15  # words around a change whose similarity is compared; shorter texts pass with similarity 1


@dataclass(frozen=True)
class Similarity:
    """Sentence similarity between a window of the reference and of the candidate (TextFooler, BAE)."""

    encoder: Memory  # texts to embeddings (n, d), any length, of which `min_cosine` is the least cosine allowed
    min_cosine: float
    to_original: bool  # compare with the original text; otherwise with the text before this replacement


@dataclass(frozen=True)
class Recipe:
    """One attack, put together from its parts; `recipes` has the paper's four."""

    name: str
    # how words are ordered: by the score once a word is "unk" (replaced by [UNK]) or "delete"d, or "weighted-saliency"
    # (PWWS: softmax of the unk scores times the best score that a replacement reaches)
    ranking: str
    stop_words: frozenset[str]  # words never touched, compared with case
    # original words, current words and position to replacements; None with a `masked_lm`
    propose: Callable[[Words, Words, int], list[str]] | None = None
    masked_lm: Memory | None = None  # (tokens, position of the masked one) to guesses, see `recipes.bae`
    pick: Callable[[str, Any], list[str]] | None = None  # word and guesses to replacements
    constraints: tuple[Constraint, ...] = ()  # applied in order, then `similarity`
    similarity: Similarity | None = None
    note: str = ""  # what stands in for unavailable resources, for records
    most_changed: float = 1.0  # share of the words that may be changed, at least one word


class Ask(NamedTuple):
    """A question of a search: `items` for `service` ("judge", "encode" or "fill"); judge needs the label."""

    service: str
    items: list
    label: int = -1


@dataclass(frozen=True)
class SentenceResult:
    """What the search of one sentence ended with; `example` is the last text it reached."""

    outcome: str
    example: Example
    n_queries: int
    trace: list[dict[str, Any]]


class Ranking(NamedTuple):
    """Words of one text that may be changed: positions (k,), words and importance (k,), in reading order."""

    positions: list[int]
    words: list[str]
    importance: np.ndarray

    def order(self) -> list[int]:
        """Positions from the most to the least important; ties in reading order."""
        return [self.positions[k] for k in np.argsort(-self.importance, kind="stable")]


@dataclass
class Questions:
    """The queries of one sentence: counts them and stops at the limit."""

    label: int
    limit: int | None
    per_ask: int  # texts in one ask, so that those of a very long text are never all in memory
    asked: int = 0

    @classmethod
    def of(cls, words: Words, label: int, limit: int | None = None) -> Questions:
        return cls(label, limit, per_ask=max(16, 2**22 // max(1, len(words.text))))

    def judge(self, examples: Iterable[Example]) -> Generator[Ask, Any, tuple[list[float], list[bool]]]:
        """Scores of the examples and whether they are misclassified; of the first ones where the limit is reached."""
        examples = itertools.islice(examples, None if self.limit is None else self.limit - self.asked)
        scores: list[float] = []
        success: list[bool] = []
        while batch := list(itertools.islice(examples, self.per_ask)):
            answer = yield Ask("judge", batch, self.label)
            scores += answer[0]
            success += answer[1]
        self.asked += len(scores)
        return scores, success

    @property
    def exhausted(self) -> bool:
        return self.asked == self.limit


@dataclass(frozen=True)
class Rules:
    """How a search decides, beside its recipe."""

    # end with the first text that fools the model, whatever its score. False spends the whole budget: every word gets
    # its turn, and the text that ends up with the highest score is kept, also where the clean one is misclassified:
    # what a transfer to another model needs
    leave_early: bool = True
    accept_ties: bool = False  # take the best candidate where it equals the current score, too


GREEDY = Rules()


def search_sentence(
    example: Example,
    label: int,
    recipe: Recipe,
    *,
    scale_free: bool = False,
    max_queries: int | None = None,
    ranking: Ranking | None = None,
    rules: Rules = GREEDY,
) -> Generator[Ask, Any, SentenceResult]:
    """Attack one sentence: rank its words, then replace them one after the other while the score rises.

    TextAttack's GreedyWordSwapWIR, but for the end: of a word's candidates (in the order of their texts) the one with
    the highest score is taken if it beats the current score strictly; the search ends with the first candidate that
    is misclassified (see `judge_swaps`), which TextAttack throws away unless its score is the highest of all so far.

    Args:
        scale_free: the score has no natural unit (see `rank_words`).
        max_queries: bound on the queries of this sentence; candidates beyond it are not considered.
        ranking: the order of the words; default: this search's own.
    """
    original = current = Words.of(example)
    questions = Questions.of(original, label, max_queries)
    (score,), (misclassified,) = yield from questions.judge([example])
    trace: list[dict[str, Any]] = [{"step": "clean", "text": example, "score": score}]
    if misclassified and rules.leave_early:
        return SentenceResult(SKIPPED, example, questions.asked, trace)
    fooled = misclassified
    if ranking is None:
        ranking = yield from rank_words(original, recipe, questions, score, scale_free=scale_free)
    trace.append({"step": "ranking", "words": ranking.words, "importance": ranking.importance.tolist()})
    changes_left = max(1, int(recipe.most_changed * len(original)))
    for index in ranking.order():
        if questions.exhausted or not changes_left:
            break
        swap = yield from judge_swaps(original, current, index, recipe, questions, prefer_fooled=rules.leave_early)
        if swap is None:
            continue
        best = max(swap.scores)  # as in TextAttack, whichever is taken
        accepted = best > score or (rules.accept_ties and best == score) or (rules.leave_early and swap.success)
        trace.append({"step": "swap", "word": current.words[index], **swap.as_step(accepted)})
        if accepted:
            current, example, score, fooled = Words.of(swap.text), swap.text, swap.score, swap.success
            changes_left -= 1
            if fooled and rules.leave_early:
                break
    outcome = SKIPPED if misclassified else SUCCEEDED if fooled else FAILED
    return SentenceResult(outcome, example, questions.asked, trace)


class Swap(NamedTuple):
    """The best replacement of one word, among all that were judged."""

    text: Example
    word: str
    score: float
    success: bool
    candidates: list[str]
    scores: list[float]

    def as_step(self, accepted: bool) -> dict[str, Any]:
        return {"candidates": self.candidates, "scores": self.scores, "accepted": self.word if accepted else None}


def judge_swaps(
    original: Words, current: Words, index: int, recipe: Recipe, questions: Questions, *, prefer_fooled: bool = True
) -> Generator[Ask, Any, Swap | None]:
    """The replacement of word `index` with the highest score, of equal scores the first by text; None without one.

    Unless `prefer_fooled` is off, a misclassified one comes first: the most similar of those that lead the order by
    score, or, where none leads (saturated scores tie, and with three classes a score may rise without), of all.
    """
    words, similarity = yield from candidates(original, current, index, recipe)
    if not words:
        return None
    texts = [current.replaced(index, word) for word in words]
    by_text = sorted(range(len(texts)), key=lambda k: joined(texts[k]))
    texts, words, similarity = ([row[k] for k in by_text] for row in (texts, words, similarity))
    scores, success = yield from questions.judge(texts)
    ranked = sorted(range(len(scores)), key=lambda k: -scores[k])
    leading = list(itertools.takewhile(success.__getitem__, ranked))
    fooled = (leading or [k for k in ranked if success[k]]) if prefer_fooled else []
    best = max(fooled, key=similarity.__getitem__) if fooled else ranked[0]
    return Swap(texts[best], words[best], scores[best], success[best], words[: len(scores)], scores)


def rank_words(
    original: Words, recipe: Recipe, questions: Questions, clean_score: float, *, scale_free: bool
) -> Generator[Ask, Any, Ranking]:
    """Importance of each word that may be changed; the attack goes from the highest to the lowest, ties by position.

    Weighted saliency multiplies a softmax of scores with a score, which suits probabilities only. A scale-free score
    is therefore measured from the clean one and in units of its size: then, as the rest of the search, the ranking does
    not change with the scale of the logits.
    """
    positions = [i for i, word in enumerate(original.words) if word not in recipe.stop_words]
    if recipe.ranking == "delete":
        without = (_deleted(original, i) for i in positions)
    else:
        without = (original.replaced(i, UNKNOWN) for i in positions)
    scores, _ = yield from questions.judge(without)
    positions = positions[: len(scores)]
    importance = np.array(scores)
    if recipe.ranking == "weighted-saliency" and positions:
        swaps = []
        for k, i in enumerate(positions):
            words, _ = yield from candidates(original, original, i, recipe)
            swaps += [(k, word) for word in words]
        swapped, _ = yield from questions.judge(original.replaced(positions[k], word) for k, word in swaps)
        unit, start = (max(abs(clean_score), 1e-30), clean_score) if scale_free else (1.0, 0.0)
        best = np.full(len(positions), -np.inf)
        owner = [k for k, _ in swaps[: len(swapped)]]
        np.maximum.at(best, owner, (np.array(swapped) - start) / unit)
        saliency = np.exp((importance - importance.max()) / unit, dtype=np.float32)
        importance = saliency / saliency.sum() * np.where(np.isinf(best), 0.0, best)
    return Ranking(positions, [original.words[i] for i in positions], importance)


def _deleted(words: Words, index: int) -> Example:
    example = words.deleted(index)
    parts = (example,) if isinstance(example, str) else example
    return example if all(part.strip() for part in parts) else words.replaced(index, UNKNOWN)


def candidates(
    original: Words, current: Words, index: int, recipe: Recipe
) -> Generator[Ask, Any, tuple[list[str], list[float]]]:
    """Replacements of word `index` that every constraint allows, and their similarities (1 without a constraint)."""
    if recipe.propose is not None:
        words = recipe.propose(original, current, index)
    else:
        (guesses,) = yield Ask("fill", [_masked(current, index)])
        words = recipe.pick(current.words[index], guesses)
    for constraint in recipe.constraints:
        if words:
            words = constraint(original, current, index, words)
    similarity = recipe.similarity
    if similarity is None or not words or len(current) < WINDOW:
        return words, [1.0] * len(words)
    reference = original if similarity.to_original else current
    windows = [current.window(index, WINDOW, word) for word in words]
    vectors = yield Ask("encode", [reference.window(index, WINDOW), *windows])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = (unit[1:] @ unit[0]).tolist()
    kept = [k for k, value in enumerate(cosine) if value >= similarity.min_cosine]
    return [words[k] for k in kept], [cosine[k] for k in kept]


def _masked(words: Words, index: int) -> tuple[tuple[str, ...], int]:
    """The text cut at white space and around word `index`, and where that word now stands."""
    start, end = words.spans[index]
    before, after = words.text[:start].split(), words.text[end:].split()
    return (*before, words.words[index], *after), len(before)


Service = Callable[[list[Ask]], list[Any]]


def run_lockstep(
    searches: Iterable[Generator[Ask, Any, Any]], services: Mapping[str, Service], *, width: int
) -> Iterator[tuple[int, Any]]:
    """Run searches, generators that yield `Ask`, together and yield (position, result) as they end.

    Args:
        services: name to function that answers many asks at once, in the order in which to serve: sentences that wait
            for an early service are served first, so that the last one, the victim, is asked by all of them together.
        width: searches under way at a time: when one ends the next begins, which keeps batches full and bounds memory.
    """
    queue = enumerate(searches)
    waiting: dict[int, tuple[Generator[Ask, Any, Any], Ask]] = {}

    def advance(position: int, search: Generator[Ask, Any, Any], answer: Any) -> tuple[int, Any] | None:
        try:
            waiting[position] = search, search.send(answer)
            return None
        except StopIteration as stop:
            waiting.pop(position, None)
            return position, stop.value

    while True:
        for position, search in itertools.islice(queue, width - len(waiting)):
            if ended := advance(position, search, None):
                yield ended
        if not waiting:
            return
        asked = {ask.service for _, ask in waiting.values()}
        name = next(name for name in services if name in asked)
        turn = [(position, search, ask) for position, (search, ask) in waiting.items() if ask.service == name]
        answers = services[name]([ask for _, _, ask in turn])
        for (position, search, _), answer in zip(turn, answers, strict=True):
            if ended := advance(position, search, answer):
                yield ended
