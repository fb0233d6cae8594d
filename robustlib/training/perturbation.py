"""Perturbations of a continuous input: pixels of images, token embeddings of texts.

Adversarial training is written once over what is here: `opened` turns a batch into a tensor that may be perturbed and
the function from it to logits; `PerturbationSet` says how far. Padding is never perturbed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

NORMS = ("linf", "l2")


@dataclass(frozen=True)
class OpenInput:
    """A batch as adversarial training sees it.

    Attributes:
        values: (n, ...) pixels, or token embeddings (n, seq_len, d_model) with their graph.
        forward: values of that shape to logits (n, n_classes).
        mask: broadcastable to `values`, 1 where a perturbation may be, 0 at padding; None: everywhere.
        low, high: range that a perturbed value must stay in; None for embeddings.
    """

    values: Tensor
    forward: Callable[[Tensor], Tensor]
    mask: Tensor | None = None
    low: float | None = None
    high: float | None = None


def opened(model: nn.Module, inputs: Tensor | Mapping[str, Tensor]) -> OpenInput:
    """Pixels (identity, kept in [0, 1]), or token embeddings of a tokenised batch (`TextClassifier.collate`)."""
    if isinstance(inputs, Tensor):
        return OpenInput(inputs, model, None, 0.0, 1.0)
    rest: dict[str, Any] = {name: value for name, value in inputs.items() if name != "input_ids"}
    mask = inputs["attention_mask"][..., None]
    return OpenInput(model.embed(inputs["input_ids"]), partial(model.forward_from_embedding, **rest), mask)


@dataclass(frozen=True)
class PerturbationSet:
    """All perturbations of at most `radius`, and how to walk in it.

    Attributes:
        norm: "linf" (largest component) or "l2".
        radius: in the units of the values: pixels of [0, 1], or token embeddings.
        step_size: length of an ascent step in that norm.
        initial: size of the random start: bound of each component for "linf"; for "l2" the length that a vector with
            components uniform in [-1, 1] is scaled to have at most (the form of FreeLB, Zhu et al. 2020).
        per: "example" or "token": what the norm is taken over; "token" needs (n, seq_len, d_model).
    """

    norm: str = "l2"
    radius: float = 1.0
    step_size: float = 0.03
    initial: float = 0.05
    per: str = "example"

    def __post_init__(self) -> None:
        if self.norm not in NORMS or self.per not in ("example", "token"):
            raise ValueError(f"norm must be linf or l2 and per example or token, got {self.norm!r}, {self.per!r}")
        for name, least in (("radius", 0), ("step_size", 0), ("initial", 0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= least):
                raise ValueError(f"{name} must be finite and at least {least}, got {value}")
        if self.initial > self.radius:
            raise ValueError(f"initial must be at most the radius {self.radius}, got {self.initial}")

    def start(self, batch: OpenInput) -> Tensor:
        """A random perturbation from torch's global generator, inside the set; zero at padding."""
        noise = torch.empty_like(batch.values).uniform_(-1, 1)
        if batch.mask is not None:
            noise = noise * batch.mask
        if self.norm == "l2":
            size = batch.values[0].numel() if self.per == "example" else batch.values.shape[-1]
            if batch.mask is not None and self.per == "example":
                tokens = batch.mask.flatten(1).sum(dim=1).reshape(-1, *[1] * (batch.values.ndim - 1))
                size = tokens * batch.values.shape[-1]
            noise = noise / torch.as_tensor(size, dtype=noise.dtype, device=noise.device).sqrt()
        return self.project(self.initial * noise, batch)

    def ascend(self, delta: Tensor, gradient: Tensor, batch: OpenInput) -> Tensor:
        """One step of `step_size` up the gradient, back into the set. A gradient of 0 moves nothing."""
        if batch.mask is not None:
            gradient = gradient * batch.mask
        if self.norm == "linf":
            direction = gradient.sign()
        else:
            norm = self._norm(gradient)
            direction = torch.where(norm > 0, gradient / norm.clamp_min(torch.finfo(norm.dtype).tiny), 0)
        return self.project(delta + self.step_size * direction, batch)

    def project(self, delta: Tensor, batch: OpenInput) -> Tensor:
        """The nearest perturbation in the norm's ball, then in the range of the values."""
        if self.norm == "linf":
            delta = delta.clamp(-self.radius, self.radius)
        else:
            norm = self._norm(delta).clamp_min(torch.finfo(delta.dtype).tiny)
            delta = delta * (self.radius / norm).clamp_max(1)
        if batch.low is not None:
            values = batch.values.detach()
            delta = (values + delta).clamp(batch.low, batch.high) - values
        return delta

    def _norm(self, values: Tensor) -> Tensor:
        axes = -1 if self.per == "token" else tuple(range(1, values.ndim))
        return torch.linalg.vector_norm(values, dim=axes, keepdim=True)
