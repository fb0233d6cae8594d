"""Searches that see no score: one that asks for labels only, and one that asks nothing. Taught in: notebooks/06."""

import random
from collections.abc import Generator
from typing import Any

from robustlib.attacks.result import FAILED, SKIPPED, SUCCEEDED
from robustlib.attacks.words.search import Ask, Questions, Recipe, SentenceResult, candidates
from robustlib.attacks.words.words import Example, Words


def search_labels(
    example: Example, label: int, recipe: Recipe, *, rng: random.Random, max_queries: int
) -> Generator[Ask, Any, SentenceResult]:
    """Change words at random until the label flips, from the start again where it does not; then restore words.

    `max_queries`: of this sentence, clean one and restorations included.
    """
    original = Words.of(example)
    questions = Questions.of(original, label, max_queries)
    _, (misclassified,) = yield from questions.judge([example])
    if misclassified:
        return SentenceResult(SKIPPED, example, questions.asked, [])
    while not questions.exhausted:
        current, changed = original, []
        for index in _shuffled(original, recipe, rng):
            text = yield from _changed(original, current, index, recipe, rng)
            if text is None:
                continue
            _, flipped = yield from questions.judge([text])
            current = Words.of(text)
            changed.append(index)
            if any(flipped):
                restored = yield from _restored(original, text, changed, questions, rng)
                return SentenceResult(SUCCEEDED, restored, questions.asked, [])
            if questions.exhausted:
                break
        if not changed:
            break
    return SentenceResult(FAILED, example, questions.asked, [])


def edit_blindly(
    example: Example, label: int, recipe: Recipe, *, share: float, rng: random.Random
) -> Generator[Ask, Any, SentenceResult]:
    """Replace a share of all words, chosen at random among those the recipe may change, by random candidates."""
    original = current = Words.of(example)
    questions = Questions.of(original, label)
    left, text = round(share * len(original)), example
    for index in _shuffled(original, recipe, rng):
        if left < 1:
            break
        edited = yield from _changed(original, current, index, recipe, rng)
        if edited is not None:
            text, current, left = edited, Words.of(edited), left - 1
    _, (before, after) = yield from questions.judge([example, text])
    return SentenceResult(SKIPPED if before else SUCCEEDED if after else FAILED, text, 0, [])


def _shuffled(original: Words, recipe: Recipe, rng: random.Random) -> list[int]:
    positions = [index for index, word in enumerate(original.words) if word not in recipe.stop_words]
    return rng.sample(positions, len(positions))


def _changed(
    original: Words, current: Words, index: int, recipe: Recipe, rng: random.Random
) -> Generator[Ask, Any, Example | None]:
    words, _ = yield from candidates(original, current, index, recipe)
    return current.replaced(index, rng.choice(words)) if words else None


def _restored(
    original: Words, text: Example, changed: list[int], questions: Questions, rng: random.Random
) -> Generator[Ask, Any, Example]:
    for index in rng.sample(changed, len(changed)):
        candidate = Words.of(text).replaced(index, original.words[index])
        _, fooled = yield from questions.judge([candidate])
        if any(fooled):
            text = candidate
    return text
