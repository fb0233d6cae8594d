"""What the audit's bench puts between a network and whoever attacks it; each mask can be taken off again.

Masks of answers map logits (n, n_classes) to what is served. Masks of inputs and networks are modules; those with
`through` compute the same and pretend a usable gradient (straight-through), which is how the truth is measured.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Served:
    """One model of the bench, with what the truth is measured on.

    Attributes:
        model: what is handed to the audit: module, callable, estimator, (model, tokenizer).
        answers: inputs to the scores as served, (n, n_classes) logits or log-probabilities, with the gradient that the
            model as served has (or none).
        twin: inputs to logits without the mask, differentiable for images.
        gives: what `model` returns, as the audit is told: "logits", "probabilities", "labels", ...; None: not told.
        black_box: no gradient reaches the inputs, so that the standard attack is one by queries.
        n_draws: passes over which a random model is averaged; 1: it is deterministic.
        rugged: gradients of the twin are not to be trusted alone: random search is tried too.
        flat: it takes pixels as a row (n, d).
    """

    model: Any
    answers: Callable
    twin: Callable
    gives: str | None = None
    black_box: bool = False
    n_draws: int = 1
    rugged: bool = False
    flat: bool = False


@dataclass(frozen=True)
class Entry:
    """A row of the bench.

    Attributes:
        data: "fashion", "shirts" (two classes) or "reviews".
        built_as: "honest", "miscalibrated", "masked" or "unsound"; what it turns out to be is measured.
        accepts: the right verdicts where no accuracy can tell (an unsound model); empty: the measured one is right.
        reachable: whether the truth can be had with the access given; where not, "inconclusive" is right, too.
        fresh: held back while the audit's rules and thresholds were tuned.
    """

    name: str
    data: str
    built_as: str
    build: Callable[[], Served]
    accepts: tuple[str, ...] = ()
    reachable: bool = True
    fresh: bool = False


class Shown(nn.Module):
    """A model behind a map of its answers."""

    def __init__(self, model: Callable, show: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.show = model, show
        self.eval()

    def forward(self, inputs: Any) -> Tensor:
        return self.show(self.model(inputs))


def shown(inside: Callable, show: Callable[[Tensor], Tensor], **settings: Any) -> Served:
    """A model behind a map of its answers, whose twin is the model itself."""
    masked = Shown(inside, show)
    return Served(**{"model": masked, "answers": masked, "twin": inside, "gives": "logits"} | settings)


def sealed(inside: Callable, show: Callable[[Tensor], Tensor], **settings: Any) -> Served:
    """As `shown`, as a function: no sub-module to look into."""

    def answer(inputs: Any) -> Tensor:
        return show(inside(inputs))

    return shown(inside, show, model=answer, answers=answer, **settings)


# Masks of answers. All keep the largest entry where it was, but for the ties that rounding makes.


def hard_max(logits: Tensor) -> Tensor:
    """10 for the largest logit, 0 for the others: the label and nothing else."""
    return 10 * functional.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)


def divided(temperature: float) -> Callable[[Tensor], Tensor]:
    return lambda logits: logits / temperature


def to_grid(step: float) -> Callable[[Tensor], Tensor]:
    """Rounded to multiples of a step."""
    return lambda values: (values / step).round() * step


def probabilities(temperature: float = 1.0, decimals: int | None = None) -> Callable[[Tensor], Tensor]:
    """Softmax, rounded where decimals are given."""

    def show(logits: Tensor) -> Tensor:
        probs = (logits / temperature).softmax(dim=1)
        return probs if decimals is None else (probs * 10**decimals).round() / 10**decimals

    return show


def log_of(show: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Logarithms of probabilities that may be 0, as an attacker takes them."""
    return lambda logits: show(logits).clamp(min=1e-38).log()


def random_scale(spread: float) -> Callable[[Tensor], Tensor]:
    """Every row times exp(spread * normal), drawn anew at each call."""
    return lambda logits: logits * (spread * torch.randn(len(logits), 1)).exp()


def saw(period: float) -> Callable[[Tensor], Tensor]:
    """The gap of the two largest logits, running backwards within each period (as AAA, Chen et al. 2022)."""

    def show(logits: Tensor) -> Tensor:
        top, places = logits.topk(2, dim=1)
        gap = top[:, :1] - top[:, 1:]
        served = (2 * (gap / period).floor().detach() + 1.05) * period - gap
        return logits.scatter(1, places[:, :1], top[:, 1:] + served)

    return show


