"""Loss landscapes stored as logits, so that every loss at every temperature is read off without the model.

Taught in: notebooks/03.
"""

import copy
import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robustlib.attacks.inputs import prepare
from robustlib.attacks.scores import Margin, Score
from robustlib.calibration.checks import check_labels
from robustlib.models.forward import evaluating, gradients_on, logits_of, mixed_seed


@dataclass(frozen=True)
class Landscape:
    """Logits on a square grid around a point."""

    # (side, side, n, n_classes); the first axis follows `first`, the second `second`, which name the axes
    logits: Tensor
    labels: Tensor
    coordinates: np.ndarray  # (side,) in units of the directions' length (input space: of epsilon)
    first: str
    second: str
    # (2, n_pixels) of -1 and 1 (or 0), what one unit adds, divided by epsilon; None around weights
    directions: Tensor | None = None

    def surface(self, score: Score) -> np.ndarray:
        """Mean of a score over the n examples at each grid point, (side, side), in float32 as served."""
        side, _, n, n_classes = self.logits.shape
        flat = self.logits.reshape(-1, n_classes)
        values = score(flat, self.labels.repeat(side * side))
        return values.reshape(side, side, n).mean(dim=2).numpy()


def exactly_flat(surface: np.ndarray) -> np.ndarray:
    """Where a grid point equals all its neighbours to the last bit: there is no direction to climb. (side, side)."""
    flat = np.ones(surface.shape, dtype=bool)
    for axis in (0, 1):
        equal = np.diff(surface, axis=axis) == 0
        first, last = [(slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None))]
        flat[first] &= equal
        flat[last] &= equal
    return flat


def input_landscape(
    model: nn.Module, image: Tensor, label: Tensor, *, epsilon: float, side: int, seed: int = 0
) -> Landscape:
    """Landscape around one image, towards the attack's direction and a random one, both Linf directions.

    The first direction is the sign of the margin's gradient, which no temperature changes, so that the same
    grid serves every temperature; the second a random sign pattern. Pixels are kept in [0, 1].

    Args:
        image: (1, channels, height, width). label: (1,).
        epsilon: length of both directions, Linf, pixel units; the grid goes from -2 to 2 times that.
        side: grid points along each axis; odd (else ValueError), so that the image itself is on the grid.
    """
    with gradients_on(), evaluating(model):
        forward, point, label = prepare(model, image, label)
        gradient = torch.autograd.grad(Margin()(forward(point.requires_grad_(True)), label).sum(), point)[0]
    directions = {"towards the attack": gradient.sign(), "random direction": _random_signs(image, seed)}
    return _plane(model, image, label, directions, epsilon, _coordinates(side, 2.0))


def random_landscape(
    model: nn.Module, image: Tensor, label: Tensor, *, epsilon: float, side: int, seed: int = 0
) -> Landscape:
    """As `input_landscape`, along two random sign patterns."""
    directions = {"random direction": _random_signs(image, seed), "another one": _random_signs(image, seed + 1)}
    return _plane(model, image, label, directions, epsilon, _coordinates(side, 2.0))


def _random_signs(image: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(mixed_seed(seed))
    return (torch.rand(image.shape, generator=generator) < 0.5).to(image) * 2 - 1


def _plane(
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    directions: dict[str, Tensor],
    epsilon: float,
    coordinates: np.ndarray,
) -> Landscape:
    steps, side = torch.tensor(coordinates, dtype=image.dtype, device=image.device) * epsilon, len(coordinates)
    first, second = directions.values()
    grid = image + steps.reshape(-1, 1, 1, 1, 1) * first + steps.reshape(1, -1, 1, 1, 1) * second
    logits = logits_of(model, grid.clamp(0, 1).reshape(-1, *image.shape[1:])).reshape(side, side, 1, -1)
    return Landscape(logits, label.cpu(), coordinates, *directions, torch.cat([first, second]).flatten(1).cpu())


def weight_landscape(model: nn.Module, images: Tensor, labels: Tensor, *, side: int, seed: int = 0) -> Landscape:
    """Landscape around the trained weights along two random directions with filter normalisation (Li et al. 2018).

    Each filter of a direction gets the norm of the filter it moves; biases and other vectors stay where they are.
    `side` as in `input_landscape`; the grid goes from -1 to 1 times the filters' norms.
    """
    coordinates = _coordinates(side, 1.0)
    directions = [filter_normalised(model, seed * 2 + axis) for axis in (0, 1)]
    moved = copy.deepcopy(model)
    trained = dict(model.named_parameters())
    points = []
    with torch.no_grad():
        for first, second in itertools.product(coordinates, coordinates):
            for name, weight in moved.named_parameters():
                weight.copy_(trained[name] + first * directions[0][name] + second * directions[1][name])
            points.append(logits_of(moved, images))
    logits = torch.stack(points).reshape(side, side, len(images), -1)
    labels = check_labels(labels, len(images), logits.shape[-1]).cpu()
    return Landscape(logits, labels, coordinates, "first weight direction", "second weight direction")


def _coordinates(side: int, reach: float) -> np.ndarray:
    if side % 2 == 0:
        raise ValueError(f"side must be odd, so that the centre is on the grid, got {side}")
    return np.linspace(-reach, reach, side)


def filter_normalised(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """A random direction in the weights, by parameter name, each filter with the norm of the model's own."""
    generator, directions = torch.Generator().manual_seed(mixed_seed(seed)), {}
    for name, weight in model.named_parameters():
        direction = torch.zeros_like(weight)
        if weight.ndim > 1:
            direction = torch.randn(weight.shape, generator=generator).to(weight)
            norms = [tensor.detach().flatten(1).norm(dim=1) for tensor in (weight, direction)]
            direction *= (norms[0] / norms[1]).reshape(-1, *[1] * (weight.ndim - 1))
        directions[name] = direction
    return directions
