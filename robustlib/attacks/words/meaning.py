"""Does an attacked text still say the same? What can be measured without asking anybody; notebooks/15."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from robustlib.attacks.words.words import Example, Words, changed_share, joined


@dataclass(frozen=True)
class Pairs:
    """Measures of n pairs of a text and what became of it, arrays (n,).

    Attributes:
        changed: share of the words that differ.
        similarity: cosine of the two sentence embeddings.
        unknown: words that are in no vocabulary, after minus before: a stand-in for errors of spelling.
        surprise: per-character perplexity of the text after, divided by that before: a stand-in for fluency.
    """

    changed: np.ndarray
    similarity: np.ndarray
    unknown: np.ndarray
    surprise: np.ndarray

    def keep(self, limits: Limits) -> np.ndarray:
        """(n,) whether a pair stays within every limit; an unchanged text does."""
        return (
            (self.changed <= limits.changed)
            & (self.similarity >= limits.similarity)
            & (self.unknown <= limits.unknown)
            & (self.surprise <= limits.surprise)
        )


@dataclass(frozen=True)
class Limits:
    """What a pair may differ by and still count as one meaning; ours, fixed before looking.

    `similarity`: TextFooler's 0.84; the others: a quarter of the words, one unknown word, twice the perplexity.
    """

    changed: float = 0.25
    similarity: float = 0.84
    unknown: int = 1
    surprise: float = 2.0


def compare_pairs(
    before: Sequence[Example],
    after: Sequence[Example],
    *,
    encode: Callable[[list[str]], Sequence[np.ndarray]],
    known: Callable[[str], bool],
    language: CharacterModel,
) -> Pairs:
    """Measure pairs; `encode`: texts to embeddings (d,), `known`: whether a lower-case word is in the vocabulary."""
    first, second = ([joined(text) for text in texts] for texts in (before, after))
    vectors = [np.asarray(encode(texts)) for texts in (first, second)]
    lengths = np.prod([np.linalg.norm(part, axis=1) for part in vectors], axis=0)
    similarity = (vectors[0] * vectors[1]).sum(axis=1) / np.maximum(lengths, 1e-12)

    texts = list(zip(first, second, strict=True))

    def strange(text: str) -> int:
        return sum(not known(word.lower()) for word in Words.of(text).words if word.isalpha())

    return Pairs(
        changed=np.array([changed_share(*pair) for pair in zip(before, after, strict=True)]),
        similarity=np.where([a == b for a, b in texts], 1.0, similarity),
        unknown=np.array([strange(b) - strange(a) for a, b in texts]),
        surprise=np.array([language.perplexity(b) / language.perplexity(a) for a, b in texts]),
    )


class CharacterModel:
    """An n-gram model of characters with Witten-Bell smoothing (Witten and Bell 1991), counted on training texts."""

    def __init__(self, texts: Sequence[str], order: int = 6) -> None:
        self.order, self.counts = order, [Counter() for _ in range(order)]
        self.totals, self.kinds = ([Counter() for _ in range(order)] for _ in range(2))
        padded = [self._padded(text) for text in texts]
        for length, counts in enumerate(self.counts):
            for text in padded:
                counts.update([text[at - length : at + 1] for at in range(order - 1, len(text))])
            self.kinds[length].update(gram[:-1] for gram in counts)
            for gram, count in counts.items():
                self.totals[length][gram[:-1]] += count
        self.alphabet = len(self.counts[0]) + 1

    def perplexity(self, text: str) -> float:
        """Per character, the end of the text included."""
        padded, total = self._padded(text), 0.0
        for at in range(self.order - 1, len(padded)):
            total -= math.log(self._probability(padded[at - self.order + 1 : at], padded[at]))
        return math.exp(total / (len(padded) - self.order + 1))

    def _padded(self, text: str) -> str:
        return "\n" * (self.order - 1) + text.lower() + "\n"

    def _probability(self, context: str, character: str) -> float:
        probability = 1 / self.alphabet
        for length in range(self.order):
            part = context[len(context) - length :]
            total, kinds = self.totals[length][part], self.kinds[length][part]
            if total:
                probability = (self.counts[length][part + character] + kinds * probability) / (total + kinds)
        return probability
