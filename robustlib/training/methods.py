"""Training methods for pixels and for token embeddings alike: each is one step that leaves gradients behind.

Costs are in forward-backward passes of the model, the floor that benchmarks/training.py measures against. The gradient
rule (none, clip, normalise) is no part of a method: `robustlib.training.loop.fit` applies it to whatever a step leaves.
Taught in: notebooks/08.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustlib.training.minimum_norm import MOST_CORNERS, minimum_norm_weights
from robustlib.training.perturbation import OpenInput, PerturbationSet, opened

# step(model, inputs, labels, temperature): leaves the loss's gradients in the parameters, returns the loss (detached).
Step = Callable[[nn.Module, Any, Tensor, float | Tensor], Tensor]

METHODS = ("standard", "fgsm", "pgd", "freelb", "ddi", "trades", "ascc", "dg-aug")
TEXT_ONLY = ("ascc", "dg-aug")


@dataclass(frozen=True)
class Method:
    """A training method with its settings; those of other methods are ignored. Defaults are the paper's for text.

    Attributes:
        name: one of `METHODS`. "ascc" is in `robustlib.training.ascc`, "dg-aug" trains on augmented data.
        steps: K, ascent steps (paper, section 4: 5; 3 for DDi).
        solutions: M, inner maximisations of DDi (paper: 3).
        perturbations: the set and the walk (paper: L2, radius 1, step 0.03, start 0.05; per example as in TextDefender,
            which the paper follows, but does not say).
        beta: weight of TRADES's robust term (Zhang et al. 2019: 6).
        alpha, kl: of ASCC (paper, section 4: 10 and 40).
    """

    name: str = "standard"
    steps: int = 5
    solutions: int = 3
    perturbations: PerturbationSet = field(default_factory=PerturbationSet)
    beta: float = 6.0
    alpha: float = 10.0
    kl: float = 40.0

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.name!r}")
        if self.name == "fgsm" and self.steps != 1:
            object.__setattr__(self, "steps", 1)  # FGSM is PGD of one step, whatever the others take
        if self.steps < 1 or not 1 <= self.solutions <= MOST_CORNERS:
            raise ValueError(
                f"steps must be at least 1 and solutions 1 to {MOST_CORNERS}, got {self.steps}, {self.solutions}"
            )

    @property
    def passes(self) -> int:
        """Forward-backward passes of one training step."""
        steps = self.steps
        passes = {"fgsm": 2, "pgd": steps + 1, "freelb": steps, "ddi": self.solutions * (steps + 1)}
        return (passes | {"trades": steps + 2, "ascc": steps + 2}).get(self.name, 1)

    @property
    def label(self) -> str:
        """The paper's name for it, as in the tables' column `method`."""
        if self.name == "ddi":
            return f"ddi-at(M={self.solutions},K={self.steps})"
        return {"standard": "baseline"}.get(self.name, self.name)


def image_method(name: str, epsilon: float, *, steps: int = 3, solutions: int = 3) -> Method:
    """A method for pixels in Linf: a random start in the whole ball, steps of 2.5 epsilon / K (1.25 epsilon for FGSM).

    Sources: Madry et al. 2018 (PGD), Wong et al. 2020 (FGSM), Zhang et al. 2019 (TRADES starts at 0.001).

    Args:
        epsilon: radius in units of pixels in [0, 1].
    """
    if name in TEXT_ONLY:
        others = ", ".join(method for method in METHODS if method not in TEXT_ONLY)
        raise ValueError(f"{name} is for texts; for images choose one of {others}")
    steps = 1 if name == "fgsm" else steps
    step_size = 1.25 * epsilon if name == "fgsm" else 2.5 * epsilon / steps
    initial = min(0.001, epsilon) if name == "trades" else epsilon
    return Method(name, steps, solutions, PerturbationSet("linf", epsilon, step_size, initial))


def method_step(method: Method, autocast: AbstractContextManager | None = None) -> Step:
    """The step of a method. The forward passes run inside `autocast`, the losses in float32.

    Raises:
        ValueError: the method has no step of its own for continuous inputs ("ascc": see `robustlib.training.ascc`).
    """
    autocast = autocast or nullcontext()
    if method.name in ("standard", "dg-aug"):
        return standard_step(autocast)
    steps = {"fgsm": _pgd_step, "pgd": _pgd_step, "freelb": _freelb_step, "ddi": _ddi_step, "trades": _trades_step}
    if method.name not in steps:
        raise ValueError(f"{method.name} has no step for a continuous input; it is for texts: see robustlib.text")

    def step(model: nn.Module, inputs: Any, labels: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        return steps[method.name](method, autocast, model, inputs, labels, temperature)

    return step


def standard_step(autocast: AbstractContextManager | None = None) -> Step:
    """Cross-entropy of softmax(logits / temperature), averaged over the batch (equation 2). One pass."""
    autocast = autocast or nullcontext()

    def step(model: nn.Module, inputs: Any, labels: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        with autocast:
            logits = model(inputs)
        loss = _cross_entropy(logits, labels, temperature)
        loss.backward()
        return loss.detach()

    return step


def _cross_entropy(logits: Tensor, labels: Tensor, temperature: float | Tensor) -> Tensor:
    return functional.cross_entropy(_widened(logits) / temperature, labels)


def _widened(logits: Tensor) -> Tensor:
    """Logits in float32, or in float64 where the model computes in it."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _fixed(temperature: float | Tensor) -> float | Tensor:
    """The temperature without its graph: attacks take a learned one as it is."""
    return temperature.detach() if isinstance(temperature, Tensor) else temperature


