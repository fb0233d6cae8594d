"""Checks of logits, probabilities, labels, images and numbers. Each returns what it checked, ready to use.

NumPy arrays are taken for tensors. A TypeError or ValueError names the thing, what it got, and the way out.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor


def check_logits(logits: Any, name: str = "logits") -> Tensor:
    """Finite floating-point (n, n_classes) logits.

    Rows that all look like probabilities are refused: softmax applied a second time is a hidden temperature (the
    paper's illusion by accident). Log-probabilities are valid logits.
    """
    logits = _floating(logits, name)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(f"{name} must have shape (n, n_classes) with n_classes >= 2, got {tuple(logits.shape)}")
    finite = torch.isfinite(logits).all(dim=1)
    if not finite.all():
        first = int((~finite).nonzero()[0])
        raise ValueError(f"{name} hold NaN or infinity, first in row {first}: check the model before measuring it")
    if looks_like_probabilities(logits):
        raise ValueError(
            f"{name} look like probabilities (every row lies in [0, 1] and sums to 1): pass the scores before "
            "softmax, or the logarithm of the probabilities, which are valid logits"
        )
    return logits


def check_predictions(logits: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Logits (n, n_classes) and their labels (n,) as int64, n at least 1."""
    logits = check_logits(logits)
    labels = check_labels(labels, *logits.shape).to(logits.device)
    if not len(labels):
        raise ValueError("there are no predictions to measure: logits have 0 rows")
    return logits, labels


def check_probs(probs: Any) -> Tensor:
    """Probabilities (n, n_classes), n at least 1; rows may sum to 1 as loosely as rounded decimals do."""
    probs = _floating(probs, "probs")
    if probs.ndim != 2 or not probs.numel():
        raise ValueError(f"probs must have shape (n, n_classes) with n >= 1, got {tuple(probs.shape)}")
    if not looks_like_probabilities(probs):
        low, high = float(probs.min()), float(probs.max())
        furthest = float((probs.double().sum(dim=1) - 1).abs().max())
        raise ValueError(
            f"probs must lie in [0, 1] with rows that sum to 1, found {low:.6g} to {high:.6g} and a sum "
            f"{furthest:.3g} away from 1: apply softmax to logits, or divide each row of probabilities by its sum"
        )
    return probs


def looks_like_probabilities(values: Tensor) -> bool:
    """Whether every row of (n, n_classes) lies in [0, 1] and sums to 1, to its dtype's precision or its own decimals.

    Probabilities rounded to 2 to 5 decimals may miss the sum by half a unit of the last place for each class.
    """
    if values.numel() == 0:
        return False
    n_classes = values.shape[1]
    eps = max(torch.finfo(values.dtype).eps, torch.finfo(torch.float32).eps)  # float64 may have been float32
    rows = values.double()
    allowed = torch.full((len(rows),), max(1e-6, 4 * n_classes * eps), dtype=torch.float64, device=rows.device)
    for places in (2, 3, 4, 5):
        units = rows * 10**places
        rounded = ((units - units.round()).abs() <= 4 * eps * 10**places).all(dim=1)
        allowed = torch.where(rounded, allowed.clamp(min=min(0.5 * n_classes / 10**places, 0.25)), allowed)
    inside = (rows >= 0).all() & (rows <= 1).all()
    return bool(inside & ((rows.sum(dim=1) - 1).abs() <= allowed * (1 + 1e-6)).all())


def check_labels(labels: Any, n: int, n_classes: int | None = None) -> Tensor:
    """Labels (n,) of any integer type, in [0, n_classes), as int64."""
    values = torch.from_numpy(np.array(labels)) if isinstance(labels, np.ndarray) else labels
    if (
        not isinstance(values, Tensor)
        or values.is_floating_point()
        or values.is_complex()
        or values.dtype == torch.bool
    ):
        raise TypeError(f"labels must be an integer tensor or array, got {_kind(labels)}")
    if values.shape != (n,):
        raise ValueError(f"labels must have shape ({n},), one for each example, got {tuple(values.shape)}")
    values = values.long()
    if n_classes is not None and n and (int(values.min()) < 0 or int(values.max()) >= n_classes):
        raise ValueError(
            f"labels must lie in [0, {n_classes - 1}], found {int(values.min())} to {int(values.max())}: "
            "is the label map the model's?"
        )
    return values


def check_correct(correct: Any, name: str = "correct") -> np.ndarray:
    """Flags (n,) of type bool, n at least 1: whether each prediction is right. Integers could be predicted labels."""
    flags = correct.detach().cpu().numpy() if isinstance(correct, Tensor) else np.asarray(correct)
    if flags.ndim != 1 or not flags.size:
        raise ValueError(f"{name} must have shape (n,) with n >= 1, got {flags.shape}")
    if flags.dtype != bool:
        raise TypeError(f"{name} must be bool, one for each example, got {flags.dtype}: compare with the labels first")
    return flags


def check_pixels(images: Any) -> Tensor:
    """Floating-point (n, channels, height, width) images in [0, 1]; what rounding left outside is clamped in a copy."""
    images = _floating(images, "images", "divide 8-bit pixels by 255")
    if images.ndim != 4:
        raise ValueError(f"images must have shape (n, channels, height, width), got {tuple(images.shape)}")
    if not images.numel():
        return images
    low, high = float(images.min()), float(images.max())
    if math.isnan(low) or math.isnan(high):
        raise ValueError("images hold NaN")
    rounding = max(1e-6, 2 * torch.finfo(images.dtype).eps)
    if low < -rounding or high > 1 + rounding:
        raise ValueError(
            f"images must lie in [0, 1], found {low:.9g} to {high:.9g}: put normalisation into the model "
            "(robustlib.models.Normalised), so that epsilon keeps its meaning in pixel units"
        )
    return images if low >= 0 and high <= 1 else images.clamp(0, 1)


def check_radius(epsilon: float, norm: str) -> None:
    """Raise ValueError unless `norm` is "linf" or "l2" and `epsilon` a finite radius, 0 or above."""
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm must be one of ['l2', 'linf'], got {norm!r}")
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be a finite radius in pixel units, 0 or above, got {epsilon}")


def check_temperature(temperature: float, name: str = "temperature") -> None:
    """Raise ValueError unless the temperature is finite and above 0."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"{name} must be finite and above 0, got {temperature}: logits are divided by it")


def check_positive(**numbers: float) -> None:
    """Raise ValueError unless each number is finite and above 0."""
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"{name} must be a finite number above 0, got {number}")


def check_counts(**counts: int) -> None:
    """Raise ValueError unless each count is at least 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def _floating(values: Any, name: str, way_out: str = "convert with .float()") -> Tensor:
    tensor = torch.from_numpy(np.array(values)) if isinstance(values, np.ndarray) else values
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor or array, got {_kind(values)}: {way_out}")
    return tensor


def _kind(values: Any) -> str:
    return f"{type(values).__name__} of {values.dtype}" if hasattr(values, "dtype") else type(values).__name__
