"""Training of image classifiers with the loop of `robustlib.training.loop`: seeded, cached, interruptible."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.data import cache, load_images
from robustlib.models.images import build_image_model
from robustlib.training.autocast import autocast_context, resolve_precision
from robustlib.training.checkpoint import Checkpoint, epoch_generator
from robustlib.training.loop import Training, fit, logit_facts
from robustlib.training.methods import METHODS, image_method, method_step, worst_perturbation
from robustlib.training.perturbation import continuous

N_PROBED = 256  # training images whose logits are followed over the epochs
# Wong et al. 2020 see it as training-set accuracy under PGD falling to about 0 within an epoch.
_OVERFITTING_DROP = 0.2
_ROOMS = ("training.images",)  # with all that it imports: part of the cache keys


@dataclass(frozen=True)
class ImageTraining(Training):
    """Everything that determines a trained image classifier; radii and step sizes of `method` are in pixel units.

    Raises:
        ValueError: a method for texts only.
    """

    dataset: str = "fashion_mnist"
    n_train: int = 10_000
    architecture: str = "small_cnn"
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 5e-4
    precision: str = "float32"
    augment: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method.definition.text_only:
            others = ", ".join(name for name, definition in METHODS.items() if not definition.text_only)
            raise ValueError(f"{self.method.name} is for texts; for images choose one of {others}")


def trained_image_model(training: ImageTraining) -> nn.Module:
    """The classifier this configuration gives: from the cache, else trained with Adam and a one-cycle learning rate.

    An interrupted training goes on from its last checkpoint with the weights it would have had.
    Taught in: notebooks/08.

    Returns:
        Model in evaluation mode on `training.device`: pixels in [0, 1] to logits (the training temperature is not
        applied). `history` is what `training.loop.fit` returns, with `logit_facts` of `N_PROBED` training images
        and, where the method takes a single ascent step, their accuracy under FGSM and under PGD.

    Raises:
        FloatingPointError: the loss became NaN; names the configuration and the epoch.
        robustlib.data.FetchError: the data set is unavailable.
    """
    data = load_images(training.dataset, "train", n=training.n_train, seed=training.seed)
    shape = (training.architecture, data.images.shape[1], data.images.shape[2], len(data.class_names))
    precision = resolve_precision(training.precision, training.device)
    config = {
        "training": asdict(replace(training, precision=precision)),
        "data": cache.content_digest([data.images, data.labels]),
    }

    def compute() -> dict[str, Any]:
        model = build_image_model(*shape, seed=training.seed).to(training.device)
        images, labels = data.images.to(training.device), data.labels.to(training.device)
        history = _fit(model, images, labels, training, Checkpoint("image_model", config, rooms=_ROOMS))
        return {**model.state_dict(), "history": history}

    weights = cache.cached("image_model", config, compute, rooms=_ROOMS)
    history = weights.pop("history")
    model = build_image_model(*shape, seed=training.seed)
    model.load_state_dict(weights)
    model.history = history
    return model.to(training.device).eval()


def _fit(
    model: nn.Module, images: Tensor, labels: Tensor, training: ImageTraining, checkpoint: Checkpoint
) -> list[dict[str, float]]:
    def plan(epoch: int) -> list[Tensor]:
        rows = torch.randperm(len(images), generator=epoch_generator(training.seed, epoch))
        return list(rows.to(images.device).split(training.batch_size))

    def load(rows: Tensor) -> tuple[Tensor, Tensor]:
        batch = images[rows]
        return _augmented(batch) if training.augment else batch, labels[rows]

    def probe() -> dict[str, float]:
        with torch.no_grad():
            facts = logit_facts(model(images[:N_PROBED]), labels[:N_PROBED])
        if training.method.definition.steps == 1:
            facts |= _fgsm_and_pgd_accuracy(model, images[:N_PROBED], labels[:N_PROBED], training)
        return facts

    return fit(
        model,
        plan=plan,
        load=load,
        step=method_step(training.method, autocast_context(training.precision, training.device)),
        config=training,
        probe=probe,
        decay=_one_cycle,
        optimiser=partial(torch.optim.Adam, lr=training.learning_rate, weight_decay=training.weight_decay, fused=True),
        description=f"training on {training.dataset}, {training.label}",
        checkpoint=checkpoint,
    )


def _fgsm_and_pgd_accuracy(model, images: Tensor, labels: Tensor, training: ImageTraining) -> dict[str, float]:
    """Accuracy under the attack that FGSM trains against and under PGD-10 in the same set: they part on overfitting."""
    batch, loss = continuous(model, images), partial(nn.functional.cross_entropy, target=labels)
    accuracy = {}
    for name in ("fgsm", "pgd"):
        attack = image_method(name, training.method.perturbations.radius, steps=10)
        delta = worst_perturbation(batch, loss, attack.perturbations, attack.steps)
        with torch.no_grad():
            accuracy[f"{name}_accuracy"] = float((model(images + delta).argmax(dim=1) == labels).double().mean())
    return accuracy


def catastrophic_overfitting(history: list[dict[str, float]]) -> int | None:
    """First epoch of a training with FGSM in which the accuracy under PGD fell by 20 points or more, else None.

    Source: Wong et al. 2020, section 5.4. Taught in: notebooks/08.

    Raises:
        ValueError: the history has no such accuracies: the method was not "fgsm".
    """
    if not history or "pgd_accuracy" not in history[0]:
        raise ValueError("history holds no accuracy under PGD: only a training with method 'fgsm' records it")
    best = 0.0
    for row in history:
        if best - row["pgd_accuracy"] >= _OVERFITTING_DROP:
            return int(row["epoch"])
        best = max(best, row["pgd_accuracy"])
    return None


def _one_cycle(share: float, warm_up: float = 0.2) -> float:
    """Factor on the learning rate after a share of all steps: linear up, linear down."""
    return share / warm_up + 1e-2 if share < warm_up else (1 - share) / (1 - warm_up)


def _augmented(images: Tensor) -> Tensor:
    """Random flips of each image, and one shift of the batch by up to four pixels, from the global generator."""
    flip = torch.rand(len(images)).to(images.device) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    down, right = torch.randint(0, 9, (2,)).tolist()
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    return padded[:, :, down : down + images.shape[2], right : right + images.shape[3]]
