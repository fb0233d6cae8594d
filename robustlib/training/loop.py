"""The training loop of the study, for images and texts alike: gradient rules, training temperature, resumable.

The loop knows nothing of its data: it takes a plan of batches and a `step` that leaves gradients behind (see
`robustlib.training.methods`). Taught in: notebooks/08, 09 and 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from time import monotonic
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.calibration.checks import check_temperature
from robustlib.data.progress import progress
from robustlib.models.forward import evaluating, seeded
from robustlib.training.checkpoint import Checkpoint
from robustlib.training.methods import Method, Step
from robustlib.training.schedules import SCHEDULES, training_temperature_at

GRADIENT_RULES = ("none", "clip", "normalise")
PRECISIONS = ("auto", "float32", "bfloat16")
# Step of a learned log T: Adam moves it by about this much, so that some hundred steps can change T tenfold.
TEMPERATURE_LEARNING_RATE = 0.02
CHECKPOINT_SECONDS = 30.0
# The parts of `Training.label`, for readers of records; a part that is not named is NaN.
LABEL = (
    r"(?P<family>.*?)(?:_grad(?P<rule>clip|norm))?(?:\((?P<schedule>[a-z-]+)\))?"
    r"(?:\(epochs=(?P<epochs>\d+)\))?(?:\(n=(?P<n_train>\d+)\))?$"
)
_MEASURED_STEPS = 4  # steps of an epoch whose length is measured: each needs a copy of the weights


@dataclass(frozen=True, kw_only=True)
class Training:
    """What every training has, whatever its data."""

    epochs: int = 5
    batch_size: int = 8
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    method: Method = field(default_factory=Method)  # how a step makes its gradients
    # logits are divided by it inside the loss, and only there (paper, section 5 and G.2)
    training_temperature: float = 1.0
    temperature_schedule: str = "constant"  # one of `SCHEDULES`; the paper's is "constant"
    # "none"; "clip" scales the global gradient down to `clip_norm` (L2; the paper gives no threshold) where it is
    # longer; "normalise" scales it to norm 1 at every step (the paper's `*`, section 3.2)
    gradient_rule: str = "none"
    clip_norm: float = 1.0
    # of the matrix products; weights, gradients and optimiser stay float32. "auto": see `autocast`
    precision: str = "auto"
    seed: int = 0  # of initial weights, the order of the batches, random starts and dropout
    device: str = "cpu"
    suffix: str = ""  # of the method's name in records, such as "(epochs=10)"

    def __post_init__(self) -> None:
        check_temperature(self.training_temperature, "training_temperature")
        choices = {"temperature_schedule": SCHEDULES, "gradient_rule": GRADIENT_RULES, "precision": PRECISIONS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "learning_rate", "clip_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")

    @property
    def label(self) -> str:
        """The paper's name for the method with its gradient rule, as in the tables' column `method`."""
        rule = {"none": "", "clip": "_gradclip", "normalise": "_gradnorm"}[self.gradient_rule]
        schedule = "" if self.temperature_schedule == "constant" else f"({self.temperature_schedule})"
        return f"{self.method.label}{rule}{schedule}{self.suffix}"


def fit(
    model: nn.Module,
    *,
    plan: Callable[[int], list[Any]],
    load: Callable[[Any], tuple[Any, Tensor]],
    step: Step,
    config: Training,
    optimiser: Callable[[list[dict]], torch.optim.Optimizer],
    decay: Callable[[float], float],
    description: str,
    probe: Callable[[], dict[str, float]] | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place; a training resumed from a checkpoint repeats the uninterrupted one to the bit.

    Every epoch seeds torch's global generators from (seed, epoch); the caller's state is restored at the end.

    Args:
        plan: the batches of an epoch, as `load` takes them; as many in every epoch.
        load: inputs and labels of a batch, on the model's device.
        optimiser: from parameter groups.
        decay: share of all steps done to the factor on the learning rate.
        probe: measures the model, in evaluation mode, after each epoch; its numbers join the history.
        checkpoint: saved after an epoch, at most every `CHECKPOINT_SECONDS`; removed at the end.

    Returns:
        One dict for each epoch: "epoch" (from 1), "loss", "gradient_norm" (before the gradient rule) and "step_length"
        (L2 length of the optimiser's step), all means over steps; "training_temperature" at its end.

    Raises:
        FloatingPointError: the loss became NaN or infinite. The last checkpoint stays in place.
    """
    state = _State.initial(model, config, optimiser)
    if checkpoint:
        state.load_state_dict(checkpoint.load())
    done, n_batches = len(state.history), len(plan(0))
    batches = ((epoch, rows) for epoch in range(done, config.epochs) for rows in plan(epoch))
    bar = progress(batches, description=description, total=(config.epochs - done) * n_batches)
    saved = monotonic()
    model.train()
    with seeded(config.seed):
        for epoch, of_epoch in groupby(bar, key=itemgetter(0)):
            torch.manual_seed(config.seed * 1_000_003 + epoch)
            row = _train_epoch(state, epoch, n_batches, (load(rows) for _, rows in of_epoch), step, config, decay)
            if probe:
                with evaluating(model), seeded(0):  # so that measuring changes no training
                    row |= probe()
            _check_finite(row, f"at the end of epoch {epoch + 1}", config)
            state.history.append(row)
            if checkpoint and epoch + 1 < config.epochs and monotonic() - saved >= CHECKPOINT_SECONDS:
                checkpoint.save(state.state_dict())
                saved = monotonic()
    if checkpoint:
        checkpoint.remove()
    model.eval()
    return state.history