def by_gap(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The gap of the two largest logits, changed to another positive number."""

    def show(logits: Tensor) -> Tensor:
        top, places = logits.topk(2, dim=1)
        return logits.scatter(1, places[:, :1], top[:, 1:] + change(top[:, :1] - top[:, 1:]))

    return show


def sine(frequency: float) -> Callable[[Tensor], Tensor]:
    """A gap that swings between 0.1 and 2.1."""
    return by_gap(lambda gap: 1.1 + (frequency * gap).sin())


upside_down = by_gap(lambda gap: 1 / (gap + 0.2))  # surest where the model is least sure


def capped(limit: float) -> Callable[[Tensor], Tensor]:
    return lambda logits: limit * (logits / limit).tanh()


def ranks(logits: Tensor) -> Tensor:
    """The rank of each logit, 0 for the smallest."""
    return logits.argsort(dim=1).argsort(dim=1).to(logits.dtype)


def nan_where(share: float) -> Callable[[Tensor], Tensor]:
    """NaN for the rows whose logits have an odd fingerprint: about `share` of the inputs, always the same."""

    def show(logits: Tensor) -> Tensor:
        unlucky = (logits.sum(dim=1).mul(1e3).frac().abs() < share)[:, None]
        return torch.where(unlucky, torch.nan, logits)

    return show


# Masks of inputs and networks, for images.


class Quantised(nn.Module):
    """Inputs rounded to `levels` values."""

    def __init__(self, model: nn.Module, levels: int, through: bool = False) -> None:
        super().__init__()
        self.model, self.levels, self.through = model, levels, through

    def forward(self, images: Tensor) -> Tensor:
        steps = images * (self.levels - 1)
        rounded = steps + (steps.round() - steps).detach() if self.through else steps.round()
        return self.model(rounded / (self.levels - 1))


class Thermometer(nn.Module):
    """Each pixel as `levels` channels, 1 where it is above a threshold (Buckman et al. 2018)."""

    def __init__(self, model: nn.Module, levels: int, through: bool = False) -> None:
        super().__init__()
        self.model, self.levels, self.through = model, levels, through

    def forward(self, images: Tensor) -> Tensor:
        thresholds = torch.arange(self.levels).reshape(1, -1, 1, 1) / self.levels
        code = (images > thresholds).float()
        if self.through:
            soft = ((images - thresholds) * self.levels).clamp(0, 1)
            code = soft + (code - soft).detach()
        return self.model(code)


class Noisy(nn.Module):
    """Gaussian noise on the inputs, drawn anew at each call, whatever the mode."""

    def __init__(self, model: nn.Module, deviation: float) -> None:
        super().__init__()
        self.model, self.deviation = model, deviation

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images + self.deviation * torch.randn_like(images))


class Resized(nn.Module):
    """Images shrunk at random and put at a random place (Xie et al. 2018), one draw for each call."""

    def __init__(self, model: nn.Module, smallest: int = 20) -> None:
        super().__init__()
        self.model, self.smallest = model, smallest

    def forward(self, images: Tensor) -> Tensor:
        side = images.shape[-1]
        size = int(torch.randint(self.smallest, side + 1, ()))
        left, top = (int(torch.randint(0, side - size + 1, ())) for _ in range(2))
        small = functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
        return self.model(functional.pad(small, (left, side - size - left, top, side - size - top)))


class KeepLargest(nn.Module):
    """k-winners-take-all in place of ReLU (Xiao et al. 2020); `through`: the gradient of ReLU."""

    def __init__(self, share: float, through: bool = False) -> None:
        super().__init__()
        self.share, self.through = share, through

    def forward(self, values: Tensor) -> Tensor:
        flat = values.flatten(1)
        smallest = flat.topk(max(1, int(self.share * flat.shape[1])), dim=1).values[:, -1:]
        kept = (flat * (flat >= smallest)).reshape(values.shape)
        if not self.through:
            return kept
        soft = functional.leaky_relu(values, 0.1)
        return soft + (kept - soft).detach()


class Saturated(nn.Module):
    """tanh of large numbers; `through`: with the gradient of a gentler one."""

    def __init__(self, gain: float, through: bool = False) -> None:
        super().__init__()
        self.gain, self.through = gain, through

    def forward(self, values: Tensor) -> Tensor:
        hard = (self.gain * values).tanh()
        if not self.through:
            return hard
        soft = values / (1 + values.abs())
        return soft + (hard - soft).detach()


class Root(nn.Module):
    """The square root of the pixels, whose gradient at black is infinite; `through`: from a hair above black."""

    def __init__(self, model: nn.Module, through: bool = False) -> None:
        super().__init__()
        self.model, self.through = model, through

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images.clamp(min=1e-3) if self.through else images).sqrt())


class MostConfident(nn.Module):
    """Of several models the answer of the one that is surest, each at its own temperature."""

    def __init__(self, models: list[nn.Module], temperature: float) -> None:
        super().__init__()
        self.models, self.temperature = nn.ModuleList(models), temperature

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.stack([model(images) for model in self.models]) / self.temperature
        surest = logits.softmax(dim=2).amax(dim=2).argmax(dim=0)
        return logits[surest, torch.arange(len(images))]


class InPlace(nn.Module):
    """A model that normalises its input in place: the caller's images change with every call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.sub_(0.1).div_(0.9))


def see_through(model: nn.Module) -> nn.Module:
    """A copy of a network whose masks of inputs and activations let a gradient through."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if hasattr(module, "through"):
            module.through = True
    return twin
