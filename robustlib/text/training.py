"""Fine-tuning of text classifiers: the paper's optimiser, training temperature and gradient rule; cached, resumable.

The loop (`fit`) knows nothing of text: it takes a plan of batches and a `step` that leaves gradients behind, so that
adversarial training only brings another step.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from robustlib import cache
from robustlib.checkpoint import Checkpoint, epoch_generator
from robustlib.progress import progress
from robustlib.text import checkpoints, encoders
from robustlib.text.checkpoints import seeded
from robustlib.text.encoders import TextClassifier
from robustlib.validate import check_labels, check_temperature

GRADIENT_RULES = ("none", "clip", "normalise")
PRECISIONS = ("auto", "float32", "bfloat16")

# step(model, inputs, labels): leaves the loss's gradients in the parameters and returns the loss, a scalar.
Step = Callable[[nn.Module, Any, Tensor], Tensor]


class LabelledTexts(Protocol):
    """What training needs of a data set: `texts` (strings or pairs) and `labels`, (n,) integers."""

    texts: Sequence[Any]
    labels: Tensor


@dataclass(frozen=True)
class TextTraining:
    """Everything but the data that determines a fine-tuned classifier. Defaults are the paper's (its section 4).

    Attributes:
        encoder, layers, max_length, n_classes: as in `TextClassifier.from_name`.
        training_temperature: logits are divided by it inside the loss, and only there (paper, section 5 and G.2).
        gradient_rule: "none"; "clip" scales the global gradient down to `clip_norm` where it is larger; "normalise"
            scales it to norm 1 at every step (the paper's `*`, section 3.2).
        clip_norm: L2 norm; the paper gives no threshold.
        precision: of the matrix products, "float32", "bfloat16" or "auto" (bfloat16 where the hardware has it);
            weights, gradients and optimiser stay float32.
        seed: of the head, the order of the batches and dropout.
    """

    n_classes: int = 2
    encoder: str = "minilm"  # paper: DeBERTa-base, RoBERTa-base, BERT-base
    layers: int | None = None
    max_length: int = 128  # the paper does not state it
    epochs: int = 5
    batch_size: int = 8
    learning_rate: float = 1e-5  # no warm-up; decays linearly to 0 (the paper implies a decay, not its form)
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    training_temperature: float = 1.0
    gradient_rule: str = "none"
    clip_norm: float = 1.0
    precision: str = "auto"
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_temperature(self.training_temperature, "training_temperature")
        for name, value, allowed in (
            ("gradient_rule", self.gradient_rule, GRADIENT_RULES),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        for name in ("epochs", "batch_size", "learning_rate", "clip_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


def train_text_classifier(config: TextTraining, data: LabelledTexts, *, refresh: bool | None = None) -> TextClassifier:
    """The classifier this configuration gives on these texts: from the cache, else fine-tuned now.

    An interrupted training goes on from its last checkpoint with the weights it would have had.
    Taught in: notebooks/05.

    Args:
        config: the training.
        data: training texts and their labels.
        refresh: train again even if the cache has it.

    Returns:
        The classifier in eval mode on `config.device`, float32, serving its plain logits (the training temperature is
        not applied). `history` holds mean loss and mean gradient norm, before the gradient rule, of each epoch.

    Raises:
        FloatingPointError: the loss became NaN or infinite; names the configuration, the epoch and the step.
    """
    labels = torch.as_tensor(data.labels)
    check_labels(labels, len(data.texts), config.n_classes)
    settings = {
        **asdict(config),
        "precision": resolve_precision(config.precision, config.device),
        "data": data_digest(data.texts, labels),
    }

    def build() -> TextClassifier:
        return TextClassifier.from_name(
            config.encoder, config.n_classes, layers=config.layers, seed=config.seed, max_length=config.max_length
        ).to(config.device)

    def compute() -> dict[str, Any]:
        model = build()
        encodings = model.tokenise(data.texts)
        on_device = labels.to(config.device)
        step = classification_step(config.training_temperature, autocast_context(config.precision, config.device))
        history = fit(
            model,
            plan=lambda epoch: length_bucketed([len(e) for e in encodings], config.batch_size, config.seed, epoch),
            load=lambda rows: (model.collate([encodings[row] for row in rows]), on_device[rows]),
            step=step,
            config=config,
            checkpoint=Checkpoint("text_model", settings),
        )
        return {**model.body.state_dict(), "history": history}

    code = (encoders, checkpoints, sys.modules[__name__])
    payload = cache.cached("text_model", settings, compute, code=code, refresh=refresh)
    model = build()
    model.history = payload.pop("history")
    model.body.load_state_dict(payload)
    return model.eval()


def fit(
    model: nn.Module,
    *,
    plan: Callable[[int], list[list[int]]],
    load: Callable[[list[int]], tuple[Any, Tensor]],
    step: Step,
    config: TextTraining,
    checkpoint: Checkpoint | None = None,
    checkpoint_seconds: float = 30.0,
) -> list[dict[str, float]]:
    """Train `model` in place with AdamW and a learning rate that falls linearly to 0.

    Every epoch seeds torch's global generators from (seed, epoch), and the caller's state comes back at the end, so
    that a training resumed from a checkpoint repeats the uninterrupted one to the bit.

    Args:
        model: module with trainable parameters.
        plan: row numbers of each batch of an epoch; as many batches in every epoch.
        load: inputs and labels of a batch, on the model's device.
        step: see `Step`; gradients are cleared before it, rescaled by the gradient rule and applied after it.
        config: optimiser, gradient rule, epochs, seed.
        checkpoint: written after an epoch where `checkpoint_seconds` have passed since the last time, and removed at
            the end.

    Returns:
        One dict for each epoch: "epoch" (from 1), "loss", "gradient_norm" (means over its steps).

    Raises:
        FloatingPointError: see `train_text_classifier`; the last checkpoint stays in place.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )
    done = checkpoint.load(model, optimiser) if checkpoint else 0
    n_batches = len(plan(0))
    check_every = 1 if parameters[0].device.type == "cpu" else 50  # a look at the loss makes a GPU wait
    history = optimiser.param_groups[0].setdefault("history", [])  # there, so that a checkpoint carries it
    saved = time.monotonic()
    model.train()
    with seeded(config.seed):
        for epoch, index, rows in progress(
            _batches(plan, done, config.epochs),
            description=f"training {config.encoder}",
            total=(config.epochs - done) * n_batches,
        ):
            if index == 0:
                torch.manual_seed(config.seed * 1_000_003 + epoch)
                loss_sum, norm_sum = 0.0, 0.0
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * (1 - (epoch * n_batches + index) / (config.epochs * n_batches))
            optimiser.zero_grad(set_to_none=True)
            loss_sum = loss_sum + step(model, *load(rows)).detach()  # a NaN stays in the sum
            last = index == n_batches - 1
            if (last or index % check_every == 0) and not torch.isfinite(loss_sum):
                raise FloatingPointError(
                    f"the loss became {float(loss_sum)} in epoch {epoch + 1}, step {index + 1}, of {config}: lower the "
                    "learning rate, or set gradient_rule='clip'"
                )
            norm_sum = norm_sum + apply_gradient_rule(parameters, config.gradient_rule, config.clip_norm)
            optimiser.step()
            if last:
                means = {"loss": float(loss_sum) / n_batches, "gradient_norm": float(norm_sum) / n_batches}
                history.append({"epoch": epoch + 1, **means})
                if checkpoint and epoch + 1 < config.epochs and time.monotonic() - saved >= checkpoint_seconds:
                    checkpoint.save(model, optimiser, epoch + 1)
                    saved = time.monotonic()
    if checkpoint:
        checkpoint.remove()
    model.eval()
    return history


