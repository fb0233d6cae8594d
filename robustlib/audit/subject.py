"""What is audited, once an adapter has made it of somebody's model: something that answers inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

GIVES = ("logits", "log-probabilities", "probabilities", "labels")


@dataclass(frozen=True)
class Subject:
    """A model as it is served.

    Attributes:
        respond: inputs (a float tensor (n, ...) or a list of texts or pairs) to its answers (n, n_classes) on the CPU,
            in the mode, precision and randomness in which it is served. Labels are answered one-hot.
        gives: what an answer is: "logits", "log-probabilities", "probabilities" or "labels".
        modality: "image" (inputs (n, channels, height, width) in [0, 1]) or "text".
        module: inputs to answers that autograd can follow, an `nn.Module` wherever there is one; None: black box.
        inner: (name, callable) of parts that predict as the model does and can be searched instead of it. Those that
            are sub-modules of `module` need not be given: they are looked for.
        notes: what the adapter decided, one sentence each, for the report.
    """

    respond: Callable[[Any], Tensor]
    gives: str
    modality: str
    n_classes: int
    module: Callable[[Any], Any] | None = None
    inner: tuple[tuple[str, Callable[[Any], Tensor]], ...] = ()
    name: str = "model"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.gives not in GIVES:
            raise ValueError(f"gives must be one of {', '.join(GIVES)}, got {self.gives!r}")
        if self.modality not in ("image", "text"):
            raise ValueError(f"modality must be 'image' or 'text', got {self.modality!r}")
