"""Where PGD goes from one image, at each of many temperatures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustlib.attacks.pgd import pgd
from robustlib.attacks.scores import CrossEntropy, Score


def pgd_path(model: nn.Module, image: Tensor, label: Tensor, score: Score, *, epsilon: float, steps: int) -> Tensor:
    """Iterates of PGD (Linf, started at the one image) on a score, (steps + 1, channels, height, width)."""
    options = {"random_start": False, "keep_path": True}
    return pgd(model, image, label, epsilon=epsilon, steps=steps, score=score, **options).details["path"][:, 0]


def pgd_paths(
    model: nn.Module, image: Tensor, label: Tensor, temperatures: Sequence[float], *, epsilon: float, steps: int
) -> Tensor:
    """As `pgd_path` on the cross-entropy at each temperature, (n_temperatures, steps + 1, channels, height, width)."""
    scores = map(CrossEntropy, temperatures)
    return torch.stack([pgd_path(model, image, label, score, epsilon=epsilon, steps=steps) for score in scores])
