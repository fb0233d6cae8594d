"""Where PGD goes from one image at many temperatures, in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustlib.attacks.pgd import pgd


@dataclass(frozen=True)
class RowCrossEntropy:
    """Cross-entropy with a temperature of its own for each row: `temperatures` (n,)."""

    temperatures: Tensor
    scale_free: ClassVar[bool] = False
    minimum_classes: ClassVar[int] = 2

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        divided = logits / self.temperatures.to(logits).unsqueeze(1)
        return torch.nn.functional.cross_entropy(divided, labels, reduction="none")


def pgd_paths(
    model: nn.Module, image: Tensor, label: Tensor, temperatures: Sequence[float], *, epsilon: float, steps: int
) -> Tensor:
    """Iterates of PGD (Linf, cross-entropy, from the image), (n_temperatures, steps + 1, channels, height, width).

    Args:
        image: (1, channels, height, width). label: (1,).
    """
    count = len(temperatures)
    score = RowCrossEntropy(torch.tensor(list(temperatures), dtype=torch.float64))
    found = pgd(
        model,
        image.repeat(count, 1, 1, 1),
        label.repeat(count),
        epsilon=epsilon,
        steps=steps,
        score=score,
        random_start=False,
        keep_path=True,
        batch_size=count,
    )
    return found.details["path"].transpose(0, 1)
