"""The training loop of the study, for images and texts alike: gradient rules, training temperature, resumable.

The loop knows nothing of its data: it takes a plan of batches and a `step` that leaves gradients behind. What a
training method does inside a step is in `robustlib.training.methods`. Taught in: notebooks/08 and 09.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.data.progress import progress
from robustlib.models.forward import seeded
from robustlib.training.checkpoint import Checkpoint
from robustlib.training.methods import Method, Step
from robustlib.training.schedules import check_schedule, training_temperature_at

GRADIENT_RULES = ("none", "clip", "normalise")
PRECISIONS = ("auto", "float32", "bfloat16")
# Step of a learned log T: Adam moves it by about this much, so that some hundred steps can change T tenfold.
TEMPERATURE_LEARNING_RATE = 0.02
_MEASURED_STEPS = 4  # steps of an epoch whose length is measured: each needs a copy of the weights


@dataclass(frozen=True, kw_only=True)
class Training:
    """What every training has, whatever its data.

    Attributes:
        method: how a step makes its gradients.
        training_temperature: logits are divided by it inside the loss, and only there (paper, section 5 and G.2).
        temperature_schedule: of `robustlib.training.schedules`; the paper's is "constant".
        gradient_rule: "none"; "clip" scales the global gradient down to `clip_norm` where it is larger; "normalise"
            scales it to norm 1 at every step (the paper's `*`, section 3.2).
        clip_norm: L2 norm; the paper gives no threshold.
        precision: of the matrix products, "float32", "bfloat16" or "auto" (bfloat16 where the hardware has it);
            weights, gradients and optimiser stay float32.
        seed: of initial weights, the order of the batches, random starts and dropout.
        suffix: what a record adds to the name of the method, such as "(epochs=10)".
    """

    epochs: int = 5
    batch_size: int = 8
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    method: Method = field(default_factory=Method)
    training_temperature: float = 1.0
    temperature_schedule: str = "constant"
    gradient_rule: str = "none"
    clip_norm: float = 1.0
    precision: str = "auto"
    seed: int = 0
    device: str = "cpu"
    suffix: str = ""

    def __post_init__(self) -> None:
        check_schedule(self.temperature_schedule, self.training_temperature)
        for name, value, allowed in (
            ("gradient_rule", self.gradient_rule, GRADIENT_RULES),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
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
    checkpoint_seconds: float = 30.0,
) -> list[dict[str, float]]:
    """Train `model` in place.

    Every epoch seeds torch's global generators from (seed, epoch), and the caller's state comes back at the end, so
    that a training resumed from a checkpoint repeats the uninterrupted one to the bit.

    Args:
        model: module with trainable parameters.
        plan: the batches of an epoch, as `load` takes them; as many in every epoch.
        load: inputs and labels of a batch, on the model's device.
        step: see `Step`; gradients are cleared before it, rescaled by the gradient rule and applied after it.
        config: epochs, seed, learning rate, gradient rule, training temperature.
        optimiser: from parameter groups.
        decay: share of all steps done to the factor on the learning rate.
        description: of the progress bar.
        probe: measures the model, in evaluation mode, after each epoch; its numbers join the history.
        checkpoint: written after an epoch where `checkpoint_seconds` have passed since the last time, and removed at
            the end.

    Returns:
        One dict for each epoch: "epoch" (from 1), "loss", "gradient_norm" (before the gradient rule) and "step_length"
        (L2 length of what the optimiser changed in a step), all means over steps; "training_temperature" at its end.

    Raises:
        FloatingPointError: the loss became NaN or infinite; names the configuration, the epoch and the step. The last
            checkpoint stays in place.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": parameters}]
    learned = config.temperature_schedule == "learned"
    if learned:  # a parameter of the model while it is trained, so that a checkpoint carries it
        start = torch.tensor(float(config.training_temperature), device=parameters[0].device).log()
        model.register_parameter("log_temperature", nn.Parameter(start))
        groups.append({"params": [model.log_temperature], "weight_decay": 0.0})
    chosen = optimiser(groups)
    done = checkpoint.load(model, chosen) if checkpoint else 0
    n_batches = len(plan(0))
    check_every = 1 if parameters[0].device.type == "cpu" else 50  # a look at the loss makes a GPU wait
    measured = {n_batches * (2 * k + 1) // (2 * _MEASURED_STEPS) for k in range(_MEASURED_STEPS)}
    history = chosen.param_groups[0].setdefault("history", [])  # there, so that a checkpoint carries it
    saved = monotonic()
    model.train()
    with seeded(config.seed):
        for epoch, index, rows in progress(
            _batches(plan, done, config.epochs), description=description, total=(config.epochs - done) * n_batches
        ):
            if index == 0:
                torch.manual_seed(config.seed * 1_000_003 + epoch)
                loss_sum, norm_sum, lengths = 0.0, 0.0, []
            share = (epoch * n_batches + index) / (config.epochs * n_batches)
            chosen.param_groups[0]["lr"] = config.learning_rate * decay(share)
            temperature = training_temperature_at(config.temperature_schedule, config.training_temperature, share)
            if learned:
                chosen.param_groups[1]["lr"] = TEMPERATURE_LEARNING_RATE * decay(share)
                temperature = model.log_temperature.exp()
            chosen.zero_grad(set_to_none=True)
            loss_sum = loss_sum + step(model, *load(rows), temperature).detach()  # a NaN stays in the sum
            last = index == n_batches - 1
            if (last or index % check_every == 0) and not torch.isfinite(loss_sum):
                raise FloatingPointError(
                    f"the loss became {float(loss_sum)} in epoch {epoch + 1}, step {index + 1}, of {config}: lower the "
                    "learning rate, or set gradient_rule='clip'"
                )
            norm_sum = norm_sum + apply_gradient_rule(parameters, config.gradient_rule, config.clip_norm)
            if index in measured:
                lengths.append(_measured_step(chosen, parameters))
            else:
                chosen.step()
            if last:
                row = {"epoch": epoch + 1, "loss": float(loss_sum) / n_batches}
                row |= {"gradient_norm": float(norm_sum) / n_batches, "step_length": float(sum(lengths)) / len(lengths)}
                row["training_temperature"] = float(torch.as_tensor(temperature).detach())
                row |= _probed(model, probe) if probe else {}
                _check_row(row, config)
                history.append(row)
                if checkpoint and epoch + 1 < config.epochs and monotonic() - saved >= checkpoint_seconds:
                    checkpoint.save(model, chosen, epoch + 1)
                    saved = monotonic()
    if checkpoint:
        checkpoint.remove()
    if learned:
        del model.log_temperature
    model.eval()
    return history


def _batches(plan: Callable[[int], list[Any]], start: int, epochs: int) -> Iterator[tuple[int, int, Any]]:
    for epoch in range(start, epochs):
        for index, rows in enumerate(plan(epoch)):
            yield epoch, index, rows


def _measured_step(optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> Tensor:
    """Take a step; returns the L2 length of the change."""
    before = [parameter.detach().clone() for parameter in parameters]
    optimiser.step()
    return nn.utils.get_total_norm(torch._foreach_sub([parameter.detach() for parameter in parameters], before))


def _check_row(row: dict[str, float], config: Training) -> None:
    """Raise where an epoch's last step broke the weights: no checkpoint is made of them, and no model."""
    for name, value in row.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name} became {value} at the end of epoch {row['epoch']} of {config}: lower the learning rate, or "
                "set gradient_rule='clip'"
            )


def _probed(model: nn.Module, probe: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What the probe says; the generators are given back, so that measuring changes no training."""
    model.eval()
    with seeded(0):
        found = probe()
    model.train()
    return found


def logit_facts(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """What is followed over a training, of logits (n, n_classes) undivided by any temperature: means over examples.

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
    """Rescale the gradients in place by the rule of `Training.gradient_rule`; returns their L2 norm from before.

    One norm over all parameters together. A gradient of exactly 0 stays 0 under "normalise".
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if rule == "normalise":
        scale = 1 / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    elif rule == "clip":
        scale = (clip_norm / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(1.0)
    else:
        return norm
    torch._foreach_mul_(gradients, scale)
    return norm
