"""Training methods for pixels and token embeddings alike, each one step that leaves gradients; `METHODS` lists them.

The gradient rule (none, clip, normalise) is no part of a method: `robustlib.training.loop.fit` applies it to the
gradients of any step. Taught in: notebooks/08.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustlib.training import lures
from robustlib.training.ascc import ascc_step
from robustlib.training.minimum_norm import MOST_CORNERS, minimum_norm_weights
from robustlib.training.perturbation import ContinuousInput, PerturbationSet, continuous

# step(model, inputs, labels, temperature): leaves the loss's gradients in the parameters, returns the loss (detached).
Step = Callable[[nn.Module, Any, Tensor, float | Tensor], Tensor]


@dataclass(frozen=True)
class Method:
    """A training method with its settings; those of other methods are ignored. Defaults are the paper's for text."""

    name: str = "standard"  # a row of `METHODS`
    steps: int = 5  # K, ascent steps (paper, section 4: 5; 3 for DDi); 1 for FGSM
    solutions: int = 3  # M, inner maximisations of DDi (paper: 3)
    # the set and its ascent; the norm is per example as in TextDefender (the paper does not say)
    perturbations: PerturbationSet = field(default_factory=PerturbationSet)
    beta: float = 6.0  # weight of TRADES's robust term (Zhang et al. 2019: 6)
    # weights of ASCC's entropy and KL terms (paper, section 4: 10 and 40)
    alpha: float = 10.0
    kl: float = 40.0
    weight: float = 0.5  # of what the methods of `lures` add

    def __post_init__(self) -> None:
        if self.definition.steps not in (None, self.steps):
            raise ValueError(f"{self.name} takes steps={self.definition.steps}, got {self.steps}")
        if self.steps < 1 or not 1 <= self.solutions <= MOST_CORNERS:
            raise ValueError(
                f"steps must be at least 1 and solutions 1 to {MOST_CORNERS}, got {self.steps}, {self.solutions}"
            )
        for name in ("beta", "alpha", "kl", "weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or above, got {getattr(self, name)}")

    @property
    def definition(self) -> MethodDefinition:
        return method_definition(self.name)

    @property
    def passes(self) -> int:
        return self.definition.passes(self.steps, self.solutions)

    @property
    def label(self) -> str:
        """The paper's name for it, as in the tables' column `method`."""
        return (self.definition.label or self.name).format(M=self.solutions, K=self.steps)


def image_method(name: str, epsilon: float, *, steps: int = 3, solutions: int = 3) -> Method:
    """A method for pixels of [0, 1] in the Linf ball of radius epsilon, with K = `steps` unless the method fixes it.

    Sources: Madry et al. 2018 (PGD), Wong et al. 2020 (FGSM), Zhang et al. 2019 (TRADES).
    """
    definition = method_definition(name)
    steps = definition.steps or steps
    initial = epsilon if definition.initial is None else min(definition.initial, epsilon)
    step_size = definition.reach * epsilon / steps
    return Method(name, steps, solutions, PerturbationSet("linf", epsilon, step_size, initial))


def method_step(method: Method, autocast: AbstractContextManager | None = None, **resources: Any) -> Step:
    """The step of a method: forward passes inside `autocast`, losses in float32; `resources`: `table` of ASCC."""
    return partial(method.definition.step, method, autocast or nullcontext(), **resources)


def _standard_step(method: Method, autocast, model, inputs, labels, temperature) -> Tensor:
    """Cross-entropy of softmax(logits / temperature), averaged over the batch (equation 2)."""
    with autocast:
        logits = model(inputs)
    return _backward(_cross_entropy(logits, labels, temperature))


def _backward(loss: Tensor) -> Tensor:
    loss.backward()
    return loss.detach()


def _cross_entropy(logits: Tensor, labels: Tensor, temperature: float | Tensor) -> Tensor:
    return functional.cross_entropy(_widened(logits) / temperature, labels)


