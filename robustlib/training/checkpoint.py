"""A model is trained once: finished weights come from the cache, an interrupted training goes on from a checkpoint."""

import io
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from robustlib.data.cache import cache_key, cached
from robustlib.data.folders import ReadOnlyFolderError, cache_dir, replace_file


class Checkpoint:
    """State of one training after its last whole epoch, kept beside the cache entry it will become.

    A state is a dict as `state_dict()` gives. Random numbers need no saving: each epoch has its `epoch_generator`.
    """

    def __init__(self, kind: str, config: object, *, rooms: tuple[str, ...]) -> None:
        folder = f"{kind}-checkpoint"
        self.path = cache_dir() / folder / f"{cache_key(folder, config, rooms)}.pt"

    def load(self) -> dict[str, Any] | None:
        """The state last saved; None where there is none, or a damaged one."""
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None

    def save(self, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with suppress(ReadOnlyFolderError):  # then an interrupted training starts again
            replace_file(self.path, buffer.getvalue())

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def trained_once(
    kind: str,
    config: object,
    build: Callable[[], nn.Module],
    train: Callable[[nn.Module, Checkpoint], list[dict[str, float]]],
    *,
    rooms: tuple[str, ...],
) -> nn.Module:
    """`build()` with the weights that `train` gives it, in evaluation mode; its `history` is what `train` returned.

    `kind`, `config`, `rooms`: the cache's key, as in `data.cache.cached`.
    """

    def compute() -> dict[str, Any]:
        model = build()
        history = train(model, Checkpoint(kind, config, rooms=rooms))
        return {**model.state_dict(), "history": history}

    weights, model = cached(kind, config, compute, rooms=rooms), build()
    model.history = weights.pop("history")
    model.load_state_dict(weights)
    return model.eval()


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Random numbers of one epoch, the same whether or not the training was interrupted before it."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)
