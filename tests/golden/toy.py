"""A toy world in pure Python, the same in TextAttack's environment and in ours, for the golden comparison.

A bag-of-words victim, a tagger, a sentence encoder and a masked language model whose answers follow from hashes,
so that no two of them tie by accident.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import zlib

MASK = "[MASK]"
_WORDS = (
    "a film movie story plot script actor scene music humor charm heart fun joy mess bore dull slow dry flat bad good "
    "great fine sweet smart warm bright weak poor thin loud cold dark deep light real true false old new young small "
    "big long short ##s ##ing ##ed . , ! ' the of and is was runs walks feels looks tells gives takes makes shows"
)
VOCABULARY = _WORDS.split()
LABELS = ("NOUN", "VERB", "ADJ", "ADV")


def unit(key: str) -> float:
    """A number in [-1, 1) that follows from the key."""
    return zlib.crc32(key.encode()) / 2**31 - 1.0


def logits_of(example: str | tuple[str, str], weights: dict[str, float], n_classes: int = 2) -> list[float]:
    """(n_classes,) sums of word weights, with a little of their own for each word and for its place."""
    text = example if isinstance(example, str) else "\n".join(example)
    words = re.findall(r"\w+", text)
    sums = []
    for label in range(n_classes):
        sign = (-1.0, 1.0, 0.5)[label]
        own = (0.3 * unit(f"{label}/{word}") + 0.03 * unit(f"{label}/{at}/{word}") for at, word in enumerate(words))
        sums.append(sum(sign * weights.get(word.lower(), 0.0) for word in words) + sum(own))
    return sums


def tag(words: list[str]) -> list[str]:
    """One tag a word, from its last two letters and whether a neighbour is long."""
    tags = []
    for position, word in enumerate(words):
        follower = words[position + 1] if position + 1 < len(words) else ""
        tags.append(LABELS[(zlib.crc32(word[-2:].lower().encode()) + (len(follower) > 5)) % len(LABELS)])
    return tags


def embed(text: str) -> list[float]:
    """(24,) letter-pair profile of a text: a changed word moves it a little."""
    profile = [1.0] * 24
    for left, right in itertools.pairwise(text):
        profile[zlib.crc32((left + right).encode()) % 24] += 1.0
    return profile


def mask_logits(masked_text: str) -> list[float]:
    """One logit for each entry of VOCABULARY, from the words beside the mask."""
    before, _, after = masked_text.partition(MASK)
    left, right = (re.findall(r"\w+", before) or [""])[-1], (re.findall(r"\w+", after) or [""])[0]
    return [3.0 * unit(f"{left}|{right}|{word}") for word in VOCABULARY]


def neighbours(word: str) -> list[str]:
    """Up to six words of the vocabulary, nearest first."""
    ranked = sorted(
        (other for other in VOCABULARY if other.isalpha() and other != word), key=lambda other: unit(word + other)
    )
    return ranked[: 2 + zlib.crc32(word.encode()) % 5]


def edit_rng(seed: int, text: str, index: int) -> random.Random:
    """The generator of the character edits of word `index` of `text`."""
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return random.Random(f"{seed}/{index}/{digest}")
