"""Word lists and thesauri: stop words, WordNet, neighbours in a word embedding."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from robustlib.data import content

MIN_COSINE, MOST_NEIGHBOURS = 0.5, 50  # TextFooler's bounds on the neighbours of a word


def _stop_words(name: str) -> frozenset[str]:
    return frozenset(Path(__file__).with_name(f"stop_words_{name}.txt").read_text(encoding="utf-8").split())


# NLTK's English stop words (179), what TextAttack's StopwordModification leaves alone by default. Compared with case:
# "The" is not among them, and may be changed.
STOP_WORDS = _stop_words("nltk")
# TextFooler's own list (266), from its authors' code: no "be", "do", "have", "very", but "first", "used", "empty".
TEXTFOOLER_STOP_WORDS = _stop_words("textfooler")

_PARTS = ("noun", "verb", "adj", "adv")
_ENDINGS = {  # Princeton's rules of detachment (manual page morphy.7WN), and "ves" -> "f" which NLTK adds
    "noun": "s: ses:s ves:f xes:x zes:z ches:ch shes:sh men:man ies:y",
    "verb": "s: ies:y es:e es: ed:e ed: ing:e ing:",
    "adj": "er: est: er:e est:e",
    "adv": "",
}


class WordNet:
    """Synonyms from WordNet's own files, as NLTK finds them, loaded in a fifth of a second instead of seven.

    `files`: as `robustlib.data.fetch("wordnet")` returns them (WordNet 3.0).
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._index: dict[str, dict[str, list[int]]] = {}  # part -> lemma -> tagged senses, then offsets
        self._data: dict[str, bytes] = {}
        self._exceptions: dict[str, dict[str, list[str]]] = {}
        for part in _PARTS:
            # Offsets count bytes of files with Unix line ends; some copies come with Windows ones.
            self._data[part] = content(files, f"data.{part}").replace(b"\r\n", b"\n")
            index = content(files, f"index.{part}").decode("latin-1").splitlines()
            entries = (line.split() for line in index if not line.startswith(" "))  # the licence is indented
            self._index[part] = {entry[0]: [int(at) for at in entry[-int(entry[2]) - 1 :]] for entry in entries}
            exceptions = content(files, f"{part}.exc").decode("latin-1").splitlines()
            self._exceptions[part] = {line.split()[0]: line.split()[1:] for line in exceptions if line.strip()}

    def base_forms(self, word: str, part: str) -> list[str]:
        """Entries of the index that `word` (lower case) may be a form of; the word itself first."""
        forms = self._exceptions[part].get(word)
        if forms is None:
            rules = (rule.split(":") for rule in _ENDINGS[part].split())
            forms = [word[: len(word) - len(old)] + new for old, new in rules if word.endswith(old)]
        return [form for form in dict.fromkeys([word, *forms]) if form in self._index[part]]

    def synonyms(self, word: str) -> list[str]:
        """Sorted lemma names of all synsets of a word in any part of speech, phrases joined with "_"."""
        lemmas = {
            lemma
            for part in _PARTS
            for form in self.base_forms(word.lower(), part)
            for offset in self._index[part][form][1:]
            for lemma in self._lemmas(part, offset)
        }
        return sorted(lemmas)

    def sense_counts(self, word: str, part: str) -> tuple[int, int]:
        """Senses of a word in a part of speech: those seen in WordNet's tagged texts, and all."""
        entries = [self._index[part][form] for form in self.base_forms(word.lower(), part)]
        return sum(entry[0] for entry in entries), sum(len(entry) - 1 for entry in entries)

    def _lemmas(self, part: str, offset: int) -> list[str]:
        data = self._data[part]
        fields = data[offset : data.index(b"\n", offset)].decode("latin-1").split(" ")
        names = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        return [name.split("(")[0] for name in names]  # adjectives carry markers such as "(a)"


def embedding_neighbours(words: Sequence[str], vectors: np.ndarray) -> Callable[[str], Sequence[str]]:
    """Neighbours of (n,) words by their vectors (n, d), nearest first: TextFooler's candidates from other vectors."""
    unit = np.asarray(vectors, dtype=np.float32)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True).clip(1e-12)
    rows = {word: i for i, word in enumerate(words)}

    @lru_cache(maxsize=2**14)
    def neighbours(word: str) -> tuple[str, ...]:
        row = rows.get(word)
        if row is None:
            return ()
        cosine = unit @ unit[row]
        nearest = np.argsort(-cosine, kind="stable")[: MOST_NEIGHBOURS + 1]
        return tuple(words[i] for i in nearest if i != row and cosine[i] >= MIN_COSINE)[:MOST_NEIGHBOURS]

    return neighbours
