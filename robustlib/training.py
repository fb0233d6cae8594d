"""Standard training of image classifiers: seeded, cached, interruptible."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

import torch
from torch import nn

from robustlib import cache, models
from robustlib.checkpoint import Checkpoint, epoch_generator
from robustlib.progress import progress


@dataclass(frozen=True)
class ImageTraining:
    """Everything that determines a trained image classifier."""

    dataset: str
    n_train: int
    architecture: str = "small_cnn"
    epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 5e-4
    augment: bool = False
    seed: int = 0
    device: str = "cpu"


def trained_image_model(training: ImageTraining) -> nn.Module:
    """The classifier this configuration gives: from the cache, else trained now (Adam, one-cycle, cross-entropy).

    An interrupted training goes on from its last whole epoch, with the weights it would have had.

    Returns:
        Model in evaluation mode on `training.device`: pixels in [0, 1] to logits.

    Raises:
        FloatingPointError: the loss became NaN; names the configuration and the epoch.
        robustlib.data.FetchError: the data set cannot be had.
    """
    from robustlib.data import load_images

    data = load_images(training.dataset, "train", n=training.n_train, seed=training.seed)
    shape = (training.architecture, data.images.shape[1], data.images.shape[2], len(data.class_names))

    def compute() -> dict:
        model = models.build_image_model(*shape, seed=training.seed).to(training.device)
        _fit(model, data.images, data.labels, training)
        return {name: value for name, value in model.state_dict().items()}

    config = {"training": asdict(training), "data": cache.content_digest([data.images, data.labels])}
    weights = cache.cached("image_model", config, compute, code=_code())
    model = models.build_image_model(*shape, seed=training.seed)
    model.load_state_dict(weights)
    return model.to(training.device).eval()


def _code() -> tuple:
    return models, sys.modules[__name__]


def _fit(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, training: ImageTraining) -> None:
    images, labels = images.to(training.device), labels.to(training.device)
    total = -(-len(images) // training.batch_size) * training.epochs
    optimiser = torch.optim.Adam(model.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    checkpoint = Checkpoint("image_model", training, code=_code())
    done = checkpoint.load(model, optimiser)
    step = done * total // training.epochs
    model.train()
    for epoch in progress(range(done, training.epochs), description=f"training on {training.dataset}"):
        generator = epoch_generator(training.seed, epoch)
        for rows in torch.randperm(len(images), generator=generator).split(training.batch_size):
            for group in optimiser.param_groups:
                group["lr"] = training.learning_rate * _one_cycle(step / total)
            batch = images[rows.to(images.device)]
            if training.augment:
                batch = _augmented(batch, generator)
            loss = nn.functional.cross_entropy(model(batch), labels[rows.to(labels.device)])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            step += 1
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss.item()} in epoch {epoch + 1} of {training}")
        if epoch + 1 < training.epochs:
            checkpoint.save(model, optimiser, epoch + 1)
    checkpoint.remove()


def _one_cycle(share: float, warm_up: float = 0.2) -> float:
    """Factor on the learning rate after a share of all steps: linear up, linear down."""
    return share / warm_up + 1e-2 if share < warm_up else (1 - share) / (1 - warm_up)


def _augmented(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random flips and shifts of up to four pixels, one draw per batch for the shift, one per image for the flip."""
    flip = torch.rand(len(images), generator=generator).to(images.device) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    down, right = torch.randint(0, 9, (2,), generator=generator).tolist()
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    return padded[:, :, down : down + images.shape[2], right : right + images.shape[3]]