def _widened(logits: Tensor) -> Tensor:
    """Logits in float32, or in float64 where the model computes in it."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _without_graph(temperature: float | Tensor) -> float | Tensor:
    """Attacks do not differentiate a learned temperature."""
    return temperature.detach() if isinstance(temperature, Tensor) else temperature


def worst_perturbation(
    batch: ContinuousInput,
    loss: Callable[[Tensor], Tensor],
    perturbations: PerturbationSet,
    steps: int,
    autocast: AbstractContextManager = nullcontext(),  # noqa: B008 (stateless)
) -> Tensor:
    """K steps of projected gradient ascent from a random start (equation 3), in the shape of `batch.values`, no graph.

    `loss`: logits (n, n_classes) to a scalar, to be increased: a mean or sum over examples, since a step depends on the
    direction of each example's gradient alone.
    """
    values, delta = batch.values.detach(), perturbations.start(batch)
    for _ in range(steps):
        delta.requires_grad_(True)
        with autocast:
            logits = batch.forward(values + delta)
        (gradient,) = torch.autograd.grad(loss(logits), delta)
        delta = perturbations.ascend(delta.detach(), gradient, batch)
    return delta.detach()


def _pgd_step(method: Method, autocast, model, inputs, labels, temperature) -> Tensor:
    """Loss at the worst perturbation found (equation 3); FGSM with a random start is K = 1."""
    batch, fixed = continuous(model, inputs), _without_graph(temperature)
    delta = worst_perturbation(
        batch, lambda logits: _cross_entropy(logits, labels, fixed), method.perturbations, method.steps, autocast
    )
    with autocast:
        logits = batch.forward(batch.values + delta)
    return _backward(_cross_entropy(logits, labels, temperature))


def _freelb_step(method: Method, autocast, model, inputs, labels, temperature) -> Tensor:
    """Parameter gradients averaged over the K points of the ascent (Zhu et al. 2020, algorithm 1).

    All K passes have the same dropout masks, as in the authors' code (github.com/zhuchen03/FreeLB: `dp_masks`).
    """
    delta, total, gpus = None, 0.0, range(torch.cuda.device_count())
    for index in range(method.steps):
        batch = continuous(model, inputs)  # anew: each pass frees the graph of the embeddings
        delta = method.perturbations.start(batch) if delta is None else delta
        delta.requires_grad_(True)
        # The generators are given back after each pass but the last: the next one draws the same masks.
        with autocast, torch.random.fork_rng(devices=gpus, enabled=index < method.steps - 1):
            logits = batch.forward(batch.values + delta)
        loss = _cross_entropy(logits, labels, temperature) / method.steps
        delta.grad = None
        # Every pass goes through the graph of a learned temperature again.
        loss.backward(retain_graph=isinstance(temperature, Tensor) and temperature.requires_grad)
        total = total + loss.detach()
        delta = method.perturbations.ascend(delta.detach(), delta.grad, batch)
    return total


def _ddi_step(method: Method, autocast, model, inputs, labels, temperature) -> Tensor:
    """Shortest convex combination of the gradients at M PGD solutions (equations 13 to 16).

    Equation 14 also divides by its norm: that is the gradient rule "normalise". The printed equation 11 takes for each
    example the solution with the largest gradient; the paper describes 14 as the algorithm.
    """
    if isinstance(temperature, Tensor) and temperature.requires_grad:
        raise ValueError("ddi cannot learn its temperature: the combination of gradients is over the model's weights")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    solutions: list[list[Tensor | None]] = []  # of each inner maximum, the gradient of every parameter
    total = 0.0
    for _ in range(method.solutions):
        for parameter in parameters:
            parameter.grad = None
        total = total + _pgd_step(method, autocast, model, inputs, labels, temperature) / method.solutions
        solutions.append([parameter.grad for parameter in parameters])
    gram = sum(
        stacked @ stacked.T
        for gradients in zip(*solutions, strict=True)
        if gradients[0] is not None
        for stacked in [torch.stack([gradient.flatten() for gradient in gradients])]
    )
    weights = minimum_norm_weights(gram)
    for parameter, gradients in zip(parameters, zip(*solutions, strict=True), strict=True):
        if gradients[0] is not None:
            parameter.grad = torch.einsum("m,m...->...", weights, torch.stack(gradients))
    return total


def _trades_step(method: Method, autocast, model, inputs, labels, temperature) -> Tensor:
    """Cross-entropy + beta KL(clean || perturbed) (Zhang et al. 2019, equation 5), on top of a forward pass.

    As in the authors' code, the perturbation is searched in evaluation mode.
    """
    batch, fixed, was_training = continuous(model, inputs), _without_graph(temperature), model.training
    model.eval()
    with torch.no_grad(), autocast:
        target = functional.softmax(_widened(batch.forward(batch.values)) / fixed, dim=1)

    def divergence(logits: Tensor) -> Tensor:
        log_probabilities = functional.log_softmax(_widened(logits) / fixed, dim=1)
        return functional.kl_div(log_probabilities, target, reduction="batchmean")

    delta = worst_perturbation(batch, divergence, method.perturbations, method.steps, autocast)
    model.train(was_training)
    with autocast:
        clean, perturbed = batch.forward(batch.values), batch.forward(batch.values + delta)
    clean, perturbed = _widened(clean) / temperature, _widened(perturbed) / temperature
    log_clean, log_perturbed = functional.log_softmax(clean, dim=1), functional.log_softmax(perturbed, dim=1)
    robust = functional.kl_div(log_perturbed, log_clean, reduction="batchmean", log_target=True)
    return _backward(functional.cross_entropy(clean, labels) + method.beta * robust)


@dataclass(frozen=True)
class MethodDefinition:
    """A row of `METHODS`."""

    title: str  # in figures; `details` follow it where they were chosen, and may hold {M} and {K}
    # (method, autocast, model, inputs, labels, temperature, **resources) to the detached loss: see `Step`
    step: Callable[..., Tensor]
    # forward-backward passes of a step, from K and M: its floor in benchmarks/training.py
    passes: Callable[[int, int], int] = lambda K, M: 1
    details: str = ""
    label: str | None = None  # in the paper's tables; may hold {M} and {K}; None: the name
    steps: int | None = None  # K where the method fixes it
    reach: float = 2.5  # length of all K steps together on pixels, in units of epsilon
    initial: float | None = None  # bound of the random start on pixels; None: epsilon
    text_only: bool = False  # needs words or token embeddings
    substitutes: bool = False  # the step takes a `SubstitutionTable` as `table`
    distils: bool = False  # the step takes a model as `teacher`: the same training by the standard method
    augmentation: str | None = None  # word attack whose adversarial examples double the training set first


METHODS = {
    "standard": MethodDefinition("standard", _standard_step, label="baseline"),
    "fgsm": MethodDefinition("FGSM", _pgd_step, lambda K, M: K + 1, steps=1, reach=1.25),
    "pgd": MethodDefinition("PGD", _pgd_step, lambda K, M: K + 1),
    "freelb": MethodDefinition("FreeLB", _freelb_step, lambda K, M: K),
    "ddi": MethodDefinition(
        "DDi", _ddi_step, lambda K, M: M * (K + 1), details=" (M = {M}, K = {K})", label="ddi-at(M={M},K={K})"
    ),
    "trades": MethodDefinition("TRADES", _trades_step, lambda K, M: K + 2, initial=0.001),
    "ascc": MethodDefinition("ASCC", ascc_step, lambda K, M: K + 2, text_only=True, substitutes=True),
    "smoothing": MethodDefinition("label smoothing", lures.smoothing_step),
    "squeezing": MethodDefinition("logit squeezing", lures.squeezing_step),
    "distilled": MethodDefinition("distillation", lures.distilled_step, distils=True),
    "superfitting": MethodDefinition("super-fitting", lures.superfitting_step),
    "entropy": MethodDefinition("T by entropy", lures.entropy_step),
    "dg-aug": MethodDefinition("augmented (dg)", _standard_step, text_only=True, augmentation="dg"),
}


def method_definition(name: str) -> MethodDefinition:
    """A row of `METHODS`; a ValueError names them where there is no such row."""
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]
