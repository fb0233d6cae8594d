"""What a replacement must respect besides changing the prediction.

A constraint takes the original and the current words, the position and the proposed replacements, and returns
those it allows.
"""

from collections.abc import Callable
from functools import lru_cache

from rapidfuzz.distance import Levenshtein

from robustlib.attacks.words.tagger import Tagger
from robustlib.attacks.words.words import Words, joined

Constraint = Callable[[Words, Words, int, list[str]], list[str]]


def edit_distance_at_most(limit: int) -> Constraint:
    """Levenshtein distance to the original text at most `limit` characters (DeepWordBug: 30)."""

    def constraint(original: Words, current: Words, index: int, words: list[str]) -> list[str]:
        def distance(word: str) -> int:
            return Levenshtein.distance(original.text, joined(current.replaced(index, word)), score_cutoff=limit)

        return [word for word in words if distance(word) <= limit]

    return constraint


def same_part_of_speech(tagger: Tagger) -> Constraint:
    """The replacement has the part of speech of the original word; nouns and verbs may change places.

    As in TextAttack both are tagged among the four words before and the three after of the original text, and
    a word that occurs twice there counts with its first tag.
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