@dataclass
class _State:
    """All that changes in a training: what a checkpoint carries."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    log_temperature: Tensor  # a second parameter group where the schedule is "learned"
    history: list[dict[str, float]]

    @classmethod
    def initial(cls, model: nn.Module, config: Training, optimiser: Callable) -> _State:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        log_temperature = torch.tensor(float(config.training_temperature), device=parameters[0].device).log()
        groups: list[dict[str, Any]] = [{"params": parameters}]
        if config.temperature_schedule == "learned":
            groups.append({"params": [log_temperature.requires_grad_()], "weight_decay": 0.0})
        return cls(model, optimiser(groups), log_temperature, [])

    def state_dict(self) -> dict[str, Any]:
        parts = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        return {**parts, "log_temperature": self.log_temperature, "history": self.history}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.log_temperature.data.copy_(state["log_temperature"])
            self.history = state["history"]


def _train_epoch(
    state: _State,
    epoch: int,
    n_batches: int,
    batches: Iterable[tuple[Any, Tensor]],
    step: Step,
    config: Training,
    decay: Callable[[float], float],
) -> dict[str, float]:
    parameters = state.optimiser.param_groups[0]["params"]
    check_every = 1 if parameters[0].device.type == "cpu" else 50  # reading the loss synchronises with the GPU
    measured = {n_batches * (2 * k + 1) // (2 * _MEASURED_STEPS) for k in range(_MEASURED_STEPS)}
    loss_sum, norm_sum, lengths = 0.0, 0.0, []
    for index, (inputs, labels) in enumerate(batches):
        share = (epoch * n_batches + index) / (config.epochs * n_batches)
        rates = (config.learning_rate, TEMPERATURE_LEARNING_RATE)
        for group, rate in zip(state.optimiser.param_groups, rates, strict=False):
            group["lr"] = rate * decay(share)
        temperature = training_temperature_at(config.temperature_schedule, config.training_temperature, share)
        if config.temperature_schedule == "learned":
            temperature = state.log_temperature.exp()
        state.optimiser.zero_grad(set_to_none=True)
        loss_sum = loss_sum + step(state.model, inputs, labels, temperature).detach()  # a NaN stays in the sum
        if index % check_every == 0 or index == n_batches - 1:
            _check_finite({"the loss": float(loss_sum)}, f"in epoch {epoch + 1}, step {index + 1},", config)
        norm_sum = norm_sum + apply_gradient_rule(parameters, config.gradient_rule, config.clip_norm)
        before = [parameter.detach().clone() for parameter in parameters] if index in measured else None
        state.optimiser.step()
        if before is not None:
            change = torch._foreach_sub([parameter.detach() for parameter in parameters], before)
            lengths.append(nn.utils.get_total_norm(change))
    return {
        "epoch": epoch + 1,
        "loss": float(loss_sum) / n_batches,
        "gradient_norm": float(norm_sum) / n_batches,
        "step_length": float(sum(lengths)) / len(lengths),
        "training_temperature": float(torch.as_tensor(temperature).detach()),
    }


def _check_finite(numbers: dict[str, float], when: str, config: Training) -> None:
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name} became {value} {when} of {config}: lower the learning rate, or set gradient_rule='clip'"
            )


def logit_facts(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Means over examples of undivided logits (n, n_classes), followed over a training.

    "logit_norm": L2 norm of the logits less their mean; "confidence": largest probability; "accuracy": a fraction.
    """
    logits = logits.detach().double()
    centred = logits - logits.mean(dim=1, keepdim=True)
    return {
        "logit_norm": float(torch.linalg.vector_norm(centred, dim=1).mean()),
        "confidence": float(logits.softmax(dim=1).amax(dim=1).mean()),
        "accuracy": float((logits.argmax(dim=1) == labels.to(logits.device)).double().mean()),
    }


def apply_gradient_rule(parameters: Sequence[Tensor], rule: str, clip_norm: float = 1.0) -> Tensor:
    """Rescale the gradients in place by `Training.gradient_rule`; returns their L2 norm, all together, from before.

    A gradient of exactly 0 stays 0 under "normalise".
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if rule != "none":
        above_zero = norm.clamp_min(torch.finfo(norm.dtype).tiny)
        scale = 1 / above_zero if rule == "normalise" else (clip_norm / above_zero).clamp_max(1.0)
        torch._foreach_mul_(gradients, scale)
    return norm
