"""What every attack on images starts with: one look at the model, the images and the labels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robustlib.calibration.checks import check_labels, check_logits, check_pixels
from robustlib.calibration.temperature import TemperatureScaled
from robustlib.models.forward import Forward, logits_of, warn_if_random


def prepare(model: Callable, images: Any, labels: Any) -> tuple[Forward, Tensor, Tensor]:
    """The model as an attack runs it, images (n, channels, height, width) in float32 or float64, labels (n,) int64.

    A model in half precision is searched in float32, on inputs that it gets in the dtype of `images`. Warns where the
    model draws random numbers. Raises TypeError, ValueError or FloatingPointError for what is not sound.
    """
    forward, images = prepare_images(model, images)
    return forward, images, check_labels(labels, len(images)).to(images.device, copy=True)


def prepare_images(model: Callable, images: Any) -> tuple[Forward, Tensor]:
    """As `prepare`, where there are no labels; the images returned are a copy."""
    images = check_pixels(images).detach().clone()
    if len(images):
        warn_if_random(model, images)
        inside = model
        while isinstance(inside, TemperatureScaled):  # divided probabilities no longer sum to 1
            inside = inside.model
        check_logits(logits_of(inside, images[:16]), "the model's outputs")
    return Forward(model, images.dtype), images.to(torch.promote_types(images.dtype, torch.float32))


def clean_predictions(model: Forward, images: Tensor, labels: Tensor) -> Tensor:
    """(n,) whether the model is right on clean images; ValueError where a label has no logit."""
    with torch.no_grad():
        logits = model(images)
    check_labels(labels, *logits.shape)
    return logits.argmax(dim=1) == labels