def _batches(plan: Callable[[int], list[list[int]]], start: int, epochs: int) -> Iterator[tuple[int, int, list[int]]]:
    for epoch in range(start, epochs):
        for index, rows in enumerate(plan(epoch)):
            yield epoch, index, rows


def classification_step(temperature: float, autocast: AbstractContextManager) -> Step:
    """Step of standard training: cross-entropy of softmax(logits / temperature), averaged over the batch."""

    def step(model: nn.Module, inputs: Any, labels: Tensor) -> Tensor:
        with autocast:
            logits = model(inputs)
        loss = nn.functional.cross_entropy(logits.float() / temperature, labels)
        loss.backward()
        return loss

    return step


def apply_gradient_rule(parameters: Sequence[Tensor], rule: str, clip_norm: float = 1.0) -> Tensor:
    """Rescale the gradients in place by the rule of `TextTraining.gradient_rule`; returns their L2 norm from before.

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
    for gradient in gradients:
        gradient.mul_(scale)
    return norm


def length_bucketed(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Row numbers of one epoch's batches: shuffled, but texts of about one length together, so that little is padded.

    Rows are shuffled, sorted by length within pools of 50 batches, cut into batches, and the batches shuffled.
    """
    generator = epoch_generator(seed, epoch)
    rows = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(rows), 50 * batch_size):
        pool = sorted(rows[start : start + 50 * batch_size], key=lambda row: lengths[row])
        batches += [pool[first : first + batch_size] for first in range(0, len(pool), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def resolve_precision(precision: str, device: str) -> str:
    """ "float32" or "bfloat16": what "auto" means on this hardware.

    bfloat16 needs instructions of its own (AVX512-BF16, AMX, or a GPU from Ampere on); without them it is emulated
    and slow. With them, on two Zen 5 cores, a training step of MiniLM took 53 ms instead of 92 ms.
    """
    if precision != "auto":
        return precision
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
    return "bfloat16" if torch.device(device).type == "cpu" and fast else "float32"


def autocast_context(precision: str, device: str) -> AbstractContextManager:
    """Context for the forward pass at this precision: bfloat16 autocast, or nothing; may be entered many times."""
    if resolve_precision(precision, device) == "bfloat16":
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
    return nullcontext()


def data_digest(texts: Sequence[Any], labels: Tensor) -> str:
    """Hash of texts and labels, in order: the data's part of a cache key."""
    content = json.dumps([list(texts), labels.tolist()], ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()[:20]
