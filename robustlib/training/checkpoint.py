"""Checkpoints of a running training: an interrupted one goes on with the weights it would have had."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from robustlib.data.cache import DamagedEntryError, cache_key, read_entry, write_entry
from robustlib.data.folders import ReadOnlyFolderError, cache_dir


class Checkpoint:
    """State of one training after its last whole epoch, kept beside the cache entry it will become.

    Random numbers need no saving where each epoch draws from a generator seeded by (seed, epoch), as
    `epoch_generator` does.
    """

    def __init__(self, kind: str, config: object, *, rooms: tuple[str, ...] = ()) -> None:
        self.key = cache_key(f"{kind}-checkpoint", config, rooms)
        self.path: Path = cache_dir() / f"{kind}-checkpoint" / f"{self.key}.safetensors"

    def load(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> int:
        """Restore both in place; returns the number of epochs done, 0 where there is nothing usable."""
        try:
            entry = read_entry(self.path, self.key)
        except (DamagedEntryError, FileNotFoundError):
            return 0
        model.load_state_dict({name[6:]: value for name, value in entry.items() if name.startswith("model.")})
        state: dict[int, dict] = {}
        for name, value in entry.items():
            if name.startswith("optimiser."):
                _, index, field = name.split(".")
                state.setdefault(int(index), {})[field] = value
        optimiser.load_state_dict({"state": state, "param_groups": entry["param_groups"]})
        return entry["epochs"]

    def save(self, model: nn.Module, optimiser: torch.optim.Optimizer, epochs: int) -> None:
        """Write the state after `epochs` whole epochs, atomically."""
        optimiser_state = optimiser.state_dict()
        payload = {f"model.{name}": value for name, value in model.state_dict().items()}
        for index, state in optimiser_state["state"].items():
            payload |= {f"optimiser.{index}.{field}": torch.as_tensor(value) for field, value in state.items()}
        payload |= {"param_groups": optimiser_state["param_groups"], "epochs": epochs}
        with suppress(ReadOnlyFolderError):  # then an interrupted training starts again
            write_entry(self.path, self.key, payload, {"epochs": epochs})

    def remove(self) -> None:
        """Forget the state, once the finished weights are kept elsewhere."""
        self.path.unlink(missing_ok=True)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Random numbers of one epoch, the same whether or not the training was interrupted before it."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)
