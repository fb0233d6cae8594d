"""What a word may be replaced with: character edits, synonyms, neighbours, and a language model's guesses."""

import random
import re
import string
from collections.abc import Callable, Sequence

from robustlib.attacks.words.lexicon import MOST_NEIGHBOURS
from robustlib.attacks.words.words import split_words

Synonyms = Callable[[str], Sequence[str]]


def character_edits(word: str, rng: random.Random) -> list[str]:
    """DeepWordBug's edits, at most four, at random places: swap neighbours, substitute, delete, insert a letter."""
    if len(word) < 2:
        return []
    at = rng.randrange(0, len(word) - 1)
    edits = [word[:at] + word[at + 1] + word[at] + word[at + 2 :]]
    at = rng.randrange(0, len(word))
    edits.append(word[:at] + rng.choice(string.ascii_letters) + word[at + 1 :])
    at = rng.randrange(0, len(word))
    edits.append(word[:at] + word[at + 1 :])
    at = rng.randrange(0, len(word))
    edits.append(word[:at] + rng.choice(string.ascii_letters) + word[at:])
    return [edit for edit in dict.fromkeys(edits) if edit != word]


def wordnet_swaps(word: str, synonyms: Synonyms) -> list[str]:
    """All lemmas of all synsets of a word, with WordNet's own case; phrases are left out (PWWS)."""
    return [other for other in synonyms(word) if other != word and "_" not in other and len(split_words(other)) == 1]


def neighbour_swaps(word: str, neighbours: Synonyms) -> list[str]:
    """The nearest words in an embedding, in the case of the word they replace (TextFooler)."""
    recased = (match_case(other, word) for other in neighbours(word.lower())[:MOST_NEIGHBOURS])
    return [other for other in recased if other != word]


def match_case(word: str, reference: str) -> str:
    """`word` in lower case, UPPER CASE or Capitalised, whichever `reference` is."""
    if reference.islower():
        return word.lower()
    if reference.isupper() and len(reference) > 1:
        return word.upper()
    if reference[0].isupper() and reference[1:].islower():
        return word.capitalize()
    return word


def guessed_swaps(word: str, guesses: Sequence[tuple[str, float]], limit: int = 50) -> list[str]:
    """The first `limit` guesses of a masked language model that are words, most likely first (BAE).

    Word pieces count as words once their `##` is taken off, as in TextAttack, so a word may come up twice.
    """
    pieces = [guess.replace("##", "") for guess, _ in guesses]
    words = [piece for piece in pieces if len(split_words(piece)) == 1 and not set(piece) <= set(string.punctuation)]
    return [other for other in words[:limit] if other != word and re.search("[a-zA-Z]", other)]
