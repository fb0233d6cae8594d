"""Running a model: in evaluation mode, seeded, to logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.no_grad()
def logits_of(model, inputs, *, batch_size: int = 512) -> Tensor:
    """Logits (n, n_classes) on the CPU, whatever the kind of model: a module on images, a callable on texts."""
    if not isinstance(model, nn.Module) or not isinstance(inputs, Tensor):
        return model(inputs)
    with evaluating(model):
        return torch.cat([model(batch) for batch in inputs.split(batch_size)]).cpu()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the time of an attack; every module gets back the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with torch's global generators (CPU and GPUs) seeded, and give their states back afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
