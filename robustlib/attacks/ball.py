"""Linf and L2 balls around images, cut to the pixel range: steps, projections, random starts, rounding."""

import torch
from torch import Tensor

from robustlib.models.forward import mixed_seed


def step(gradient: Tensor, norm: str) -> Tensor:
    """Steepest direction of length 1: the gradient's sign (Linf), or the gradient over its norm (L2); 0 where it is 0.

    Libraries add a floor such as 1e-12 to the norm, which stops the search wherever a temperature made gradients
    small. We divide by the largest entry first.
    """
    if norm == "linf":
        return gradient.sign()
    largest = _per_example(gradient.flatten(1).abs().amax(dim=1), gradient)
    scaled = gradient / torch.where(largest > 0, largest, torch.ones_like(largest))
    length = _l2(scaled)
    return scaled / torch.where(length > 0, length, torch.ones_like(length))


def project(points: Tensor, images: Tensor, epsilon: float, norm: str, dtype: torch.dtype) -> Tensor:
    """The points moved into the ball around the images and into [0, 1], on numbers that `dtype` can hold."""
    if norm == "linf":
        points = points.clamp(*box(images, epsilon))
    else:
        offset = points - images
        length = _l2(offset)
        tiny = torch.finfo(length.dtype).tiny
        shrink = torch.where(length > epsilon, epsilon / length.clamp_min(tiny), torch.ones_like(length))
        # The pixel range is convex and holds the image, so clamping after the ball leaves the point in the ball.
        points = (images + offset * shrink).clamp(0, 1)
    return round_inward(points, images, dtype)


def box(images: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The lowest and the highest point of the Linf ball around each image within [0, 1]."""
    return (images - epsilon).clamp_(min=0), (images + epsilon).clamp_(max=1)


def round_inward(points: Tensor, images: Tensor, dtype: torch.dtype) -> Tensor:
    """Points in [0, 1] rounded to a half-precision dtype, never away from the images, which are of that dtype."""
    if dtype == points.dtype or torch.finfo(dtype).bits >= 32:
        return points
    rounded = points.to(dtype)
    outward = (rounded.to(points) - images).abs() > (points - images).abs()
    # Read as integers, numbers of 0 and above are ordered: the neighbour on the image's side is one more or one less.
    towards = torch.where(rounded.to(points) > images, -1, 1).to(torch.int16)
    inward = (rounded.view(torch.int16) + towards).view(dtype)
    return torch.where(outward, inward, rounded).to(points)


def random_start(images: Tensor, rows: Tensor, epsilon: float, norm: str, *, seed: int, restart: int) -> Tensor:
    """Points uniform in each image's ball, not projected; drawn by row, the same whatever batch an image is in."""
    draw = _cube if norm == "linf" else _l2_ball
    keys = [mixed_seed(seed, restart, int(row)) for row in rows]
    noise = [draw(images.shape[1:], torch.Generator().manual_seed(key)) for key in keys]
    return images + epsilon * torch.stack(noise).to(images)


def _cube(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * 2 - 1


def _l2_ball(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    direction = torch.randn(shape, generator=generator)
    radius = torch.rand((), generator=generator) ** (1 / direction.numel())
    return direction / direction.norm() * radius


def _l2(values: Tensor) -> Tensor:
    return _per_example(values.flatten(1).norm(dim=1), values)


def _per_example(values: Tensor, images: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (images.ndim - 1))
