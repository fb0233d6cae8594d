"""What could explain robustness that no temperature makes: margins, ranges, flatness, the smallest perturbation.

Everything is measured from undivided logits. Lengths are in the units of the input: pixels of [0, 1], or the L2 length
of a change of all token embeddings of a text. Taught in: notebooks/13.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.attacks.pgd import pgd
from robustlib.attacks.result import SKIPPED, SUCCEEDED
from robustlib.attacks.scores import Margin
from robustlib.models.forward import evaluating, seeded
from robustlib.training.perturbation import NORMS, ContinuousInput, PerturbationSet, continuous

_BATCH = 64


def logit_ranges(logits: Tensor) -> Tensor:
    """Largest minus smallest logit of each example, (n,); `logits` (n, n_classes). Paper: figure 3."""
    return logits.amax(dim=1) - logits.amin(dim=1)


def _batches(model: nn.Module, inputs: Any, labels: Tensor) -> Iterator[tuple[ContinuousInput, Tensor]]:
    device = next(model.parameters()).device
    for start in range(0, len(labels), _BATCH):
        part = inputs[start : start + _BATCH]
        if not isinstance(part, Tensor):
            part = model.collate(model.tokenise(list(part)))
        yield continuous(model, part), labels[start : start + _BATCH].to(device)


def first_order_margins(model: nn.Module, inputs: Any, labels: Tensor, *, norm: str) -> Tensor:
    """Distance to the decision boundary if the model were linear around the example, (n,) on the CPU.

    The logit margin divided by the dual norm of its gradient: L1 for "linf", L2 for "l2". 0 where the example is
    already misclassified. No temperature changes it.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    margins = []
    with evaluating(model):
        for batch, truth in _batches(model, inputs, labels):
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
            margins.append(nearest.clamp_min(0).cpu())
    return torch.cat(margins)


def roughness(
    model: nn.Module, inputs: Any, labels: Tensor, perturbations: PerturbationSet, *, seed: int = 0
) -> Tensor:
    """Change of the logit margin under one random perturbation, relative to the margin's mean size, (n,) on the CPU.

    0 is a flat landscape. Relative, because training at a high temperature stretches all logits.
    """
    margin, changes, sizes = Margin(), [], []
    with evaluating(model), seeded(seed), torch.no_grad():
        for batch, truth in _batches(model, inputs, labels):
            before = margin(batch.forward(batch.values), truth)
            after = margin(batch.forward(batch.values + perturbations.start(batch)), truth)
            changes.append((after - before).abs().cpu())
            sizes.append(before.abs().cpu())
    return torch.cat(changes) / torch.cat(sizes).mean().clamp_min(torch.finfo(torch.float32).tiny)


def smallest_radii(
    model: nn.Module, images: Tensor, labels: Tensor, radii: Sequence[float], *, steps: int, seed: int = 0
) -> Tensor:
    """Smallest of the Linf `radii` (pixel units) at which PGD on the margin fools the model, (n,) on the CPU.

    0 where an example is misclassified from the start, infinite where no radius suffices.
    """
    smallest = torch.full((len(labels),), torch.inf)
    for radius in sorted(radii, reverse=True):
        outcome = pgd(model, images, labels, epsilon=radius, steps=steps, seed=seed, score=Margin()).outcome
        smallest[torch.from_numpy(outcome == SUCCEEDED)] = radius
        smallest[torch.from_numpy(outcome == SKIPPED)] = 0.0
    return smallest
