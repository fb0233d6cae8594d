"""Published defences that are maps of logits: hard maxima, a random scale (RLS), slopes that run backwards (AAA, DLD).

As the maps of `disguises`, each takes logits (n, n_classes) to logits of the same shape and type; but for ties that
rounding makes, the largest stays the largest. Taught in: notebooks/10.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from robustlib.calibration.checks import check_counts, check_temperature


@dataclass(frozen=True)
class HardMax:
    """`height` for the largest logit and 0 for the others: the label and nothing else, with no gradient."""

    height: float = 10.0

    def __post_init__(self) -> None:
        check_temperature(self.height, "height")

    def __call__(self, logits: Tensor) -> Tensor:
        winners = functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)
        return self.height * winners + 0 * logits  # a gradient, which is 0


@dataclass(frozen=True)
class Answer:
    """What a prediction service shows of its probabilities, as the logarithms that an adversary takes of it.

    A probability of 0 becomes the smallest normal number of the type; rounding makes ties.

    Attributes:
        shows: "all" probabilities, or the "top" class with its own (the rest is shared evenly among the others).
        decimals: to which probabilities are rounded; None: not.
        dtype: in which softmax is computed and answered.
    """

    shows: str = "all"
    decimals: int | None = None
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if self.shows not in ("all", "top"):
            raise ValueError(f"shows must be all or top, got {self.shows!r}")
        if self.decimals is not None:
            check_counts(decimals=self.decimals)

    def __call__(self, logits: Tensor) -> Tensor:
        largest = min(torch.finfo(dtype).max for dtype in (self.dtype, logits.dtype))
        probs = logits.clamp(-largest, largest).to(self.dtype).softmax(dim=-1).double()
        if self.decimals is not None:
            probs = (probs * 10**self.decimals).round() / 10**self.decimals
        if self.shows == "top":
            top, places = probs.max(dim=-1, keepdim=True)
            probs = ((1 - top) / (logits.shape[-1] - 1)).expand_as(probs).scatter(-1, places, top)
        return probs.clamp(min=torch.finfo(self.dtype).tiny).log().to(logits.dtype)


@dataclass
class RandomScale:
    """Random Logit Scaling (arXiv 2607.14921): a factor uniform in [low, high], drawn anew for each row of each query.

    Defaults: the paper's. Not deterministic; reproducible from `seed`.
    """

    low: float = 0.5
    high: float = 10.0
    seed: int = 0
    _generator: torch.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < math.inf:
            raise ValueError(f"a scale needs 0 < low <= high, got {self.low} and {self.high}")
        self._generator = torch.Generator().manual_seed(self.seed)

    def __call__(self, logits: Tensor) -> Tensor:
        drawn = torch.rand(logits.shape[:-1], generator=self._generator, dtype=torch.float64)
        scale = self.low + (self.high - self.low) * drawn
        return (logits.double() * scale.unsqueeze(-1).to(logits.device)).to(logits.dtype)


@dataclass(frozen=True)
class Slope:
    """The gap of the two largest logits, shown so that whoever follows it is led astray within each `period` > 0.

    Attributes:
        shape: "linear", falling where the gap rises, as AAA-linear (Chen et al. 2022, arXiv 2205.12134); "sine", rising
            and falling smoothly, as AAA-sine; "stairs", constant within a period, as the staircase of DLD (arXiv
            2602.08679). Their principle on logits, not their fit to the confidence; non-monotone or flat, so that no
            temperature undoes it.
    """

    period: float
    shape: str = "linear"

    def __post_init__(self) -> None:
        check_temperature(self.period, "period")
        if self.shape not in ("linear", "sine", "stairs"):
            raise ValueError(f"shape must be linear, sine or stairs, got {self.shape!r}")

    def __call__(self, logits: Tensor) -> Tensor:
        top, places = logits.topk(2, dim=-1)
        gap = (top[..., :1] - top[..., 1:]) / self.period
        stair = gap.floor().detach()
        shown = {
            "linear": lambda: 2 * stair + 1.05 - gap,
            "sine": lambda: gap + torch.sin(2 * math.pi * gap) / 2,
            "stairs": lambda: stair + 0.5,
        }[self.shape]()
        return logits.scatter(-1, places[..., :1], top[..., 1:] + self.period * shown)
