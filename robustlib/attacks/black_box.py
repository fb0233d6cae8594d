"""What answers alone say about a temperature: estimators of the scale of served logits, with counts of their queries.

A temperature can be told only up to the model's own scale, so what is estimated is the typical gap of the two largest
served logits; divided into a gap that a calibrated model would have it is the temperature an adversary divides by.
Taught in: notebooks/12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from robustlib.attacks.words.words import joined
from robustlib.models.forward import logits_of

FLOOR = math.log(torch.finfo(torch.float32).tiny) + 1  # a log-probability below it: the answer was 0


@dataclass(frozen=True)
class ScaleEstimate:
    """What an estimator found.

    Attributes:
        gap: median gap of the two largest logits as served; NaN where most answers were saturated or tied.
        readable: share of inputs, or pairs, that told a gap.
        n_queries: inputs that were answered, all together.
        n: gaps that the median is of, those that could not be read among them.
        interval: 95 % interval of `gap` from order statistics; its upper end may be infinite.
    """

    gap: float
    readable: float
    n_queries: int
    n: int = 0
    interval: tuple[float, float] = (math.nan, math.nan)

    @classmethod
    def of(cls, gaps: Tensor, readable: float, n_queries: int) -> ScaleEstimate:
        """From gaps (n,), infinite where an answer was saturated."""
        gap = gaps.quantile(0.5, interpolation="lower").item()
        told = gap if 0 < gap < math.inf else math.nan
        interval = stats.quantile_test(gaps.numpy(), p=0.5).confidence_interval(0.95)
        return cls(told, readable, n_queries, len(gaps), (float(interval.low), float(interval.high)))

    def temperature(self, own_gap: float) -> float:
        """T_d, where the undivided logits have a typical gap of `own_gap`; NaN where nothing was read."""
        return own_gap / self.gap


class Counted:
    """A service that counts: inputs to log-probabilities (n, n_classes), as `calibration.defences.Answer` shows them.

    Attributes:
        n_queries, n_batches: inputs answered, and calls, so far. limit: of the inputs; None: there is none.
        floor: a log-probability below it stands for an answer of 0; the default is float32's.
    """

    def __init__(self, model: Callable, *, limit: int | None = None, floor: float = FLOOR) -> None:
        self.model, self.limit, self.floor = model, limit, floor
        self.n_queries = self.n_batches = 0

    def __call__(self, inputs: Any) -> Tensor:
        if self.limit is not None and self.n_queries + len(inputs) > self.limit:
            raise PermissionError(f"the service answers {self.limit} queries, {self.n_queries} are spent")
        self.n_queries += len(inputs)
        self.n_batches += 1
        return logits_of(self.model, inputs).double()


def read_gaps(service: Counted, inputs: Any) -> ScaleEstimate:
    """The typical gap from one query of each input: the logarithm of the ratio of the two largest probabilities.

    Needs half of the answers or more to be neither saturated (the second probability is 0) nor tied.
    """
    before = service.n_queries
    top = service(inputs).topk(2, dim=1).values
    gaps = top[:, 0] - top[:, 1]
    saturated, tied = top[:, 1] < service.floor, gaps == 0
    readable = float((~saturated & ~tied).double().mean())
    return ScaleEstimate.of(torch.where(saturated, torch.inf, gaps), readable, service.n_queries - before)


def walk(
    service: Counted, starts: Any, ends: Any, mix: Callable[[Any, Any, Tensor], Any], halvings: int = 24
) -> ScaleEstimate:
    """The typical gap from the width of the transition between two inputs of different classes.

    On the way from a start to its end the class changes; bisection by labels finds where. Around that point, from wide
    to narrow, the log-odds of the two classes are read; their slope times the way from the start is the gap there, as
    if the logits were straight. So a gap can be told where every answer at an input is saturated.

    Args:
        starts, ends: n inputs each. Pairs of one predicted class are left out.
        mix: (starts, ends, shares (n,)) to inputs, the start at share 0 and the end at 1: `blend`, `splice`.
        halvings: of the way; those of texts are few, since words cannot be halved.
    """
    before, n = service.n_queries, len(starts)
    first, last = service(starts).argmax(dim=1), service(ends).argmax(dim=1)
    pairs = (first != last).nonzero().squeeze(1)
    if not len(pairs):
        return ScaleEstimate(math.nan, 0.0, service.n_queries - before)
    starts, ends, first = _rows(starts, pairs), _rows(ends, pairs), first[pairs]
    low, high = torch.zeros(len(pairs), dtype=torch.float64), torch.ones(len(pairs), dtype=torch.float64)
    other = last[pairs]
    for _ in range(halvings):
        middle = (low + high) / 2
        found = service(mix(starts, ends, middle)).argmax(dim=1)
        changed = found != first
        low, high = torch.where(changed, low, middle), torch.where(changed, middle, high)
        other = torch.where(changed, found, other)
    gaps = _gaps_by_slope(service, starts, ends, mix, first, other, (low + high) / 2, halvings)
    readable = float(gaps.isfinite().double().sum()) / n
    return ScaleEstimate.of(gaps.nan_to_num(nan=math.inf), readable, service.n_queries - before)


def _gaps_by_slope(service, starts, ends, mix, first, other, at: Tensor, halvings: int) -> Tensor:
    """Slope of the log-odds of two classes at `at` times the way to it, (n,); NaN where no width tells it."""
    gaps, open_ = torch.full_like(at, math.nan), torch.arange(len(at))
    for power in range(1, halvings):
        width = torch.minimum(torch.minimum(at[open_], 1 - at[open_]), torch.full_like(at[open_], 0.5**power))
        sides = []
        for side in (at[open_] - width, at[open_] + width):
            log_probs = service(mix(_rows(starts, open_), _rows(ends, open_), side))
            mine, theirs = (log_probs.gather(1, which[open_, None]).squeeze(1) for which in (first, other))
            sides.append(torch.where(torch.minimum(mine, theirs) > service.floor, mine - theirs, math.nan))
        slope = (sides[0] - sides[1]) / (2 * width)
        told = slope > 0
        gaps[open_[told]] = (slope * at[open_])[told]
        open_ = open_[~told]
        if not len(open_):
            break
    return gaps


def blend(starts: Tensor, ends: Tensor, shares: Tensor) -> Tensor:
    """Images on the straight line between two."""
    shares = shares.to(starts).reshape(-1, *[1] * (starts.ndim - 1))
    return (1 - shares) * starts + shares * ends


def splice(starts: Sequence[Any], ends: Sequence[Any], shares: Tensor) -> list[str]:
    """Texts whose first words are the end's and whose last words the start's: what replaces a line between texts."""
    mixed = []
    for start, end, share in zip(starts, ends, shares.tolist(), strict=True):
        own, others = joined(start).split(), joined(end).split()
        mixed.append(" ".join([*others[: round(share * len(others))], *own[round(share * len(own)) :]]))
    return mixed


def _rows(inputs: Any, rows: Tensor) -> Any:
    return inputs[rows.to(inputs.device)] if isinstance(inputs, Tensor) else [inputs[row] for row in rows.tolist()]
