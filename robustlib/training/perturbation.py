"""Perturbations of a continuous input, for pixels of images and token embeddings of texts alike."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

NORMS = ("linf", "l2")


@dataclass(frozen=True)
class ContinuousInput:
    """A batch as adversarial training sees it."""

    values: Tensor  # (n, ...) pixels, or token embeddings (n, seq_len, d_model) with their graph
    forward: Callable[[Tensor], Tensor]  # values of that shape to logits (n, n_classes)
    mask: Tensor | None = None  # (n, seq_len, 1), 1 where a perturbation may be, 0 at padding; None: everywhere
    pixels: bool = False  # whether a perturbed value must stay in [0, 1]


def continuous(model: nn.Module, inputs: Tensor | Mapping[str, Tensor]) -> ContinuousInput:
    """Pixels as they are, kept in [0, 1], or token embeddings of a tokenised batch (`TextClassifier.collate`)."""
    if isinstance(inputs, Tensor):
        return ContinuousInput(inputs, model, pixels=True)
    rest: dict[str, Any] = {name: value for name, value in inputs.items() if name != "input_ids"}
    mask = inputs["attention_mask"][..., None]
    return ContinuousInput(model.embed(inputs["input_ids"]), partial(model.forward_from_embedding, **rest), mask)


@dataclass(frozen=True)
class PerturbationSet:
    """All perturbations of an example of norm at most `radius`, and the steps of an ascent in that ball."""

    norm: str = "l2"  # "linf" (largest component) or "l2", over all components of an example
    radius: float = 1.0  # in the units of the values: pixels of [0, 1], or token embeddings
    step_size: float = 0.03  # length of an ascent step in that norm
    # size of the random start: bound of each component for "linf"; for "l2" the length that a vector with components
    # uniform in [-1, 1] is scaled to have at most (the form of FreeLB, Zhu et al. 2020)
    initial: float = 0.05

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ValueError(f"norm must be linf or l2, got {self.norm!r}")
        for name in ("radius", "step_size", "initial"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and at least 0, got {value}")
        if self.initial > self.radius:
            raise ValueError(f"initial must be at most the radius {self.radius}, got {self.initial}")

    def start(self, batch: ContinuousInput) -> Tensor:
        """A random perturbation from torch's global generator, inside the set; zero at padding."""
        noise = torch.empty_like(batch.values).uniform_(-1, 1)
        if batch.mask is not None:
            noise = noise * batch.mask
        if self.norm == "l2":
            size = torch.tensor(batch.values[0].numel(), device=noise.device)
            if batch.mask is not None:
                size = batch.mask.sum(dim=1, keepdim=True) * batch.values.shape[-1]
            noise = noise / size.to(noise.dtype).sqrt()
        return self.project(self.initial * noise, batch)

    def ascend(self, delta: Tensor, gradient: Tensor, batch: ContinuousInput) -> Tensor:
        """One step of `step_size` up the gradient, projected onto the set. A gradient of 0 moves nothing."""
        if batch.mask is not None:
            gradient = gradient * batch.mask
        if self.norm == "linf":
            direction = gradient.sign()
        else:
            norm = _length(gradient)
            direction = torch.where(norm > 0, gradient / norm.clamp_min(torch.finfo(norm.dtype).tiny), 0)
        return self.project(delta + self.step_size * direction, batch)

    def project(self, delta: Tensor, batch: ContinuousInput) -> Tensor:
        """The nearest perturbation in the norm's ball, then in the range of the values."""
        if self.norm == "linf":
            delta = delta.clamp(-self.radius, self.radius)
        else:
            delta = delta * (self.radius / _length(delta).clamp_min(torch.finfo(delta.dtype).tiny)).clamp_max(1)
        if batch.pixels:
            values = batch.values.detach()
            delta = (values + delta).clamp(0, 1) - values
        return delta


def _length(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values, dim=tuple(range(1, values.ndim)), keepdim=True)
