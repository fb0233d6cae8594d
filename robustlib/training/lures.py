"""Trainings that were proposed as defences and shape the logits rather than the boundary, as steps of `METHODS`.

Each is as the source says up to its constants, or a variant of ours where it says so. Taught in: notebooks/10.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def smoothing_step(method: Any, autocast, model, inputs, labels, temperature) -> Tensor:
    """Cross-entropy with labels smoothed by `weight` (Szegedy et al. 2016; as a defence arXiv 2009.08233)."""
    logits = _logits(autocast, model, inputs) / temperature
    return _backward(functional.cross_entropy(logits, labels, label_smoothing=method.weight))


def squeezing_step(method: Any, autocast, model, inputs, labels, temperature) -> Tensor:
    """Cross-entropy plus `weight` times the mean squared length of the logits (Kannan et al. 2018)."""
    logits = _logits(autocast, model, inputs)
    length = logits.square().sum(dim=1).mean()
    return _backward(functional.cross_entropy(logits / temperature, labels) + method.weight * length)


def distilled_step(method: Any, autocast, model, inputs, labels, temperature, *, teacher: nn.Module) -> Tensor:
    """Cross-entropy to a teacher's probabilities, both divided by the training temperature (Papernot et al. 2016)."""
    with torch.no_grad():
        target = (_logits(autocast, teacher, inputs) / temperature).softmax(dim=1)
    return _backward(functional.cross_entropy(_logits(autocast, model, inputs) / temperature, target))


def superfitting_step(method: Any, autocast, model, inputs, labels, temperature) -> Tensor:
    """Cross-entropy plus `weight` times how far the wrong classes' mean logit lies above the true one, without a bound.

    A variant of ours of minimising the scores of unrelated categories (MUCS, arXiv 2205.02741), whose code was not at
    hand: once examples are fitted, only the gap grows.
    """
    logits = _logits(autocast, model, inputs) / temperature
    true = logits.gather(1, labels[:, None]).squeeze(1)
    others = (logits.sum(dim=1) - true) / (logits.shape[1] - 1)
    return _backward(functional.cross_entropy(logits, labels) + method.weight * (others - true).mean())


def entropy_step(method: Any, autocast, model, inputs, labels, temperature) -> Tensor:
    """Cross-entropy at a temperature of each input's own, T (1 + `weight` H), H the entropy (nats) of its answer.

    A variant of ours of TTSO (arXiv 2501.02654), whose formula was not at hand; H is a constant to the gradient.
    """
    logits = _logits(autocast, model, inputs)
    log_probs = logits.detach().log_softmax(dim=1)
    entropy = -(log_probs.exp() * log_probs).sum(dim=1, keepdim=True)
    return _backward(functional.cross_entropy(logits / (temperature * (1 + method.weight * entropy)), labels))


def _logits(autocast, model: nn.Module, inputs: Any) -> Tensor:
    with autocast:
        logits = model(inputs)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _backward(loss: Tensor) -> Tensor:
    loss.backward()
    return loss.detach()
