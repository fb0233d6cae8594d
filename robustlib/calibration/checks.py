"""Checks of what callers hand in. Each error names the thing, what was found, and the way out."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def check_temperature(temperature: float | Tensor, name: str = "temperature") -> None:
    """Raise ValueError unless every temperature is finite and above 0."""
    values = torch.as_tensor(temperature, dtype=torch.float64)
    if not bool(torch.isfinite(values).all()) or bool((values <= 0).any()):
        shown = temperature if isinstance(temperature, int | float) else values.min().item()
        raise ValueError(f"{name} must be finite and above 0, got {shown}: logits are divided by it")


def check_logits(logits: Tensor, name: str = "logits") -> None:
    """Raise unless `logits` is a finite floating (n, n_classes) tensor that does not look like probabilities.

    Rows that all lie in [0, 1] and sum to 1 (to the precision of their dtype) are refused: softmax applied
    a second time is a hidden temperature (the paper's illusion by accident).
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise TypeError(
            f"{name} must be a floating-point tensor, got {getattr(logits, 'dtype', type(logits).__name__)}"
        )
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(f"{name} must have shape (n, n_classes) with n_classes >= 2, got {tuple(logits.shape)}")
    if not bool(torch.isfinite(logits).all()):
        bad = int((~torch.isfinite(logits)).any(dim=1).nonzero()[0])
        raise ValueError(f"{name} hold NaN or infinity, first in row {bad}: check the model before measuring it")
    if looks_like_probabilities(logits):
        raise ValueError(
            f"{name} look like probabilities (every row lies in [0, 1] and sums to 1): pass the scores before "
            "softmax, or log-probabilities, which are valid logits"
        )


def looks_like_probabilities(values: Tensor) -> bool:
    """True where every row of (n, n_classes) lies in [0, 1] and sums to 1 within its dtype's precision."""
    if values.numel() == 0:
        return False
    tolerance = max(1e-6, 4 * values.shape[1] * torch.finfo(values.dtype).eps)
    sums = values.double().sum(dim=1)
    return bool((values >= 0).all()) and bool((values <= 1).all()) and bool(((sums - 1).abs() <= tolerance).all())


def check_labels(labels: Tensor, n: int, n_classes: int | None = None, name: str = "labels") -> None:
    """Raise unless `labels` is an integer (n,) tensor with values in [0, n_classes)."""
    if not isinstance(labels, Tensor) or labels.dtype.is_floating_point or labels.dtype == torch.bool:
        raise TypeError(f"{name} must be an integer tensor, got {getattr(labels, 'dtype', type(labels).__name__)}")
    if labels.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), one for each example, got {tuple(labels.shape)}")
    if n_classes is not None and n and (int(labels.min()) < 0 or int(labels.max()) >= n_classes):
        raise ValueError(
            f"{name} must lie in [0, {n_classes - 1}], found {int(labels.min())} to {int(labels.max())}: "
            "is the label map the model's?"
        )


def check_pixels(images: Tensor, name: str = "images") -> None:
    """Raise unless `images` is a floating (n, channels, height, width) tensor with finite values in [0, 1]."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise TypeError(
            f"{name} must be a floating-point tensor, got {getattr(images, 'dtype', type(images).__name__)}"
        )
    if images.ndim != 4:
        raise ValueError(f"{name} must have shape (n, channels, height, width), got {tuple(images.shape)}")
    if not images.numel():
        return
    low, high = float(images.min()), float(images.max())
    if math.isnan(low) or math.isnan(high):
        raise ValueError(f"{name} hold NaN")
    if low < 0 or high > 1:
        raise ValueError(
            f"{name} must lie in [0, 1], found {low:.3g} to {high:.3g}: put normalisation into the model "
            "(robustlib.models.Normalised), so that epsilon keeps its meaning in pixel units"
        )


def check_radius(epsilon: float, norm: str) -> None:
    """Raise ValueError unless `norm` is "linf" or "l2" and `epsilon` a finite radius, 0 or above."""
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm must be one of ['l2', 'linf'], got {norm!r}")
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be a finite radius in pixel units, 0 or above, got {epsilon}")
