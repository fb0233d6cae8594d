"""The paper's four text attacks as TextAttack 0.3.11 composes them; README.md has every part and difference."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from robustlib.attacks.words import transformations
from robustlib.attacks.words.constraints import Tagger, edit_distance_at_most, same_part_of_speech
from robustlib.attacks.words.lexicon import STOP_WORDS, TEXTFOOLER_STOP_WORDS
from robustlib.attacks.words.queries import Memory
from robustlib.attacks.words.search import Recipe, Similarity
from robustlib.attacks.words.transformations import Synonyms
from robustlib.attacks.words.words import Words, text_rng

SentenceEncoder = Callable[[list[str]], Any]
MaskedLM = Callable[[list[tuple[Sequence[str], int]]], Sequence[Sequence[tuple[str, float]]]]

# 1 - 0.5 / pi in angular similarity, which TextFooler's code compares without the division by pi
TEXTFOOLER_COSINE = math.cos(math.pi * (1 - 0.840845057))
BAE_COSINE = 0.936338023


def deepwordbug(*, seed: int = 0) -> Recipe:
    """DeepWordBug (Gao et al. 2018), the paper's "dg": one edit per word, the best of four that `seed` draws."""

    def propose(original: Words, current: Words, index: int) -> list[str]:
        return transformations.character_edits(original.words[index], text_rng(seed, index, original.text))

    return Recipe("dg", "unk", STOP_WORDS, propose, constraints=(edit_distance_at_most(30),))


def pwws(synonyms: Synonyms) -> Recipe:
    """Probability weighted word saliency (Ren et al. 2019): WordNet's synonyms, such as of `lexicon.WordNet(files)`."""

    def propose(original: Words, current: Words, index: int) -> list[str]:
        return transformations.wordnet_swaps(current.words[index], synonyms)

    return Recipe("pwws", "weighted-saliency", STOP_WORDS, propose)


def textfooler(neighbours: Synonyms, tagger: Tagger, sentence_encoder: SentenceEncoder | Memory) -> Recipe:
    """TextFooler (Jin et al. 2020): neighbours in counter-fitted vectors that keep part of speech and meaning.

    Args:
        neighbours: lower-case word to neighbours with cosine at least 0.5, nearest first.
        tagger: words and a position to a universal tag, see `tagger`.
        sentence_encoder: texts to embeddings (n, d), remembered as long as the recipe lives.
    """

    def propose(original: Words, current: Words, index: int) -> list[str]:
        return transformations.neighbour_swaps(current.words[index], neighbours)

    similarity = Similarity(remembered(sentence_encoder), TEXTFOOLER_COSINE, to_original=False)
    constraints = (same_part_of_speech(tagger),)
    return Recipe("tf", "delete", TEXTFOOLER_STOP_WORDS, propose, constraints=constraints, similarity=similarity)


def bae(masked_lm: MaskedLM | Memory, tagger: Tagger, sentence_encoder: SentenceEncoder | Memory) -> Recipe:
    """BAE, mode R (Garg and Ramakrishnan 2020): a masked language model's guesses for the word.

    Args:
        masked_lm: list of (tokens, position) to guesses (vocabulary entry, logit), most likely first, for the
            token at that position, which it masks. Tokens are cut at white space and around the word, so joined
            by spaces they are the text. Word pieces keep their "##". About 100 guesses leave 50 words.
        tagger, sentence_encoder: as for `textfooler`.
    """
    memory = masked_lm if isinstance(masked_lm, Memory) else Memory(masked_lm, length=_text_length, max_bytes=2**27)
    return Recipe(
        "bae",
        "delete",
        STOP_WORDS,
        masked_lm=memory,
        pick=transformations.guessed_swaps,
        constraints=(same_part_of_speech(tagger),),
        similarity=Similarity(remembered(sentence_encoder), BAE_COSINE, to_original=True),
    )


def _text_length(question: tuple[Sequence[str], int]) -> int:
    return sum(map(len, question[0]))


def remembered(sentence_encoder: SentenceEncoder | Memory) -> Memory:
    """A sentence encoder that is asked once for each text."""
    if isinstance(sentence_encoder, Memory):
        return sentence_encoder
    return Memory(lambda texts: list(np.asarray(sentence_encoder(texts), dtype=np.float32)))
