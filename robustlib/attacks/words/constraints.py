"""What a replacement must respect besides changing the prediction.

A constraint takes the original and the current words, the position and the proposed replacements, and returns
those it allows. TextAttack asks the same of whole texts; since one word changes at a time, words are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from robustlib.attacks.words.tagger import Tagger
from robustlib.attacks.words.words import Words, joined

Constraint = Callable[[Words, Words, int, list[str]], list[str]]


def edit_distance_at_most(limit: int = 30, *, per_word: int = 2) -> Constraint:
    """Levenshtein distance to the original text at most `limit` characters (DeepWordBug, epsilon = 30).

    Args:
        limit: largest distance allowed.
        per_word: an upper bound on the distance that one replacement adds. While changed words times this
            stays within the limit nothing is measured, which on a sentence is nearly always.
    """

    def constraint(original: Words, current: Words, index: int, words: list[str]) -> list[str]:
        changed = sum(a != b for a, b in zip(original.words, current.words, strict=True))
        if (changed + 1) * per_word <= limit:
            return words
        return [word for word in words if within_edits(original.text, joined(current.replaced(index, word)), limit)]

    return constraint


def within_edits(a: str, b: str, limit: int) -> bool:
    """Whether the Levenshtein distance of two strings is at most `limit`.

    Furthest-reaching diagonals (Ukkonen 1985; Landau and Vishkin 1989): `limit` squared steps whatever the
    lengths, where the usual table needs len(a) * len(b).
    """
    if abs(len(a) - len(b)) > limit:
        return False
    reached = {0: _shared_prefix(a, b, 0, 0)}  # diagonal j - i -> furthest i
    for edits in range(1, limit + 1):
        if reached.get(len(b) - len(a)) == len(a):
            return True
        step = {}
        for diagonal in range(-edits, edits + 1):
            i = max(
                reached.get(diagonal - 1, -1),  # insert
                reached.get(diagonal, -2) + 1,  # substitute
                reached.get(diagonal + 1, -2) + 1,  # delete
            )
            i = min(i, len(a), len(b) - diagonal)
            if i >= max(0, -diagonal):
                step[diagonal] = i + _shared_prefix(a, b, i, i + diagonal)
        reached = step
    return reached.get(len(b) - len(a)) == len(a)


def _shared_prefix(a: str, b: str, i: int, j: int) -> int:
    """Length of the longest common prefix of a[i:] and b[j:], by slices that double, then halve."""
    length, size = 0, 16
    while a[i + length : i + length + size] == b[j + length : j + length + size]:
        if i + length >= len(a) or j + length >= len(b):
            return min(len(a) - i, len(b) - j)
        length, size = min(length + size, len(a) - i, len(b) - j), 2 * size
    while size > 1:
        size //= 2
        if a[i + length : i + length + size] == b[j + length : j + length + size]:
            length += size
    return min(length, len(a) - i, len(b) - j)


def same_part_of_speech(tagger: Tagger) -> Constraint:
    """The replacement has the part of speech of the original word; nouns and verbs may change places.

    As in TextAttack both are tagged among the four words before and the three after of the original text, and
    a word that occurs twice there counts with its first tag.

    Args:
        tagger: words and a position to the universal tag ("NOUN", "VERB", ...) of the word there.
    """

    @lru_cache(maxsize=2**16)
    def tag(before: tuple[str, ...], word: str, after: tuple[str, ...]) -> str:
        context = [*before, word, *after]
        return tagger(context, context.index(word))

    def constraint(original: Words, current: Words, index: int, words: list[str]) -> list[str]:
        before, after = original.words[max(index - 4, 0) : index], original.words[index + 1 : index + 4]
        wanted = tag(before, original.words[index], after)
        allowed = {"NOUN", "VERB"} if wanted in ("NOUN", "VERB") else {wanted}
        return [word for word in words if tag(before, word, after) in allowed]

    return constraint
