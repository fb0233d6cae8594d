"""Substitutes of every whole word of a vocabulary, for ASCC: from lists, WordNet, or the token embeddings."""

from __future__ import annotations

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

SUBSTITUTES = ("counter-fitted", "wordnet", "embedding")
MIN_COSINE = 0.5  # of substitutes from an embedding, as in TextFooler


def resolve_substitutes(preferred: Sequence[str] = SUBSTITUTES) -> tuple[str, dict[str, str]]:
    """The first source of substitutes that can be had, and for each one before it the reason why it cannot."""
    reasons: dict[str, str] = {}
    for name in preferred:
        try:
            if name == "counter-fitted":
                fetch("counter_fitting")
            elif name == "wordnet":
                load_wordnet()
        except FetchError as error:
            reasons[name] = str(error)
        else:
            return name, reasons
    raise FetchError("\n\n".join(reasons.values()))


def substitution_table(
    model: TextClassifier, *, substitutes: str = "counter-fitted", n_substitutes: int = 8
) -> SubstitutionTable:
    """Substitutes of every whole word in a model's vocabulary; from the cache where known.

    Args:
        model: its tokeniser gives the vocabulary, its token embeddings (as they are now: build the table before
            fine-tuning) the distances that "wordnet" and "embedding" need. The table lies on the model's device.
        substitutes: "counter-fitted", the lists of Jia et al. 2019 that both reference codes use; "wordnet", synonyms,
            those nearest in the token embeddings first; "embedding", the nearest words in the token embeddings, with
            cosine at least `MIN_COSINE`. The last needs no data, but takes opposites for substitutes. The last two
            leave stop words alone. See `resolve_substitutes`.
        n_substitutes: at most so many for a word; the lists of Jia et al. hold at most 8.

    Raises:
        FetchError: the source cannot be had.
        ValueError: unknown source, or `n_substitutes` below 1.
    """
    if substitutes not in SUBSTITUTES:
        raise ValueError(f"substitutes must be one of {', '.join(SUBSTITUTES)}, got {substitutes!r}")
    if n_substitutes < 1:
        raise ValueError(f"n_substitutes must be at least 1, got {n_substitutes}")
    vectors = model.body.get_input_embeddings().weight.detach().float().cpu()
    words, pieces = _vocabulary(model.tokenizer)
    config = {
        "substitutes": substitutes,
        "n_substitutes": n_substitutes,
        "vocabulary": cache.content_digest([json.dumps([sorted(words.items()), sorted(pieces), len(vectors)])]),
        "vectors": None if substitutes == "counter-fitted" else cache.content_digest([vectors]),
    }

    def compute() -> dict[str, Any]:
        found = _sources[substitutes](words, vectors, n_substitutes)
        ids = torch.arange(len(vectors))[:, None].repeat(1, 1 + n_substitutes)
        allowed = torch.zeros_like(ids, dtype=torch.bool)
        allowed[:, 0] = True
        for token, others in found.items():
            ids[token, 1 : 1 + len(others)] = torch.tensor(others, dtype=torch.int64)
            allowed[token, 1 : 1 + len(others)] = True
        continues = torch.zeros(len(vectors), dtype=torch.bool)
        continues[torch.tensor(sorted(pieces), dtype=torch.int64)] = True
        return {"ids": ids, "allowed": allowed, "continues": continues}

    table = cache.cached("substitution_table", config, compute, rooms=("training.substitutes",))
    return SubstitutionTable(**table, source=substitutes).to(model.device)


def _vocabulary(tokenizer: Any) -> tuple[dict[str, int], set[int]]:
    """Whole words of a vocabulary with their ids, and the ids of tokens that go on with a word."""
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    vocabulary = {token: at for token, at in tokenizer.get_vocab().items() if token not in special}
    if type(tokenizer.model).__name__ == "WordPiece":
        prefix = tokenizer.model.continuing_subword_prefix
        pieces = {at for token, at in vocabulary.items() if token.startswith(prefix)}
        words = {token: at for token, at in vocabulary.items() if at not in pieces}
    else:  # byte-level tokenisers mark a word's beginning with "Ġ", SentencePiece with "▁"
        begins = {token: at for token, at in vocabulary.items() if token[0] in "Ġ▁"}
        pieces = {at for token, at in vocabulary.items() if token not in begins and token[0].isalnum()}
        words = {token[1:]: at for token, at in begins.items()}
    # Sorted, since a tokeniser hands its vocabulary over in another order in every process.
    return {word: at for word, at in sorted(words.items()) if word.isalpha() and word.isascii()}, pieces


def _listed(words: Mapping[str, int], neighbours: Callable[[str], Sequence[str]]) -> dict[int, list[int]]:
    """Ids of each word's neighbours that are words of the vocabulary in the same case, in their order."""
    found = {}
    for word, at in words.items():
        cased = (transformations.match_case(other, word) for other in neighbours(word.lower()))
        found[at] = [other for other in dict.fromkeys(words.get(other) for other in cased) if other not in (None, at)]
    return found


def _counter_fitted(words: Mapping[str, int], vectors: Tensor, limit: int) -> dict[int, list[int]]:
    lists = json.loads(content(fetch("counter_fitting"), "counterfitted_neighbors.json"))
    return {at: others[:limit] for at, others in _listed(words, lambda word: lists.get(word, ())).items()}


def _wordnet(words: Mapping[str, int], vectors: Tensor, limit: int) -> dict[int, list[int]]:
    unit = functional.normalize(vectors)
    found = _listed(_without_stop_words(words), load_wordnet().synonyms)
    return {
        at: [others[i] for i in (unit[others] @ -unit[at]).argsort(stable=True)[:limit].tolist()]
        for at, others in found.items()
        if others
    }


def _nearest(words: Mapping[str, int], vectors: Tensor, limit: int) -> dict[int, list[int]]:
    ids = torch.tensor(list(_without_stop_words(words).values()), dtype=torch.int64)
    unit = functional.normalize(vectors[ids])
    found = {}
    for rows in torch.arange(len(ids)).split(1024):  # 1024 x 20,000 cosines at a time
        cosine = unit[rows] @ unit.T
        cosine[torch.arange(len(rows)), rows] = -1  # not itself
        best, order = cosine.topk(min(limit, len(ids)), dim=1)
        for row, near, others in zip(rows.tolist(), best >= MIN_COSINE, ids[order], strict=True):
            found[int(ids[row])] = others[near].tolist()
    return found


def _without_stop_words(words: Mapping[str, int]) -> dict[str, int]:
    return {word: at for word, at in words.items() if word.lower() not in lexicon.STOP_WORDS}


_sources = {"counter-fitted": _counter_fitted, "wordnet": _wordnet, "embedding": _nearest}
