"""Texts of different lengths through a BERT encoder in one pass on a CPU, without padding.

Everything in an encoder but its attention treats one token after the other. So the tokens of many texts form one long
row for the matrix products, which are faster the longer it is, and only attention is computed text by text (equally
long ones together). What libraries for GPUs call "varlen" or "unpadded" attention. With one thread a text's states do
not depend on the others, to the last bit: from `onednn.LEAST_TOKENS` tokens on, a product's rows do not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.models.onednn import LEAST_TOKENS, onednn_products

MOST_TOKENS = 1024  # of a pass: what stays in a CPU's cache


def packs(encoder: nn.Module) -> bool:
    """Whether `run_packed` knows the encoder: a `transformers.BertModel` on a CPU."""
    return type(encoder).__name__ == "BertModel" and encoder.device.type == "cpu"


def run_packed(
    encoder: nn.Module, encodings: Sequence[Any], function: Callable[[Tensor], Tensor], width: int
) -> Tensor:
    """`function` of each text's mean state: (n, width) float32, in order, without gradients.

    Args:
        encoder: one that `packs`, in evaluation mode.
        encodings: `tokenizers.Encoding`, one for each text.
        function: means (k, d_model) to (k, width), each row by itself.
    """
    result = torch.empty(len(encodings), width)
    with torch.no_grad():
        for rows in passes([len(encoding) for encoding in encodings]):
            with onednn_products(encoder.device):
                means = _means(encoder, [encodings[row] for row in rows])
            result[torch.tensor(rows)] = function(means)[: len(rows)].float()
    return result


def passes(lengths: Sequence[int]) -> list[list[int]]:
    """Row numbers of the texts that go through together, by their lengths in tokens, the shortest first."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    together: list[list[int]] = []
    tokens = MOST_TOKENS
    for row in order:
        if tokens + lengths[row] > MOST_TOKENS:
            together.append([])
            tokens = 0
        together[-1].append(row)
        tokens += lengths[row]
    return together


def _means(encoder: nn.Module, encodings: list[Any]) -> Tensor:
    """Mean states (at least n, d_model) of n texts, the shortest first.

    Where there are few tokens, or one text alone, the longest is repeated: products of few rows are rounded otherwise.
    """
    missing = LEAST_TOKENS - sum(len(encoding) for encoding in encodings)
    repeats = max(-(-missing // len(encodings[-1])), int(len(encodings) == 1))
    encodings = encodings + encodings[-1:] * repeats
    of_length = [(length, len(list(group))) for length, group in itertools.groupby(len(each) for each in encodings)]

    embedded, where = _embedded(encoder.embeddings, encodings)
    states = embedded[where]
    for number, layer in enumerate(encoder.encoder.layer):
        attention = layer.attention.self
        # Query, key and value of a token in the first layer depend on no other token: equal tokens are projected once.
        seen, back = (states, slice(None)) if number else (embedded, where)
        projected = [project(seen)[back] for project in (attention.query, attention.key, attention.value)]
        states = layer.feed_forward_chunk(layer.attention.output(_attended(attention, projected, of_length), states))
    parts = states.split([length * n for length, n in of_length])
    return torch.cat([part.view(n, length, -1).mean(dim=1) for part, (length, n) in zip(parts, of_length, strict=True)])


def _embedded(embeddings: nn.Module, encodings: list[Any]) -> tuple[Tensor, Tensor]:
    """States of the distinct tokens, by word piece, type and place, and which of them each token has.

    Texts that an attack asks about are one text with a few changes: most of their tokens are alike.
    """

    def row(values: Any) -> Tensor:
        return torch.tensor(list(itertools.chain.from_iterable(values)))

    ids, types, places = (
        row(encoding.ids for encoding in encodings),
        row(encoding.type_ids for encoding in encodings),
        row(range(len(encoding)) for encoding in encodings),
    )
    n_types, n_places = embeddings.token_type_embeddings.num_embeddings, embeddings.position_embeddings.num_embeddings
    if int(places.max()) >= n_places or int(types.max()) >= n_types:
        raise IndexError(f"the encoder has {n_places} positions and {n_types} token types, a text asks for more")
    tokens = (ids * n_types + types) * n_places + places
    if embeddings.dropout.training:  # equal tokens are not dropped together
        distinct, where = tokens, torch.arange(len(tokens))
    else:
        distinct, where = tokens.unique(return_inverse=True)
    missing = max(0, LEAST_TOKENS - len(distinct))
    distinct = nn.functional.pad(distinct, (0, missing), value=int(distinct[-1]))
    embedded = embeddings(
        input_ids=distinct[None] // (n_types * n_places),
        token_type_ids=distinct[None] // n_places % n_types,
        position_ids=distinct[None] % n_places,
    )
    return embedded[0], where


def _attended(attention: nn.Module, projected: list[Tensor], of_length: list[tuple[int, int]]) -> Tensor:
    """Attention within each text, (n_tokens, d_model), from queries, keys and values of that shape."""
    sizes = [length * n for length, n in of_length]
    heads = attention.num_attention_heads
    context = []
    for (length, n), *parts in zip(of_length, *(part.split(sizes) for part in projected), strict=True):
        query, key, value = (part.view(n, length, heads, -1).transpose(1, 2) for part in parts)
        dropped = attention.dropout.p if attention.training else 0.0
        attended = nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=dropped)
        context.append(attended.transpose(1, 2).reshape(n * length, -1))
    return torch.cat(context)
