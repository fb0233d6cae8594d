"""Small models whose answers are known, shared by the tests."""

from __future__ import annotations

import torch
from torch import nn


class LinearClassifier(nn.Module):
    """logits = W x + b on flattened pixels, so that the best perturbation is known in closed form."""

    def __init__(self, n_classes: int = 3, shape: tuple[int, int, int] = (1, 4, 4), seed: int = 0, scale: float = 1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        n_pixels = shape[0] * shape[1] * shape[2]
        self.weight = nn.Parameter(scale * torch.randn(n_classes, n_pixels, generator=generator))
        self.bias = nn.Parameter(0.1 * scale * torch.randn(n_classes, generator=generator))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.weight.T.to(images.dtype) + self.bias.to(images.dtype)


def random_images(n: int, shape: tuple[int, int, int] = (1, 4, 4), seed: int = 1, low: float = 0.3, high: float = 0.7):
    """Images away from the pixel range's ends, so that small balls are not cut."""
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(n, *shape, generator=generator)


def small_net(seed: int = 0, n_classes: int = 4, shape: tuple[int, int, int] = (1, 6, 6)) -> nn.Module:
    """A random nonlinear classifier with logit gaps of a few units."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 24), nn.Tanh(), nn.Linear(24, n_classes)
        )
        with torch.no_grad():
            net[3].weight *= 8
    return net


def predictions(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(images).argmax(dim=1)
