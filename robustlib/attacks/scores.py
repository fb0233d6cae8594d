"""What an attack searches with: scores of logits, higher meaning nearer to being fooled.

A score that passes through softmax at a temperature loses its signal in floating point when the temperature is badly
chosen; one temperature for all inputs does nothing to a score made of logit differences, as long as the logits arrive
in floating point. A temperature of each input's own hides a difference as well; a ratio of differences survives it, a
floor under the logits hides that, too. Taught in: notebooks/02 to 04.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from robustlib.calibration.checks import check_temperature


class Score(Protocol):
    """Callable on logits (n, n_classes) and labels (n,), returning (n,); higher is nearer to fooled."""

    scale_free: ClassVar[bool]
    minimum_classes: ClassVar[int]

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor: ...


def true_logit(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the true class, (n,)."""
    return logits.gather(1, labels.unsqueeze(1)).squeeze(1)


def best_other_logit(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest logit among the wrong classes, (n,)."""
    return logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(dim=1)


@dataclass(frozen=True)
class _Tempered:
    """A score that passes through softmax; the temperature divides the logits (equation 7)."""

    temperature: float = 1.0
    scale_free: ClassVar[bool] = False
    minimum_classes: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_temperature(self.temperature)


class CrossEntropy(_Tempered):
    """Cross-entropy at a temperature, in nats: the loss of FGSM and PGD, and what the illusion fools."""

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(logits / self.temperature, labels, reduction="none")


class TrueClassProbability(_Tempered):
    """1 - p(true class) at a temperature: what text attacks compare candidates with (the paper, section 3).

    Computed in the dtype of the logits, as a served model would: in float32 it is exactly 0 from a logit gap
    of about 16.6 temperatures on, and every comparison is then a tie.
    """

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return 1 - true_logit(torch.softmax(logits / self.temperature, dim=1), labels)


@dataclass(frozen=True)
class Margin:
    """Largest wrong logit minus the true one; with two classes minus the log-odds of the true class.

    A constant temperature divides it and so changes no comparison and no direction. T(x) changes both.
    """

    scale_free: ClassVar[bool] = True
    minimum_classes: ClassVar[int] = 2

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return best_other_logit(logits, labels) - true_logit(logits, labels)


@dataclass(frozen=True)
class DLR:
    """Difference of logits ratio (Croce and Hein 2020, equation 6), negated margin over a logit range.

    Free of any scale, also of one that differs by input, up to the 1e-12 that the original adds to the denominator; we
    add nothing and return the margin's sign where the range is 0, so that tiny logits are not mistaken for a flat loss.

    Raises:
        ValueError: on fewer than three classes, where the ratio is not defined.
    """

    scale_free: ClassVar[bool] = True
    minimum_classes: ClassVar[int] = 3

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        if logits.shape[1] < 3:
            raise ValueError(f"DLR needs at least 3 classes, got {logits.shape[1]}: use Margin()")
        ordered = logits.sort(dim=1, descending=True).values
        spread = ordered[:, 0] - ordered[:, 2]
        margin = best_other_logit(logits, labels) - true_logit(logits, labels)
        return margin / torch.where(spread > 0, spread, torch.ones_like(spread))


@dataclass(frozen=True)
class MIFPE:
    """Cross-entropy of logits that each input divides by its own gap / 10 (Yu and Xu, CVPR 2023; their code's t = 10).

    A calibration of each input by itself: the gap of the two largest logits is always 10, within reach of float32. The
    divisor is a constant to the gradient, as in the original. Unchanged where the two largest logits tie.
    """

    gap: float = 10.0
    scale_free: ClassVar[bool] = True
    minimum_classes: ClassVar[int] = 2

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        top = logits.detach().topk(2, dim=1).values
        divisor = (top[:, :1] - top[:, 1:]) / self.gap
        divided = logits / torch.where(divisor > 0, divisor, torch.ones_like(divisor))
        return torch.nn.functional.cross_entropy(divided, labels, reduction="none")
