"""Two black-box attacks in the Linf ball that look for a sign for each pixel: one sees scores, one labels only.

Both flip blocks of signs, halves of halves of the image (Chen and Gu, KDD 2020; Al-Dujaili and O'Reilly, ICLR 2020).
Side by side they tell what a model's scores are worth: with sound scores the first is the stronger one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustlib.attacks.inputs import clean_predictions, prepare
from robustlib.attacks.result import AttackResult, outcomes
from robustlib.attacks.scores import Margin, Score
from robustlib.calibration.checks import check_counts, check_radius
from robustlib.models.forward import evaluating, gradients_on, mixed_seed

N_STARTS = 4  # random sign patterns tried before blocks are flipped


def sign_hunter(
    model: Callable,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    score: Score | None = None,
    n_queries: int = 300,
    start: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 512,
) -> AttackResult:
    """Corners of the ball, of which the one with the higher score is kept (Al-Dujaili and O'Reilly 2020).

    Args:
        score: default the logit margin.
        n_queries: for each example. start: points like `images` whose directions are tried first.

    Other args, result and errors as in `robustlib.attacks.pgd`; Linf only.
    """
    settings = {"epsilon": epsilon, "n_queries": n_queries, "seed": seed, "batch_size": batch_size, "start": start}
    return _attacked(_Scores, model, images, labels, score or Margin(), **settings)


def rays(
    model: Callable,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    score: Score | None = None,
    n_queries: int = 300,
    start: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 512,
) -> AttackResult:
    """RayS (Chen and Gu 2020): the direction in {-1, 1}^d along which the predicted class changes soonest.

    A flip is kept where the class still changes a little nearer than before; the radius is then bisected. Differs from
    the original in trying random signs beside all ones.

    Args:
        score: not used, as no score is seen. Others as of `sign_hunter`.
    """
    settings = {"epsilon": epsilon, "n_queries": n_queries, "seed": seed, "batch_size": batch_size, "start": start}
    return _attacked(_Decisions, model, images, labels, Margin(), **settings)


def _attacked(
    search: type, model, images, labels, score, *, epsilon, n_queries, seed, batch_size, start
) -> AttackResult:
    check_radius(epsilon, "linf")
    check_counts(n_queries=n_queries, batch_size=batch_size)
    with gradients_on(), evaluating(model), torch.no_grad():
        run, images, labels = prepare(model, images, labels)
        adversarial, queries = images.clone(), torch.zeros(len(images), dtype=torch.long)
        clean, standing = torch.zeros(2, len(images), dtype=torch.bool, device=images.device)
        for first in range(0, len(images), batch_size):
            rows = torch.arange(first, min(first + batch_size, len(images)), device=images.device)
            run.rows = rows
            clean[rows] = clean_predictions(run, images[rows], labels[rows])
            run.rows = None
            rows = rows[clean[rows]]
            if len(rows):
                signs = None if start is None else (start[rows] - images[rows]).flatten(1)
                hunt = search(run, images[rows], labels[rows], score, epsilon, n_queries, mixed_seed(seed, first))
                adversarial[rows], standing[rows] = hunt.run(signs)
                queries[rows.cpu()] = hunt.asked.cpu()
    outcome = outcomes(clean.cpu().numpy(), standing.cpu().numpy())
    return AttackResult(adversarial.to(run.dtype), outcome, run.n_forward, 0, queries.numpy())


class _Signs:
    """One batch: a sign for each pixel of each example; `take` says how candidates are judged."""

    def __init__(self, model, images: Tensor, labels: Tensor, score: Score, epsilon: float, limit: int, seed: int):
        self.model, self.images, self.labels, self.score = model, images, labels, score
        self.epsilon, self.limit, self.size = epsilon, limit, images[0].numel()
        n, device = len(images), images.device
        self.signs = torch.ones(n, self.size, device=device)
        self.asked = torch.zeros(n, dtype=torch.long, device=device)
        self.fooled = torch.zeros(n, dtype=torch.bool, device=device)
        self.generator = torch.Generator().manual_seed(seed)

    def run(self, first: Tensor | None) -> tuple[Tensor, Tensor]:
        """The points reached, and which of them still stand; `first`: (n, d) directions, of which the sign is tried."""
        everyone = torch.arange(len(self.images), device=self.images.device)
        self.take(everyone, self.signs.clone())
        if first is not None:
            self.take(everyone, torch.where(first < 0, -1.0, 1.0).to(self.signs))
        for _ in range(N_STARTS):
            rows = self._searching()
            drawn = torch.randint(0, 2, (len(rows), self.size), generator=self.generator) * 2.0 - 1
            self.take(rows, drawn.to(self.signs))
        level = 1
        while len(self._searching()):
            for block in range(2**level):
                rows = self._searching()
                first_pixel, last_pixel = (self.size * edge // 2**level for edge in (block, block + 1))
                candidate = self.signs[rows].clone()
                candidate[:, first_pixel:last_pixel] *= -1
                self.take(rows, candidate)
            level = level + 1 if 2**level < self.size else 1
        return self.points(everyone, self.signs, self.reached()), ~self.fooled

    def reached(self) -> Tensor:
        """(n,) radius of the points that are handed back."""
        return torch.full((len(self.images),), self.epsilon, device=self.images.device)

    def take(self, rows: Tensor, signs: Tensor) -> None:
        """Keep the signs of the examples at `rows` where they are better than what there is."""
        raise NotImplementedError

    def ask(self, rows: Tensor, signs: Tensor, radius: Tensor) -> Tensor:
        """Logits of the points at a radius along these signs."""
        self.asked[rows] += 1
        return self.model(self.points(rows, signs, radius))

    def points(self, rows: Tensor, signs: Tensor, radius: Tensor) -> Tensor:
        """Images moved along signs by a radius for each, within the pixel range."""
        moved = self.images[rows].flatten(1) + signs * radius[:, None]
        return moved.clamp(0, 1).reshape(self.images[rows].shape)

    def _searching(self) -> Tensor:
        return (~self.fooled & (self.asked < self.limit)).nonzero().squeeze(1)


class _Scores(_Signs):
    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.best = torch.full((len(self.images),), -torch.inf, device=self.images.device)

    def take(self, rows: Tensor, signs: Tensor) -> None:
        if not len(rows):
            return
        logits = self.ask(rows, signs, self.reached()[rows])
        value = self.score(logits, self.labels[rows]).to(self.best)
        fooled = logits.argmax(dim=1) != self.labels[rows]
        better = fooled | (value > self.best[rows])
        kept = rows[better]
        self.signs[kept], self.best[kept], self.fooled[kept] = signs[better], value[better], fooled[better]


class _Decisions(_Signs):
    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.radius = torch.full((len(self.images),), torch.inf, device=self.images.device)

    def reached(self) -> Tensor:
        return self.radius.clamp(max=self.epsilon)

    def take(self, rows: Tensor, signs: Tensor) -> None:
        if not len(rows):
            return
        tried = self.radius[rows].clamp(max=1.0) * (1 - 1e-3)
        better = self._changes(rows, signs, tried)
        rows, signs, high = rows[better], signs[better], tried[better]
        if not len(rows):
            return
        # A point in the ball ends the search: it is asked for before bisection spends queries.
        inside = self._changes(rows, signs, torch.full_like(high, self.epsilon))
        low = torch.where(inside, 0.0, self.epsilon)
        high = torch.where(inside, self.epsilon, high)
        while len(at := (~inside & (high - low > 0.02 * high)).nonzero().squeeze(1)):
            middle = (low[at] + high[at]) / 2
            changed = self._changes(rows[at], signs[at], middle)
            high[at], low[at] = torch.where(changed, middle, high[at]), torch.where(changed, low[at], middle)
        self.signs[rows], self.radius[rows], self.fooled[rows] = signs, high, inside

    def _changes(self, rows: Tensor, signs: Tensor, radius: Tensor) -> Tensor:
        return self.ask(rows, signs, radius).argmax(dim=1) != self.labels[rows]
