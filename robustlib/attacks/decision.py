"""A decision-based attack in the Linf ball: it sees predicted classes only, no score that could be hidden."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustlib.attacks.inputs import clean_predictions, prepare
from robustlib.attacks.result import AttackResult, outcomes
from robustlib.calibration.checks import check_counts, check_radius
from robustlib.models.forward import evaluating, gradients_on, mixed_seed


def rays(
    model: Callable,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    n_queries: int = 400,
    seed: int = 0,
    batch_size: int = 512,
    score: object = None,
) -> AttackResult:
    """RayS (Chen and Gu, KDD 2020): the direction in {-1, 1}^d along which the decision changes soonest.

    Blocks of signs are flipped, halves of halves of the image; a flip is kept where the image that was fooled before
    is still fooled at the same radius, and the radius is then halved down. An example ends at its first radius within
    epsilon. Differs from the original in starting from random signs beside all ones, and in asking for all examples
    of a batch at once.

    Args:
        n_queries: for each example.
        score: not used, as no score is seen.

    Other args, result and errors as in `robustlib.attacks.pgd`; Linf only.
    """
    check_radius(epsilon, "linf")
    check_counts(n_queries=n_queries, batch_size=batch_size)
    with gradients_on(), evaluating(model), torch.no_grad():
        run, images, labels = prepare(model, images, labels)
        adversarial, queries = images.clone(), torch.zeros(len(images), dtype=torch.long)
        clean, standing = torch.zeros(2, len(images), dtype=torch.bool, device=images.device)
        for start in range(0, len(images), batch_size):
            rows = torch.arange(start, min(start + batch_size, len(images)), device=images.device)
            run.rows = rows
            clean[rows] = clean_predictions(run, images[rows], labels[rows])
            run.rows = None
            rows = rows[clean[rows]]
            if len(rows):
                search = _Rays(run, images[rows], labels[rows], epsilon, n_queries, mixed_seed(seed, start))
                adversarial[rows], standing[rows] = search.run()
                queries[rows.cpu()] = search.asked.cpu()
    outcome = outcomes(clean.cpu().numpy(), standing.cpu().numpy())
    return AttackResult(adversarial.to(run.dtype), outcome, run.n_forward, 0, queries.numpy())


class _Rays:
    """One batch: a sign for each pixel, and the radius at which it fools."""

    def __init__(self, model: Callable, images: Tensor, labels: Tensor, epsilon: float, limit: int, seed: int) -> None:
        self.model, self.images, self.labels = model, images, labels
        self.epsilon, self.limit = epsilon, limit
        n, self.size = len(images), images[0].numel()
        self.signs = torch.ones(n, self.size, device=images.device)
        self.radius = torch.full((n,), torch.inf, device=images.device)
        self.asked = torch.zeros(n, dtype=torch.long, device=images.device)
        self.generator = torch.Generator().manual_seed(seed)

    def run(self) -> tuple[Tensor, Tensor]:
        """The points reached, and which of them still stand."""
        everyone = torch.arange(len(self.images), device=self.images.device)
        self._take(everyone, self.signs.clone())
        level, block = 0, 0
        while len(rows := self._searching()):
            if level == 0:
                drawn = torch.randint(0, 2, (len(rows), self.size), generator=self.generator) * 2.0 - 1
                candidate = drawn.to(self.signs)
            else:
                first, last = (self.size * edge // 2**level for edge in (block, block + 1))
                candidate = self.signs[rows].clone()
                candidate[:, first:last] *= -1
            self._take(rows, candidate)
            block += 1
            if block >= max(2**level, 4 if level == 0 else 1):
                level, block = level + 1, 0
            if 2**level > self.size:
                level = 1
        return self._points(everyone, self.signs, self.radius.clamp(max=self.epsilon)), self.radius > self.epsilon

    def _searching(self) -> Tensor:
        return ((self.radius > self.epsilon) & (self.asked < self.limit)).nonzero().squeeze(1)

    def _take(self, rows: Tensor, signs: Tensor) -> None:
        """Keep the signs where they fool at a smaller radius than before, found by bisection; first of all at 1."""
        tried = self.radius[rows].clamp(max=1.0)
        better = self._fools(rows, signs, tried * (1 - 1e-3))
        rows, signs, high = rows[better], signs[better], tried[better] * (1 - 1e-3)
        # A point in the ball ends the search: it is asked for before the bisection spends queries.
        low = torch.zeros_like(high)
        inside = self._fools(rows, signs, torch.full_like(high, self.epsilon))
        high, low = torch.where(inside, self.epsilon, high), torch.where(inside, low, self.epsilon)
        searching = ~inside
        while bool((searching := searching & (high - low > 0.02 * high)).any()):
            at = searching.nonzero().squeeze(1)
            middle = (low[at] + high[at]) / 2
            fooled = self._fools(rows[at], signs[at], middle)
            high[at], low[at] = torch.where(fooled, middle, high[at]), torch.where(fooled, low[at], middle)
        self.signs[rows], self.radius[rows] = signs, high

    def _fools(self, rows: Tensor, signs: Tensor, radius: Tensor) -> Tensor:
        if not len(rows):
            return torch.zeros(0, dtype=torch.bool, device=rows.device)
        self.asked[rows] += 1
        return self.model(self._points(rows, signs, radius)).argmax(dim=1) != self.labels[rows]

    def _points(self, rows: Tensor, signs: Tensor, radius: Tensor) -> Tensor:
        moved = self.images[rows].flatten(1) + signs * radius[:, None]
        return moved.clamp(0, 1).reshape(self.images[rows].shape)
