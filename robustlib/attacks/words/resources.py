"""The attacks by name, with the word lists, thesauri and models that this machine has.

What stands in for an unavailable resource is written into the recipe's `note`, for the record of a run.
"""

import json
import re
from dataclasses import replace
from functools import lru_cache

import numpy as np

from robustlib.attacks.words import recipes
from robustlib.attacks.words.lexicon import WordNet, embedding_neighbours
from robustlib.attacks.words.queries import Memory
from robustlib.attacks.words.search import Recipe
from robustlib.attacks.words.tagger import Tagger, perceptron_tagger, wordnet_tagger
from robustlib.attacks.words.transformations import Synonyms
from robustlib.data import FetchError, content, fetch, resolve_dataset

RECIPES = ("dg", "pwws", "tf", "bae")


def load_recipe(
    name: str, *, seed: int = 0, device: str = "cpu", masked_lm: recipes.MaskedLM | Memory | None = None
) -> Recipe:
    """One of the paper's attacks ("dg", "pwws", "tf", "bae": see README.md), ready for `attack_texts`.

    Thesauri and models are loaded once in a process, and their answers remembered: keep the recipe for a sweep.

    Args:
        name: "tf-10" is tf that changes at most 10 % of a text's words; so for every recipe and percentage.
        seed: of DeepWordBug's edits.
        device: where the sentence encoder of tf and bae runs.
        masked_lm: for bae only: see `recipes.bae`.

    Raises:
        ValueError, FetchError: unknown name, or bae without a masked language model; no source has WordNet.
    """
    if match := re.fullmatch(r"(\w+)-(\d+)", name):
        recipe = load_recipe(match[1], seed=seed, device=device, masked_lm=masked_lm)
        return replace(recipe, name=name, most_changed=int(match[2]) / 100)
    if name == "dg":
        return recipes.deepwordbug(seed=seed)
    if name == "pwws":
        return recipes.pwws(load_wordnet().synonyms)
    if name == "tf":
        neighbours, source = load_neighbours()
        tagger, tags = load_tagger()
        recipe = recipes.textfooler(neighbours, tagger, load_sentence_encoder(device))
        return replace(recipe, note=f"neighbours: {source}; tags: {tags}; similarity: MiniLM")
    if name == "bae":
        if masked_lm is None:
            raise ValueError("bae needs masked_lm=, a masked language model (robustlib.training.texts has one)")
        tagger, tags = load_tagger()
        recipe = recipes.bae(masked_lm, tagger, load_sentence_encoder(device))
        return replace(recipe, note=f"tags: {tags}; similarity: MiniLM")
    raise ValueError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")


@lru_cache(maxsize=1)
def load_wordnet() -> WordNet:
    name, _ = resolve_dataset(("wordnet", "wordnet_debian"))
    return WordNet(fetch(name))


@lru_cache(maxsize=1)
def load_neighbours() -> tuple[Synonyms, str]:
    """Neighbours of words for TextFooler, nearest first, and what they come from."""
    try:
        table = json.loads(content(fetch("counter_fitting"), "neighbors_top8_euc0.7.json"))
    except FetchError:
        return minilm_neighbours(), "MiniLM's input embeddings, cosine >= 0.5"
    return lambda word: table.get(word, ()), "counter-fitted vectors, the nearest 8 with cosine >= 0.755"


def minilm_neighbours() -> Synonyms:
    """Neighbours among the whole words of MiniLM's vocabulary, by the cosine of its input embeddings.

    Weaker than counter-fitted vectors: opposites, which share their contexts, count as near.
    """
    from robustlib.models.pretrained import load_minilm

    encoder, tokenizer = load_minilm()
    vectors = encoder.get_input_embeddings().weight.detach().numpy()
    vocabulary = sorted((word, at) for word, at in tokenizer.get_vocab().items() if word.isalpha() and word.isascii())
    words, rows = zip(*vocabulary, strict=True)
    return embedding_neighbours(words, vectors[np.array(rows)])


@lru_cache(maxsize=1)
def load_tagger() -> tuple[Tagger, str]:
    """Part-of-speech tagger and what it is: the perceptron where its weights are available, else WordNet's counts."""
    try:
        return perceptron_tagger(fetch("pos_tagger")["tagger.json.gz"]), "averaged perceptron, UD English EWT"
    except FetchError:
        pass
    return wordnet_tagger(load_wordnet()), "the part of speech WordNet saw most, out of context"


@lru_cache(maxsize=2)
def load_sentence_encoder(device: str = "cpu") -> Memory:
    from robustlib.models.texts import SentenceEncoder

    return recipes.remembered(SentenceEncoder().to(device))
