"""Training of image classifiers with the loop of `robustlib.training.loop`: seeded, cached, interruptible."""

from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor, nn

from robustlib.data import load_images
from robustlib.data.cache import content_digest
from robustlib.models.images import build_image_model
from robustlib.training.autocast import autocast_context, resolve_precision
from robustlib.training.checkpoint import Checkpoint, epoch_generator, trained_once
from robustlib.training.loop import Training, fit, logit_facts
from robustlib.training.methods import METHODS, Method, image_method, method_step, worst_perturbation
from robustlib.training.perturbation import continuous

N_PROBED = 256  # training images whose logits are followed over the epochs
# Wong et al. 2020 see it as training-set accuracy under PGD falling to about 0 within an epoch.
_OVERFITTING_DROP = 0.2


@dataclass(frozen=True)
class ImageTraining(Training):
    """Everything that determines a trained image classifier; radii and step sizes of `method` are in pixel units."""

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

    An interrupted training goes on from its last checkpoint. Taught in: notebooks/08.

    Returns:
        Model in evaluation mode on `training.device`: pixels in [0, 1] to logits, which no training temperature
        divides. `history` is what `training.loop.fit` returns, with `logit_facts` of `N_PROBED` training images and,
        where the method takes a single ascent step, their accuracy under FGSM and under PGD.

    Raises:
        FloatingPointError, robustlib.data.FetchError: the loss became NaN or infinite; the data are unavailable.
    """
    data = load_images(training.dataset, "train", n=training.n_train, seed=training.seed)
    images, labels = data.images.to(training.device), data.labels.to(training.device)
    shape = (training.architecture, images.shape[1], images.shape[2], len(data.class_names))
    precision = resolve_precision(training.precision, training.device)
    return trained_once(
        "image_model",
        {"training": asdict(replace(training, precision=precision)), "data": content_digest([images, labels])},
        lambda: build_image_model(*shape, seed=training.seed).to(training.device),
        lambda model, checkpoint: _fit(model, images, labels, training, checkpoint),
        rooms=("training.images",),
    )


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

    distils = training.method.definition.distils
    resources = {"teacher": trained_image_model(replace(training, method=Method()))} if distils else {}
    return fit(
        model,
        plan=plan,
        load=load,
        step=method_step(training.method, autocast_context(training.precision, training.device), **resources),
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
    """First epoch of a training with FGSM in which PGD accuracy fell by 20 points, else None (Wong et al. 2020)."""
    if not history or "pgd_accuracy" not in history[0]:
        raise ValueError("history holds no accuracy under PGD: only a training with method 'fgsm' records it")
    for row, best in zip(history, accumulate((row["pgd_accuracy"] for row in history), max), strict=True):
        if best - row["pgd_accuracy"] >= _OVERFITTING_DROP:
            return int(row["epoch"])
    return None


def _one_cycle(share: float) -> float:
    """Factor on the learning rate after a share of all steps: linear up over a fifth of them, then linear down."""
    return share / 0.2 + 1e-2 if share < 0.2 else (1 - share) / (1 - 0.2)


def _augmented(images: Tensor) -> Tensor:
    """Random flips of each image, and one shift of the batch by up to four pixels, from the global generator."""
    flip = torch.rand(len(images)).to(images.device) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    down, right = torch.randint(0, 9, (2,)).tolist()
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    return padded[:, :, down : down + images.shape[2], right : right + images.shape[3]]
