"""What could explain robustness that no temperature makes: margins, ranges, flatness, the smallest perturbation.

Everything is measured from undivided logits. Lengths are in the units of the input: pixels of [0, 1], or the L2 length
of a change of all token embeddings of a text. Taught in: notebooks/09.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.attacks.pgd import pgd
from robustlib.attacks.scores import Margin
from robustlib.models.forward import evaluating, seeded
from robustlib.training.perturbation import NORMS, PerturbationSet, continuous

_BATCH = 64


def logit_ranges(logits: Tensor) -> Tensor:
    """Largest minus smallest logit of each example, (n,); `logits` (n, n_classes). Paper: figure 3."""
    return logits.amax(dim=1) - logits.amin(dim=1)


def _margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the true class minus the largest other one, (n,): what `Margin` has with the sign of an attacker."""
    return -Margin()(logits, labels)


def _batches(model: nn.Module, inputs: Any, labels: Tensor) -> Iterator[tuple[Any, Tensor]]:
    """Batches as `continuous` takes them: pixels as they are, texts tokenised."""
    for start in range(0, len(labels), _BATCH):
        part, truth = inputs[start : start + _BATCH], labels[start : start + _BATCH]
        if not isinstance(part, Tensor):
            part = model.collate(model.tokenise(list(part)))
        device = next(model.parameters()).device
        yield part, truth.to(device)


def first_order_margins(model: nn.Module, inputs: Any, labels: Tensor, *, norm: str) -> Tensor:
    """Distance to the decision boundary if the model were linear around the example, (n,) on the CPU.

    The logit margin divided by the dual norm of its gradient: L1 for "linf", L2 for "l2". 0 where the example is
    already misclassified. Dividing the logits by a temperature changes nothing, as it scales both.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    found = []
    with evaluating(model):
        for part, truth in _batches(model, inputs, labels):
            batch = continuous(model, part)
            values = batch.values.detach().requires_grad_(True)
            logits = batch.forward(values)
            gaps = logits.gather(1, truth[:, None]) - logits
            nearest = torch.full_like(truth, torch.inf, dtype=logits.dtype)
            for other in range(logits.shape[1]):  # the runner-up's boundary need not be the nearest
                (slope,) = torch.autograd.grad(gaps[:, other].sum(), values, retain_graph=True)
                slope = slope if batch.mask is None else slope * batch.mask
                length = torch.linalg.vector_norm(slope.flatten(1), ord=1 if norm == "linf" else 2, dim=1)
                distance = gaps[:, other].detach() / length.clamp_min(torch.finfo(length.dtype).tiny)
                nearest = torch.where(truth == other, nearest, torch.minimum(nearest, distance))
            found.append(nearest.clamp_min(0).cpu())
    return torch.cat(found)


def roughness(
    model: nn.Module, inputs: Any, labels: Tensor, perturbations: PerturbationSet, *, seed: int = 0
) -> Tensor:
    """Change of the logit margin under one random perturbation, relative to the margin's mean size, (n,) on the CPU.

    0 is a flat landscape. Relative, because a training at high temperature stretches all logits.
    """
    changes, sizes = [], []
    with evaluating(model), seeded(seed), torch.no_grad():
        for part, truth in _batches(model, inputs, labels):
            batch = continuous(model, part)
            before = _margins(batch.forward(batch.values), truth)
            after = _margins(batch.forward(batch.values + perturbations.start(batch)), truth)
            changes.append((after - before).abs().cpu())
            sizes.append(before.abs().cpu())
    return torch.cat(changes) / torch.cat(sizes).mean().clamp_min(torch.finfo(torch.float32).tiny)


def smallest_radii(
    model: nn.Module, images: Tensor, labels: Tensor, radii: Sequence[float], *, steps: int, seed: int = 0
) -> Tensor:
    """Smallest Linf radius at which PGD on the margin fools the model, (n,) on the CPU; infinite where none does.

    Args:
        radii: rising, in pixel units; 0 where an example is misclassified from the start.
    """
    found = torch.full((len(labels),), torch.inf)
    with evaluating(model), torch.no_grad():
        wrong = (model(images).argmax(dim=1) != labels).cpu()
    found[wrong] = 0.0
    for radius in sorted(radii, reverse=True):
        result = pgd(model, images, labels, epsilon=radius, steps=steps, seed=seed, score=Margin())
        with evaluating(model), torch.no_grad():
            fooled = (model(result.adversarial).argmax(dim=1) != labels).cpu()
        found[fooled & ~wrong] = radius
    return found
