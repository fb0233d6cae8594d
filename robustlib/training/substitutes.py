"""Substitutes of every whole word of a vocabulary, for ASCC: from lists, WordNet, or the token embeddings."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from robustlib.attacks.words import lexicon, transformations
from robustlib.attacks.words.resources import load_wordnet
from robustlib.data import FetchError, cache, content, fetch
from robustlib.models.texts import TextClassifier
from robustlib.training.ascc import SubstitutionTable

N_SUBSTITUTES = 8  # at most, for a word: as many as the longest list of Jia et al. 2019
MIN_COSINE = 0.5  # of substitutes from an embedding, as in TextFooler


def available_source() -> str:
    """The first of `SOURCES` whose data are available; "embedding" needs none."""
    for name, load in (("counter-fitted", lambda: fetch("counter_fitting")), ("wordnet", load_wordnet)):
        try:
            load()
        except FetchError:
            continue
        return name
    return "embedding"


def substitution_table(model: TextClassifier, *, source: str = "counter-fitted") -> SubstitutionTable:
    """Substitutes of every whole word in a model's vocabulary, on its device; from the cache where known.

    Args:
        model: before fine-tuning: "wordnet" and "embedding" need the distances between its token embeddings.
        source: "counter-fitted", the lists of Jia et al. 2019 that both reference codes of ASCC use; "wordnet",
            synonyms, those nearest in the token embeddings first; "embedding", the nearest words in the token
            embeddings, with cosine at least `MIN_COSINE`, antonyms among them. The last two leave stop words alone.

    Raises:
        FetchError: the source is unavailable.
    """
    if source not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}, got {source!r}")
    vectors = model.body.get_input_embeddings().weight.detach().float().cpu()
    words, pieces = _vocabulary(model.tokenizer)
    config = {
        "source": source,
        "vocabulary": cache.content_digest([json.dumps([sorted(words.items()), sorted(pieces), len(vectors)])]),
        "vectors": None if source == "counter-fitted" else cache.content_digest([vectors]),
    }

    def compute() -> dict[str, Any]:
        ids = torch.arange(len(vectors))[:, None].repeat(1, 1 + N_SUBSTITUTES)
        allowed = torch.zeros_like(ids, dtype=torch.bool)
        allowed[:, 0] = True
        for token, others in SOURCES[source](words, vectors).items():
            ids[token, 1 : 1 + len(others)] = torch.tensor(others, dtype=torch.int64)
            allowed[token, 1 : 1 + len(others)] = True
        continues = torch.zeros(len(vectors), dtype=torch.bool)
        continues[torch.tensor(sorted(pieces), dtype=torch.int64)] = True
        return {"ids": ids, "allowed": allowed, "continues": continues}

    table = cache.cached("substitution_table", config, compute, rooms=("training.substitutes",))
    return SubstitutionTable(**{name: tensor.to(model.device) for name, tensor in table.items()})


def _vocabulary(tokenizer: Any) -> tuple[dict[str, int], set[int]]:
    """Whole words of a vocabulary with their ids, and the ids of tokens that continue a word."""
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    vocabulary = {token: index for token, index in tokenizer.get_vocab().items() if token not in special}
    if type(tokenizer.model).__name__ == "WordPiece":
        prefix = tokenizer.model.continuing_subword_prefix
        pieces = {index for token, index in vocabulary.items() if token.startswith(prefix)}
        words = {token: index for token, index in vocabulary.items() if index not in pieces}
    else:  # byte-level tokenisers mark a word's beginning with "Ġ", SentencePiece with "▁"
        begins = {token: index for token, index in vocabulary.items() if token[0] in "Ġ▁"}
        pieces = {index for token, index in vocabulary.items() if token not in begins and token[0].isalnum()}
        words = {token[1:]: index for token, index in begins.items()}
    # Sorted, since a tokeniser hands its vocabulary over in another order in every process.
    return {word: index for word, index in sorted(words.items()) if word.isalpha() and word.isascii()}, pieces


def _listed(words: Mapping[str, int], neighbours: Callable[[str], Sequence[str]]) -> dict[int, list[int]]:
    """Ids of each word's neighbours that are words of the vocabulary in the same case, in their order."""
    substitutes = {}
    for word, token in words.items():
        cased = dict.fromkeys(words.get(transformations.match_case(other, word)) for other in neighbours(word.lower()))
        substitutes[token] = [other for other in cased if other not in (None, token)]
    return substitutes


def _counter_fitted(words: Mapping[str, int], vectors: Tensor) -> dict[int, list[int]]:
    lists = json.loads(content(fetch("counter_fitting"), "counterfitted_neighbors.json"))
    substitutes = _listed(words, lambda word: lists.get(word, ()))
    return {token: others[:N_SUBSTITUTES] for token, others in substitutes.items()}


def _wordnet(words: Mapping[str, int], vectors: Tensor) -> dict[int, list[int]]:
    unit = functional.normalize(vectors)
    synonyms = _listed(_without_stop_words(words), load_wordnet().synonyms)
    return {
        token: [others[i] for i in (unit[others] @ -unit[token]).argsort(stable=True)[:N_SUBSTITUTES].tolist()]
        for token, others in synonyms.items()
        if others
    }


def _nearest(words: Mapping[str, int], vectors: Tensor) -> dict[int, list[int]]:
    ids = torch.tensor(list(_without_stop_words(words).values()), dtype=torch.int64)
    unit = functional.normalize(vectors[ids])
    substitutes = {}
    for rows in torch.arange(len(ids)).split(1024):  # 1024 x 20,000 cosines at a time
        cosine = unit[rows] @ unit.T
        cosine[torch.arange(len(rows)), rows] = -1  # not itself
        best, order = cosine.topk(min(N_SUBSTITUTES, len(ids)), dim=1)
        for row, near, others in zip(rows.tolist(), best >= MIN_COSINE, ids[order], strict=True):
            substitutes[int(ids[row])] = others[near].tolist()
    return substitutes


def _without_stop_words(words: Mapping[str, int]) -> dict[str, int]:
    return {word: at for word, at in words.items() if word.lower() not in lexicon.STOP_WORDS}


SOURCES = {"counter-fitted": _counter_fitted, "wordnet": _wordnet, "embedding": _nearest}
