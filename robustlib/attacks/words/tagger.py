"""Part-of-speech taggers in plain Python: words and a position to the universal tag ("NOUN", "VERB", ...) there."""

import gzip
import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from robustlib.attacks.words.lexicon import WordNet

Tagger = Callable[[Sequence[str], int], str]
_START, _END = "<s>", "</s>"
# Universal Dependencies' tags in the twelve of Petrov et al. 2012, which TextAttack compares
_TWELVE = {"PROPN": "NOUN", "AUX": "VERB", "SCONJ": "ADP", "CCONJ": "CONJ", "PART": "PRT", "INTJ": "X"}
_UNIVERSAL = {"noun": "NOUN", "verb": "VERB", "adj": "ADJ", "adv": "ADV"}


def perceptron_tagger(path: Path | str) -> Tagger:
    """Averaged perceptron (Honnibal's features, as in NLTK's tagger) with weights from a gzipped JSON file.

    The file is that of the Python package denckring-en-pos 0.6.0, trained on the Universal Dependencies English Web
    Treebank (CC BY-SA 4.0): 93.4 % of the tags of its test split right, punctuation left out. NLTK's own weights,
    which TextAttack uses, are on no package index. Its "weights" are {feature: {label: weight}}, its "tagdict" {word:
    label} for words with one label; the part of a label before "|" is the universal tag.
    """
    with gzip.open(path, "rt", encoding="utf-8") as file:
        model = json.load(file)
    certain: dict[str, str] = model["tagdict"]
    labels = sorted(model["classes"], reverse=True)  # of equal scores the last name wins
    # Weights have three decimals: as integers their sums are exact, and ties are ties in any order of adding.
    weights = {
        feature: [(label, round(1000 * weight)) for label, weight in row.items()]
        for feature, row in model["weights"].items()
    }

    def add(scores: dict[str, int], feature: str) -> None:
        for label, weight in weights.get(feature, ()):
            scores[label] += weight

    @lru_cache(maxsize=2**16)
    def score_so_far(word: str, before2: str, before1: str, tag2: str, tag1: str) -> dict[str, int]:
        """Scores from the word itself and what stands before it: shared by all that may follow."""
        scores = dict.fromkeys(labels, 0)
        for feature in _features(word, before2, before1, tag2, tag1):
            add(scores, feature)
        return scores

    def tag(words: Sequence[str], position: int) -> str:
        lower = [_START, _START, *(word.lower() for word in words), _END, _END]
        tag2 = tag1 = _START
        for at in range(position + 1):
            label = certain.get(lower[at + 2])
            if label is None:
                scores = score_so_far(words[at], lower[at], lower[at + 1], tag2, tag1).copy()
                add(scores, f"w+1 {lower[at + 3]}")
                add(scores, f"w+2 {lower[at + 4]}")
                label = max(scores, key=scores.__getitem__)
            tag2, tag1 = tag1, label
        universal = tag1.partition("|")[0]
        return _TWELVE.get(universal, universal)

    return tag


def _features(word: str, before2: str, before1: str, tag2: str, tag1: str) -> list[str]:
    """Names of the features of a word in the weights, those of the two words after it left out."""
    lower = word.lower()
    shape = ("X" if word[:1].isupper() else "x") + ("d" if any(map(str.isdigit, word)) else "")
    return [
        "bias",
        f"suf3 {lower[-3:]}",
        f"suf2 {lower[-2:]}",
        f"suf1 {lower[-1:]}",
        f"pre1 {lower[:1]}",
        f"shape {shape}",
        f"w {lower}",
        f"t-1 {tag1}",
        f"t-2 {tag2}",
        f"t-1t-2 {tag1} {tag2}",
        f"w-1 {before1}",
        f"w-2 {before2}",
        f"t-1 w {tag1} {lower}",
    ]


def wordnet_tagger(wordnet: WordNet) -> Tagger:
    """The part of speech with most senses seen in WordNet's tagged texts, whatever stands around; NOUN if unknown.

    For machines without the perceptron's weights, with which it agrees on three content words of four. It cannot tell
    "a walk" from "they walk".
    """

    @lru_cache(maxsize=2**16)
    def tag_word(word: str) -> str:
        senses = {part: wordnet.sense_counts(word, part) for part in _UNIVERSAL}
        return _UNIVERSAL[max(senses, key=senses.__getitem__)]

    return lambda words, position: tag_word(words[position])
