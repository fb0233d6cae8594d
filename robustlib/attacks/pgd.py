"""Gradient attacks on images: FGSM and PGD in Linf and L2 balls, with the score they climb as an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robustlib.attacks.result import AttackResult, outcomes
from robustlib.attacks.scores import CrossEntropy, Score
from robustlib.calibration.checks import check_labels, check_pixels, check_radius
from robustlib.models.forward import evaluating


def fgsm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    norm: str = "linf",
    score: Score | None = None,
    batch_size: int = 512,
) -> AttackResult:
    """One full step along the gradient of the score (Goodfellow et al. 2015); see `pgd` for the arguments."""
    return pgd(
        model,
        images,
        labels,
        epsilon=epsilon,
        norm=norm,
        score=score,
        steps=1,
        step_size=epsilon,
        random_start=False,
        batch_size=batch_size,
    )


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    norm: str = "linf",
    score: Score | None = None,
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    leave_early: bool = True,
    keep_path: bool = False,
    seed: int = 0,
    batch_size: int = 512,
) -> AttackResult:
    """Projected gradient ascent on a score within an epsilon ball and the pixel range (Madry et al. 2018).

    An example leaves the batch at the first iterate that fools the model. The step is the sign of the
    gradient (Linf) or the gradient over its norm (L2). Libraries add a floor such as 1e-12 to that norm, which
    stops the search wherever a temperature made gradients small; we divide by the largest entry first, so
    that only a gradient of exactly 0 stops us, and what remains of the illusion is floating point's own.

    Taught in: notebooks/02.

    Args:
        model: maps (n, channels, height, width) in [0, 1] to logits (n, n_classes).
        images: (n, channels, height, width) in [0, 1]; not modified.
        labels: (n,) class indices.
        epsilon: radius in pixel units, in the given norm; 0 is allowed.
        norm: "linf" or "l2".
        score: what to climb; default cross-entropy of the logits as they come.
        steps: gradient steps a restart.
        step_size: in the units of epsilon; default 2.5 * epsilon / steps.
        restarts: independent random starts, tried only on what still stands.
        random_start: start uniformly in the ball; else at the image.
        leave_early: False runs every step on every example, whether or not the model is fooled by then or was
            wrong to begin with: what a transfer to another model needs.
        keep_path: keep every iterate of the last restart in `details["path"]`, (steps + 1, n, ...); implies that
            nothing leaves early.
        seed: of the random starts, drawn per example, so that they do not depend on the batch size.
        batch_size: examples per model call.

    Returns:
        AttackResult; examples wrong when clean are skipped, and unchanged if `leave_early`.

    Raises:
        ValueError, TypeError: pixels outside [0, 1], labels out of range, unknown norm, bad numbers.
        FloatingPointError: the model returns NaN; the message names the example.
    """
    settings = _Settings(
        score or CrossEntropy(),
        epsilon,
        norm,
        steps,
        step_size,
        restarts,
        random_start,
        leave_early and not keep_path,
        keep_path,
        seed,
    )
    check_pixels(images)
    check_labels(labels, len(images))
    adversarial = images.detach().clone()
    clean_correct = np.zeros(len(images), dtype=bool)
    still_correct = np.zeros(len(images), dtype=bool)
    paths, passes = [], np.zeros(2, dtype=np.int64)
    with evaluating(model):
        for start in range(0, len(images), batch_size):
            rows = torch.arange(start, min(start + batch_size, len(images)), device=images.device)
            batch = _Batch(model, images[rows].detach(), labels[rows], rows, settings, passes)
            found, clean, standing, path = batch.run()
            adversarial[rows] = found
            clean_correct[start : start + len(rows)] = clean.cpu().numpy()
            still_correct[start : start + len(rows)] = standing.cpu().numpy()
            paths.append(path)
    details = {"path": torch.cat(paths, dim=1)} if keep_path and paths else {}
    return AttackResult(
        adversarial, outcomes(clean_correct, still_correct), int(passes[0]), int(passes[1]), None, details
    )


@dataclass(frozen=True)
class _Settings:
    score: Score
    epsilon: float
    norm: str
    steps: int
    step_size: float | None
    restarts: int
    random_start: bool
    leave_early: bool
    keep_path: bool
    seed: int

    def __post_init__(self) -> None:
        check_radius(self.epsilon, self.norm)
        if self.steps < 1 or self.restarts < 1:
            raise ValueError(f"steps and restarts must be at least 1, got {self.steps} and {self.restarts}")

    @property
    def step(self) -> float:
        return 2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size


@dataclass
class _Batch:
    """PGD on one batch: `live` holds the positions still attacked, and shrinks."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    rows: Tensor
    settings: _Settings
    passes: np.ndarray

    def run(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found = self.images.clone()
        with torch.no_grad():
            clean = self._logits(self.images, self.rows).argmax(dim=1) == self.labels
        standing = clean.clone()
        path = [self.images.clone()]
        for restart in range(self.settings.restarts):
            live = standing.nonzero().squeeze(1) if self.settings.leave_early else torch.arange(len(self.images))
            if not len(live):
                break
            live = live.to(self.images.device)
            path = self._climb(live, restart, found, standing)
        if self.settings.keep_path:
            path += [path[-1]] * (self.settings.steps + 1 - len(path))
        return found, clean, standing, torch.stack(path)

    def _climb(self, live: Tensor, restart: int, found: Tensor, standing: Tensor) -> list[Tensor]:
        settings = self.settings
        move, project, start = _GEOMETRY[settings.norm]
        current = self.images.clone()
        if settings.random_start:
            noise = _noise(self.images[live], self.rows[live], settings.seed, restart, start)
            current[live] = project(self.images[live] + settings.epsilon * noise, self.images[live], settings.epsilon)
        path = [current.clone()]
        for step in range(settings.steps + 1):
            last = step == settings.steps
            point = current[live].requires_grad_(not last)
            with torch.set_grad_enabled(not last):
                logits = self._logits(point, self.rows[live])
                fooled = logits.detach().argmax(dim=1) != self.labels[live]
            if last or settings.leave_early:
                done = live[fooled]
                found[done], standing[done] = point.detach()[fooled], False
            if last:
                found[live[~fooled]] = point.detach()[~fooled]
                break
            keep = ~fooled if settings.leave_early else torch.ones_like(fooled)
            if not keep.any():
                break
            value = settings.score(logits, self.labels[live])
            gradient = torch.autograd.grad(value[keep].sum(), point)[0][keep]
            self.passes[1] += int(keep.sum())
            live = live[keep]
            moved = point.detach()[keep] + settings.step * move(gradient)
            current[live] = project(moved, self.images[live], settings.epsilon)
            if settings.keep_path:
                path.append(current.clone())
        return path

    def _logits(self, images: Tensor, rows: Tensor) -> Tensor:
        logits = self.model(images)
        self.passes[0] += len(images)
        if not torch.isfinite(logits).all():
            bad = int(rows[(~torch.isfinite(logits)).any(dim=1)][0])
            raise FloatingPointError(f"the model returned NaN or infinite logits for example {bad}")
        check_labels(self.labels, len(self.labels), logits.shape[1])
        return logits


def _per_example(values: Tensor, images: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (images.ndim - 1))


def _noise(images: Tensor, rows: Tensor, seed: int, restart: int, draw: Callable) -> Tensor:
    """A random start per example, the same whatever batch the example is in."""
    keys = [(seed * 1_000_003 + restart) * 1_000_003 + int(row) for row in rows]
    return torch.stack([draw(images.shape[1:], torch.Generator().manual_seed(key)) for key in keys]).to(images)


def _linf_move(gradient: Tensor) -> Tensor:
    return gradient.sign()


def _linf_project(moved: Tensor, images: Tensor, epsilon: float) -> Tensor:
    return torch.min(torch.max(moved, images - epsilon), images + epsilon).clamp(0, 1)


def _linf_start(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * 2 - 1


def _l2_norm(values: Tensor) -> Tensor:
    return _per_example(values.flatten(1).norm(dim=1), values)


def _l2_move(gradient: Tensor) -> Tensor:
    largest = _per_example(gradient.flatten(1).abs().amax(dim=1), gradient)
    scaled = gradient / torch.where(largest > 0, largest, torch.ones_like(largest))
    norm = _l2_norm(scaled)
    return scaled / torch.where(norm > 0, norm, torch.ones_like(norm))


def _l2_project(moved: Tensor, images: Tensor, epsilon: float) -> Tensor:
    offset = moved - images
    norm = _l2_norm(offset)
    shrink = torch.where(norm > epsilon, epsilon / norm.clamp_min(torch.finfo(norm.dtype).tiny), torch.ones_like(norm))
    # the pixel range is convex and holds the image, so clamping after the ball leaves the point in the ball
    return (images + offset * shrink).clamp(0, 1)


def _l2_start(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    direction = torch.randn(shape, generator=generator)
    radius = torch.rand((), generator=generator) ** (1 / direction.numel())
    return direction / direction.norm() * radius


_GEOMETRY: dict[str, tuple[Callable, Callable, Callable]] = {
    "linf": (_linf_move, _linf_project, _linf_start),
    "l2": (_l2_move, _l2_project, _l2_start),
}
