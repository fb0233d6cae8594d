"""Fine-tuning of those token embeddings that the training texts use, with the result that fine-tuning all would have.

Most of a vocabulary occurs in no training text; its gradients are 0 and its steps nothing, but computing them takes
longer than a pass of eight sentences through two layers of MiniLM.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

_SMALL = 2.0**-20  # adds nothing to the length of a step


@contextmanager
def only_embeddings_of(tokens: Iterable[int], table: nn.Embedding) -> Iterator[None]:
    """Meanwhile `table` holds the rows of these tokens alone, and takes their ids as ever; afterwards all rows.

    The other rows are then what an optimiser makes of parameters without a gradient: weight decay multiplies each by
    the same factor, which is read off a row that no token has.

    Raises:
        IndexError: a token outside `tokens` is looked up meanwhile.
    """
    whole, padding = table.weight, table.padding_idx
    rows = torch.tensor(sorted({*tokens, *([] if padding is None else [padding])}), device=whole.device)
    place = torch.full((len(whole),), len(whole), device=whole.device)
    place[rows] = torch.arange(len(rows), device=whole.device)
    used = torch.cat([whole.detach()[rows], torch.full_like(whole[:1], _SMALL)])
    table.weight, table.padding_idx = nn.Parameter(used), None if padding is None else int(place[padding])
    hook = table.register_forward_pre_hook(lambda _, ids: (place[ids[0]],))
    try:
        yield
    finally:
        with torch.no_grad():
            whole *= table.weight[-1] / _SMALL
            whole[rows] = table.weight[:-1]
        hook.remove()
        table.weight, table.padding_idx = whole, padding
