"""Small image classifiers for the audit's bench, trained on Fashion-MNIST in seconds and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustlib.data import load_images
from robustlib.data.cache import cached
from robustlib.models import Normalised, seeded

SHIRTS = (0, 6)  # T-shirts and shirts, the two classes of the binary models
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@lru_cache(maxsize=4)
def training_data(n: int, shirts: bool = False) -> tuple[Tensor, Tensor]:
    data = load_images("fashion_mnist", "train", n=n, seed=0)
    return _shirts(data.images, data.labels) if shirts else (data.images, data.labels)


@lru_cache(maxsize=4)
def examples(split: str, n: int, shirts: bool = False) -> tuple[Tensor, Tensor]:
    """Images and labels of a split; five times as many are drawn where only two classes are kept."""
    data = load_images("fashion_mnist", split, n=5 * n if shirts else n, seed=0)
    images, labels = _shirts(data.images, data.labels) if shirts else (data.images, data.labels)
    return images[:n], labels[:n]


def _shirts(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    kept = (labels == SHIRTS[0]) | (labels == SHIRTS[1])
    return images[kept], (labels[kept] == SHIRTS[1]).long()


def network(
    width: int = 16,
    *,
    channels: int = 1,
    n_classes: int = 10,
    activation: Callable[[], nn.Module] = nn.ReLU,
    dropout: float = 0.0,
    batch_norm: bool = False,
) -> nn.Module:
    """Two strided convolutions and a hidden layer, 28 x 28 pixels in [0, 1] to logits."""
    norm = nn.BatchNorm2d if batch_norm else nn.Identity
    body = nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=2, padding=1),
        norm(width),
        activation(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        activation(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2 * width * 49, 4 * width),
        activation(),
        nn.Dropout(dropout),
        nn.Linear(4 * width, n_classes),
    )
    return Normalised(body, [0.5] * channels, [0.25] * channels)


def cross_entropy(logits: Tensor, labels: Tensor, images: Tensor, *, smoothing: float = 0.0, temperature: float = 1.0):
    return functional.cross_entropy(logits / temperature, labels, label_smoothing=smoothing)


def squeezed(logits: Tensor, labels: Tensor, images: Tensor, *, weight: float = 0.5) -> Tensor:
    """Cross-entropy and the squared length of the logits (Kannan et al. 2018)."""
    return functional.cross_entropy(logits, labels) + weight * logits.square().sum(dim=1).mean()


def distilled_from(teacher: nn.Module, temperature: float) -> Loss:
    """Defensive distillation (Papernot et al. 2016): the teacher's soft labels, at a high temperature on both sides."""

    def loss(logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        with torch.no_grad():
            target = (teacher(images) / temperature).softmax(dim=1)
        return functional.cross_entropy(logits / temperature, target)

    return loss


def trained(
    name: str,
    build: Callable[[], nn.Module],
    loss: Loss = cross_entropy,
    *,
    n: int = 8_000,
    epochs: int = 12,
    seed: int = 0,
    adversarial: float = 0.0,
    trades: bool = False,
    normalise: float = 0.0,
    shirts: bool = False,
    noise: float = 0.0,
) -> nn.Module:
    """A network after Adam (or SGD with gradients of length 1), in evaluation mode, from the cache where it is there.

    Args:
        name: names it in the cache, with everything that the other arguments do not say.
        adversarial: radius (Linf) of the images that PGD makes of every batch before a step.
        trades: clean cross-entropy and 6 times the divergence to those images, instead of their cross-entropy.
        normalise: learning rate of SGD on gradients scaled to length 1; 0: Adam on gradients as they are.
        noise: deviation of Gaussian noise on the training images.
    """
    with seeded(seed):
        net = build()
    settings = {
        "name": name,
        "n": n,
        "epochs": epochs,
        "seed": seed,
        "adversarial": adversarial,
        "trades": trades,
        "normalise": normalise,
        "shirts": shirts,
        "noise": noise,
    }

    def fit() -> dict[str, Tensor]:
        images, labels = training_data(n, shirts)
        with seeded(seed):
            _fit(net.train(), images, labels, loss, epochs, adversarial, trades, normalise, noise)
        return {key: value.detach() for key, value in net.state_dict().items()}

    net.load_state_dict(cached("audit_bench", settings, fit, rooms=("models.images",)))
    return net.eval().requires_grad_(False)


def _fit(net, images, labels, loss: Loss, epochs, adversarial, trades, normalise, noise) -> None:
    steps = epochs * -(-len(images) // 128)
    sgd = partial(torch.optim.SGD, lr=normalise)
    optimiser = sgd(net.parameters()) if normalise else torch.optim.Adam(net.parameters(), lr=3e-3, weight_decay=1e-5)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 if normalise else 1.02 - step / steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(128):
            x, y = images[rows], labels[rows]
            x = x + noise * torch.randn_like(x) if noise else x
            near = _perturbed(net, x, y, adversarial) if adversarial else x
            objective = loss(net(x if trades else near), y, near)
            if trades:
                clean, perturbed = net(x).softmax(dim=1), net(near).log_softmax(dim=1)
                objective = objective + 6 * functional.kl_div(perturbed, clean, reduction="batchmean")
            optimiser.zero_grad()
            objective.backward()
            if normalise:
                length = nn.utils.get_total_norm([parameter.grad for parameter in net.parameters()])
                for parameter in net.parameters():
                    parameter.grad /= length
            optimiser.step()
            decay.step()


def _perturbed(net: nn.Module, images: Tensor, labels: Tensor, epsilon: float, steps: int = 4) -> Tensor:
    delta = (2 * torch.rand_like(images) - 1) * epsilon
    for _ in range(steps):
        delta.requires_grad_()
        loss = functional.cross_entropy(net((images + delta).clamp(0, 1)), labels)
        (gradient,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() + 2 * epsilon / steps * gradient.sign()).clamp(-epsilon, epsilon)
    return (images + delta).clamp(0, 1)
