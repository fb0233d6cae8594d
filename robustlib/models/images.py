"""Image classifiers of the study: pixels in [0, 1] in, logits out. Normalisation belongs to the model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustlib.models.convolution import FirstConv2d
from robustlib.models.forward import seeded


class Normalised(nn.Module):
    """A model behind the usual (x - mean) / std per channel, so that epsilon stays in pixel units."""

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images - self.mean) / self.std)


class QuantisedInputs(nn.Module):
    """A model that sees every pixel of [0, 1] rounded to one of `levels` values: no gradient reaches the pixels."""

    def __init__(self, model: nn.Module, levels: int) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("steps", torch.tensor(float(levels - 1)))

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images * self.steps).round() / self.steps)


class Ensemble(nn.Module):
    """The mean of several models' logits."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([model(images) for model in self.models]).mean(dim=0)


class Mixture(nn.Module):
    """Logarithms of `weight` times a robust model's probabilities plus the rest of those of an accurate one.

    The robust logits are multiplied by `sharpness` first. The principle of MixedNUTS (arXiv 2402.02263), whose map of
    the robust logits is fitted, not chosen.
    """

    def __init__(self, accurate: nn.Module, robust: nn.Module, *, weight: float = 0.5, sharpness: float = 4.0) -> None:
        super().__init__()
        self.accurate, self.robust = accurate, robust
        self.register_buffer("weight", torch.tensor(weight))
        self.register_buffer("sharpness", torch.tensor(sharpness))

    def forward(self, images: Tensor) -> Tensor:
        robust = (self.sharpness * self.robust(images)).log_softmax(dim=1) + self.weight.log()
        accurate = self.accurate(images).log_softmax(dim=1) + (1 - self.weight).log()
        return torch.logaddexp(robust, accurate)


def small_cnn(channels: int, image_size: int, n_classes: int, *, width: int = 16) -> nn.Module:
    """Two strided convolutions and a hidden layer; without batch normalisation and dropout, so without modes."""
    side = (image_size + 3) // 4
    return nn.Sequential(
        FirstConv2d(channels, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * side * side, 4 * width),
        nn.ReLU(),
        nn.Linear(4 * width, n_classes),
    )


def resnet18_small_images(channels: int, n_classes: int) -> nn.Module:
    """torchvision's ResNet-18 with the usual stem for 32 x 32 images: a 3 x 3 convolution and no pooling."""
    from torchvision.models import resnet18

    model = resnet18(weights=None, num_classes=n_classes)
    model.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def build_image_model(architecture: str, channels: int, image_size: int, n_classes: int, *, seed: int) -> nn.Module:
    """A fresh "small_cnn" or "resnet18", whose weights depend on `seed` alone; ValueError for another architecture."""
    with seeded(seed):
        if architecture == "small_cnn":
            model = small_cnn(channels, image_size, n_classes)
        elif architecture == "resnet18":
            model = resnet18_small_images(channels, n_classes)
        else:
            raise ValueError(f"unknown architecture {architecture!r}: choose small_cnn or resnet18")
    return Normalised(model, [0.5] * channels, [0.25] * channels)