def worst_perturbation(
    batch: OpenInput,
    loss: Callable[[Tensor], Tensor],
    perturbations: PerturbationSet,
    steps: int,
    autocast: AbstractContextManager | None = None,
) -> Tensor:
    """K steps of projected gradient ascent from a random start (the inner maximum of equation 3).

    Each example climbs its own loss; the mean over the batch only scales its gradient, which the step does not use.

    Args:
        loss: logits (n, n_classes) to a scalar, to be increased.

    Returns:
        Perturbation in the shape of `batch.values`, without a graph.
    """
    values, delta = batch.values.detach(), perturbations.start(batch)
    for _ in range(steps):
        delta.requires_grad_(True)
        with autocast or nullcontext():
            logits = batch.forward(values + delta)
        (gradient,) = torch.autograd.grad(loss(logits), delta)
        delta = perturbations.ascend(delta.detach(), gradient, batch)
    return delta.detach()


def _pgd_step(method: Method, autocast, model, inputs, labels, temperature) -> Tensor:
    """Loss at the worst perturbation found (equation 3); FGSM with a random start is K = 1. K + 1 passes."""
    batch = opened(model, inputs)
    fixed = _fixed(temperature)
    delta = worst_perturbation(
        batch, lambda logits: _cross_entropy(logits, labels, fixed), method.perturbations, method.steps, autocast
    )
    return _backward_at(batch, delta, autocast, labels, temperature)


def _backward_at(batch: OpenInput, delta: Tensor, autocast, labels, temperature) -> Tensor:
    with autocast:
        logits = batch.forward(batch.values + delta)
    loss = _cross_entropy(logits, labels, temperature)
    loss.backward()
    return loss.detach()


def _freelb_step(method: Method, autocast, model, inputs, labels, temperature) -> Tensor:
    """Parameter gradients averaged over the K points of the walk (Zhu et al. 2020, algorithm 1). K passes."""
    delta, total = None, 0.0
    for _ in range(method.steps):
        batch = opened(model, inputs)  # anew: each pass frees the graph of the embeddings
        delta = method.perturbations.start(batch) if delta is None else delta
        delta.requires_grad_(True)
        with autocast:
            logits = batch.forward(batch.values + delta)
        loss = _cross_entropy(logits, labels, temperature) / method.steps
        delta.grad = None
        # Every pass goes through the graph of a learned temperature again.
        loss.backward(retain_graph=isinstance(temperature, Tensor) and temperature.requires_grad)
        total = total + loss.detach()
        delta = method.perturbations.ascend(delta.detach(), delta.grad, batch)
    return total


def _ddi_step(method: Method, autocast, model, inputs, labels, temperature) -> Tensor:
    """Shortest convex combination of the gradients at M PGD solutions (equations 13 to 16). M (K + 1) passes.

    Equation 14 also divides by its norm: that is the gradient rule "normalise", left to the caller.
    The printed equation 11 takes for each example the solution with the largest gradient; 14 is what is described as
    the algorithm, and what is done here.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if isinstance(temperature, Tensor) and temperature.requires_grad:
        raise ValueError("ddi cannot learn its temperature: the combination of gradients is over the model's weights")
    found: list[list[Tensor | None]] = []
    total = 0.0
    for _ in range(method.solutions):
        batch = opened(model, inputs)
        delta = worst_perturbation(
            batch,
            lambda logits: _cross_entropy(logits, labels, temperature),
            method.perturbations,
            method.steps,
            autocast,
        )
        for parameter in parameters:
            parameter.grad = None
        total = total + _backward_at(batch, delta, autocast, labels, temperature) / method.solutions
        found.append([parameter.grad for parameter in parameters])
    gram = sum(
        stacked @ stacked.T
        for gradients in zip(*found, strict=True)
        if gradients[0] is not None
        for stacked in [torch.stack([gradient.flatten() for gradient in gradients])]
    )
    weights = minimum_norm_weights(gram)
    for parameter, gradients in zip(parameters, zip(*found, strict=True), strict=True):
        if gradients[0] is not None:
            parameter.grad = torch.einsum("m,m...->...", weights, torch.stack(gradients))
    return total


def _trades_step(method: Method, autocast, model, inputs, labels, temperature) -> Tensor:
    """Cross-entropy + beta KL(clean || perturbed) (Zhang et al. 2019, equation 5). K + 2 passes.

    As in the authors' code, the perturbation is searched in evaluation mode.
    """
    batch = opened(model, inputs)
    fixed, was_training = _fixed(temperature), model.training
    model.eval()
    with torch.no_grad(), autocast:
        target = functional.softmax(_widened(batch.forward(batch.values)) / fixed, dim=1)
    delta = worst_perturbation(
        batch,
        lambda logits: functional.kl_div(
            functional.log_softmax(_widened(logits) / fixed, dim=1), target, reduction="batchmean"
        ),
        method.perturbations,
        method.steps,
        autocast,
    )
    model.train(was_training)
    with autocast:
        clean, perturbed = batch.forward(batch.values), batch.forward(batch.values + delta)
    clean, perturbed = _widened(clean) / temperature, _widened(perturbed) / temperature
    robust = functional.kl_div(
        functional.log_softmax(perturbed, dim=1),
        functional.log_softmax(clean, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    loss = functional.cross_entropy(clean, labels) + method.beta * robust
    loss.backward()
    return loss.detach()
