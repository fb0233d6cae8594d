"""What a defender can do to logits without changing a prediction, beside dividing them by one temperature.

Each maps logits (n, n_classes) to logits of the same shape and type and keeps every row's argmax. `Disguised` puts
one behind a model. Taught in: notebooks/04 and 06 (the calibrated illusion).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from scipy import optimize
from torch import Tensor, nn

from robustlib.calibration.checks import check_predictions, check_temperature
from robustlib.calibration.temperature import logits_in, scale_logits


@dataclass(frozen=True)
class TemperaturePerInput:
    """T(x) = gap(x) / kappa: every input is shown with the same gap, kappa > 0, between its two largest logits.

    With two classes the confidence is sigmoid(kappa) for all inputs, so kappa = log-odds of the accuracy is perfectly
    calibrated and the answer says nothing but the label. With more classes the ratios of logit differences are left.
    """

    kappa: float

    def __post_init__(self) -> None:
        check_temperature(self.kappa, "kappa")

    def __call__(self, logits: Tensor) -> Tensor:
        # The gradient flows through T(x), too: it is what hides the margin from an attack that differentiates.
        top = logits.double().topk(2, dim=-1).values
        gap = top[..., :1] - top[..., 1:]
        shown = logits.double() * (self.kappa / torch.where(gap > 0, gap, self.kappa))
        return shown.to(logits.dtype)


@dataclass(frozen=True)
class ConstantConfidence:
    """T(x) such that every input is shown with the same `confidence`, between 1 / n_classes and 1.

    At the level of the accuracy the top-label calibration error is 0 by definition, whatever the model is worth.
    """

    confidence: float

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must be finite and between 0 and 1, got {self.confidence}")

    def __call__(self, logits: Tensor) -> Tensor:
        below = logits.double() - logits.double().amax(dim=-1, keepdim=True)
        target = -math.log(self.confidence)
        if target >= math.log(logits.shape[-1]):
            raise ValueError(f"confidence {self.confidence:g} is no more than that of {logits.shape[-1]} equal classes")
        with torch.no_grad():  # log sum exp(beta * below) falls from log C to log(ties) as beta = 1 / T grows
            low = torch.full_like(below[..., :1], -46.0)
            high = -low
            for _ in range(70):
                middle = (low + high) / 2
                too_even = (middle.exp() * below).logsumexp(dim=-1, keepdim=True) > target
                low, high = torch.where(too_even, middle, low), torch.where(too_even, high, middle)
            beta = high.exp()
            slope = ((beta * below).softmax(dim=-1) * below).sum(dim=-1, keepdim=True)
        # One Newton step that changes no value and gives beta the gradient of the implicit function.
        residual = (beta * below).logsumexp(dim=-1, keepdim=True) - target
        beta = torch.where(slope < 0, beta - (residual - residual.detach()) / slope.clamp(max=-1e-300), beta)
        return (beta * below).to(logits.dtype)


@dataclass
class TemperaturePerQuery:
    """Logits divided by a temperature drawn anew for each row of each query, log T ~ Normal(0, spread).

    As Random Logit Scaling (arXiv 2607.14921), with a log-normal law; a spread of 0.23 is about 26 %, 2.3 a decade. Not
    deterministic; reproducible from `seed`.
    """

    spread: float
    seed: int = 0
    _generator: torch.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.spread >= 0 or math.isinf(self.spread):
            raise ValueError(f"spread must be finite and at least 0, got {self.spread}")
        self._generator = torch.Generator().manual_seed(self.seed)

    def __call__(self, logits: Tensor) -> Tensor:
        drawn = torch.randn(logits.shape[:-1], generator=self._generator, dtype=torch.float64)
        temperature = (self.spread * drawn).exp().unsqueeze(-1).to(logits.device)
        return (logits.double() / temperature).to(logits.dtype)


@dataclass(frozen=True)
class Floor:
    """Log-probabilities below a floor are shown as the floor: no gap to the top logit beyond `depth` > 0 is visible."""

    depth: float

    def __post_init__(self) -> None:
        check_temperature(self.depth, "depth")

    def __call__(self, logits: Tensor) -> Tensor:
        below = logits - logits.amax(dim=-1, keepdim=True)
        return below.clamp(min=-self.depth)


@dataclass(frozen=True)
class Rounded:
    """What is left of logits at a design temperature where a service answers in a narrower type, or in probabilities.

    Args:
        dtype: of the answer, for example torch.float16; what is beyond its range is shown as its largest number.
        probabilities: answer with softmax probabilities, of which the adversary takes logarithms; one of 0 becomes the
            type's smallest positive number.
    """

    temperature: float
    dtype: torch.dtype = torch.float32
    probabilities: bool = False

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def __call__(self, logits: Tensor) -> Tensor:
        served = scale_logits(logits, self.temperature)
        if self.probabilities:
            answer = served.softmax(dim=-1).to(self.dtype)
            return answer.clamp(min=torch.finfo(self.dtype).tiny).to(logits.dtype).log()
        largest = torch.finfo(self.dtype).max
        return served.clamp(-largest, largest).to(self.dtype).to(logits.dtype)


class Disguised(nn.Module):
    """A model, of images or a callable on texts, that shows `disguise(logits)` (n, n_classes).

    Predictions are those of the model inside, but for ties made by rounding.
    """

    def __init__(self, model: Any, disguise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.disguise = disguise

    def forward(self, *inputs: Any) -> Tensor:
        return self.disguise(logits_in(self.model(*inputs)))

    def extra_repr(self) -> str:
        return repr(self.disguise)


def calibrated_gap(logits: Tensor, labels: Tensor) -> float:
    """The kappa at which `TemperaturePerInput` shows a mean confidence equal to the accuracy on validation data.

    Args:
        logits: (n, n_classes). labels: (n,).

    Raises:
        ValueError: every prediction is right, or accuracy is at or below what equal confidence in all classes gives.
    """
    logits, labels = check_predictions(logits, labels)
    accuracy = float((logits.argmax(dim=1) == labels).double().mean())
    if accuracy == 1 or accuracy <= 1 / logits.shape[1]:
        raise ValueError(f"accuracy is {accuracy:.3g}: no finite gap above 0 makes the confidence equal to it")
    values = logits.detach().double()

    def excess(log_kappa: float) -> float:
        shown = TemperaturePerInput(math.exp(log_kappa))(values)
        return float(shown.softmax(dim=1).amax(dim=1).mean()) - accuracy

    return math.exp(optimize.brentq(excess, math.log(1e-6), math.log(60.0), xtol=1e-12))
