"""Checkpoints of a running training: an interrupted one goes on with the weights it would have had."""

from __future__ import annotations

import io
import pickle
from contextlib import suppress
from typing import Any

import torch

from robustlib.data.cache import cache_key
from robustlib.data.folders import ReadOnlyFolderError, cache_dir, replace_file


class Checkpoint:
    """State of one training after its last whole epoch, kept beside the cache entry it will become.

    A state is a dict of tensors, plain values and containers of them, such as `state_dict()` gives. Random numbers
    need no saving where each epoch draws from a generator seeded by (seed, epoch), as `epoch_generator` does.
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
        """Replace the saved state, atomically."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with suppress(ReadOnlyFolderError):  # then an interrupted training starts again
            replace_file(self.path, buffer.getvalue())

    def remove(self) -> None:
        """Forget the state, once the finished weights are kept elsewhere."""
        self.path.unlink(missing_ok=True)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Random numbers of one epoch, the same whether or not the training was interrupted before it."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)
