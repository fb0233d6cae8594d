"""Gradient attacks on images: FGSM and PGD in Linf and L2 balls, with the score they climb as an argument."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.attacks import ball
from robustlib.attacks.inputs import clean_predictions, prepare
from robustlib.attacks.result import AttackResult, outcomes
from robustlib.attacks.scores import CrossEntropy, Score, TargetedMargin
from robustlib.calibration.checks import check_counts, check_positive, check_radius
from robustlib.models.forward import Forward, evaluating, gradients_on


def pgd(
    model: Callable,
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
    start: Tensor | None = None,
    leave_early: bool = True,
    keep_path: bool = False,
    seed: int = 0,
    batch_size: int = 512,
) -> AttackResult:
    """Projected gradient ascent on a score within a ball and the pixel range (Madry et al. 2018); notebooks/02.

    Args:
        model: maps images to logits (n, n_classes); a module or any callable that autograd can follow.
        images: (n, channels, height, width) in [0, 1]; not modified. labels: (n,) class indices.
        epsilon: radius in pixel units, in the norm "linf" or "l2"; 0 is allowed.
        score: what to climb; default cross-entropy of the logits as they come.
        steps: gradient steps a restart, of `step_size` in the units of epsilon; default 2.5 * epsilon / steps.
        restarts: independent random starts, tried only on examples that no earlier one fooled.
        random_start: start uniformly in the ball; else at the image.
        start: points like `images` where the first restart begins instead, moved into the ball (a warm start).
        leave_early: stop on an example at the first iterate that fools the model, and skip examples that are wrong
            when clean. False runs every step on every example: what a transfer to another model needs.
        keep_path: keep every iterate of the last restart in `details["path"]`, (steps + 1, n, ...), and leave late.
        seed: of the random starts, drawn per example: they do not depend on the batch size.

    Raises:
        ValueError, TypeError: as `inputs.prepare`, a number that makes no attack, or a start of another shape.
        FloatingPointError: the model returns NaN; the message names the example.
    """
    check_radius(epsilon, norm)
    check_counts(steps=steps, restarts=restarts, batch_size=batch_size)
    if step_size is not None:
        check_positive(step_size=step_size)
    size = 2.5 * epsilon / steps if step_size is None else step_size
    early = leave_early and not keep_path
    climb = _Climb(score or CrossEntropy(), epsilon, norm, steps, size, random_start, early, keep_path, seed)
    with gradients_on(), evaluating(model):
        run, points, labels = prepare(model, images, labels)
        if start is not None:
            climb = replace(climb, start=_checked_start(start, points))
        clean, standing = torch.zeros(2, len(points), dtype=torch.bool, device=points.device)
        adversarial, paths = points.clone(), []
        for start in range(0, len(points), batch_size):
            run.rows = rows = torch.arange(start, min(start + batch_size, len(points)), device=points.device)
            batch = _Batch(run, points[rows], labels[rows], rows, clean_predictions(run, points[rows], labels[rows]))
            path = climb.run(batch, restarts)
            clean[rows], standing[rows], adversarial[rows] = batch.clean, batch.standing, batch.adversarial
            paths.append(torch.stack(path + [path[-1]] * (steps + 1 - len(path))) if keep_path else None)
    details = {"path": torch.cat(paths, dim=1).to(run.dtype)} if keep_path and paths else {}
    outcome = outcomes(clean.cpu().numpy(), standing.cpu().numpy())
    return AttackResult(adversarial.to(run.dtype), outcome, run.n_forward, run.n_backward, None, details)


def pgd_in_float64(model: nn.Module, images: Tensor, labels: Tensor, **options: Any) -> AttackResult:
    """`pgd` on a copy of the model in float64: logits, loss and gradient have 53 bits; the images keep their type."""
    result = pgd(deepcopy(model).double(), images.double(), labels, **options)
    return replace(result, adversarial=result.adversarial.to(images.dtype))


def fgsm(model: Callable, images: Tensor, labels: Tensor, *, epsilon: float, **options: Any) -> AttackResult:
    """One full step along the gradient of the score (Goodfellow et al. 2015); `norm`, `score` as in `pgd`."""
    return pgd(
        model, images, labels, epsilon=epsilon, steps=1, step_size=epsilon or None, random_start=False, **options
    )


def _checked_start(start: Tensor, images: Tensor) -> Tensor:
    if start.shape != images.shape or not torch.isfinite(start).all():
        raise ValueError(f"start must hold finite points of shape {tuple(images.shape)}, got {tuple(start.shape)}")
    return start.detach().to(images)


class _Batch:
    def __init__(self, model: Forward, images: Tensor, labels: Tensor, rows: Tensor, clean: Tensor) -> None:
        self.model, self.images, self.labels, self.rows, self.clean = model, images, labels, rows, clean
        self.standing, self.adversarial = clean.clone(), images.clone()
        self._box: tuple[Tensor, Tensor] | None = None

    def box(self, epsilon: float, live: Tensor) -> tuple[Tensor, ...]:
        """`ball.box` of the examples at some positions: the same in every step, so made once."""
        if self._box is None:
            self._box = ball.box(self.images, epsilon)
        return tuple(_taken(side, live) for side in self._box)


@dataclass(frozen=True)
class _Climb:
    score: Score
    epsilon: float
    norm: str
    steps: int
    step_size: float
    random_start: bool
    leave_early: bool
    keep_path: bool
    seed: int
    start: Tensor | None = None

    def run(self, batch: _Batch, restarts: int) -> list[Tensor]:
        """Attack a batch; the iterates of the last restart, (n, ...) each."""
        path = [batch.images.clone()]
        for restart in range(restarts):
            live = (batch.standing if self.leave_early else torch.ones_like(batch.standing)).nonzero().squeeze(1)
            if not len(live):
                break
            path = self._once(batch, live, restart)
        return path

    def _once(self, batch: _Batch, live: Tensor, restart: int) -> list[Tensor]:
        """One climb of the examples at the positions `live`, which shrink where examples leave early."""
        current = batch.images.clone()
        if self.start is not None and restart == 0:
            current[live] = self._project(self.start[batch.rows[live]], batch, live)
        elif self.random_start:
            start = ball.random_start(
                batch.images[live], batch.rows[live], self.epsilon, self.norm, seed=self.seed, restart=restart
            )
            current[live] = self._project(start, batch, live)
        path = [current.clone()]
        for step in range(self.steps + 1):
            last = step == self.steps
            point = _taken(current, live).detach().requires_grad_(not last)
            batch.model.rows, labels = _taken(batch.rows, live), _taken(batch.labels, live)
            with torch.set_grad_enabled(not last):
                logits = batch.model(point)
            fooled = logits.argmax(dim=1) != labels
            if last or self.leave_early:
                batch.adversarial[live[fooled]] = point.detach()[fooled]
                batch.standing[live[fooled]] = False
            if last:
                batch.adversarial[live[~fooled]] = point.detach()[~fooled]
                break
            keep = (~fooled if self.leave_early else torch.ones_like(fooled)).nonzero().squeeze(1)
            if not len(keep):
                break
            score = self.score.of(batch.rows[live]) if isinstance(self.score, TargetedMargin) else self.score
            value = _taken(score(logits, labels), keep)
            gradient = _taken(torch.autograd.grad(value.sum(), point)[0], keep)
            batch.model.n_backward += len(keep)
            live = _taken(live, keep)
            moved = _taken(point.detach(), keep).add(ball.step(gradient, self.norm), alpha=self.step_size)
            moved = self._project(moved, batch, live)
            if len(live) == len(current):
                current = moved
            else:
                current[live] = moved
            if self.keep_path:
                path.append(current.clone())
        return path

    def _project(self, points: Tensor, batch: _Batch, live: Tensor) -> Tensor:
        if self.norm == "linf" and batch.model.dtype == points.dtype:  # then it is `ball.project`
            return points.clamp(*batch.box(self.epsilon, live))
        return ball.project(points, _taken(batch.images, live), self.epsilon, self.norm, batch.model.dtype)


def _taken(values: Tensor, rows: Tensor) -> Tensor:
    """`values[rows]` for ascending row numbers; no copy where they are all of them."""
    return values if len(rows) == len(values) else values[rows]
