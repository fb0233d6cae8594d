"""What an attack searches with: scores of logits, higher meaning nearer to being fooled.

A score that passes through softmax at a temperature loses its signal in floating point when the temperature is badly
chosen; one temperature for all inputs does nothing to a score made of logit differences, as long as the logits arrive
in floating point. A temperature of each input's own hides a difference as well; a ratio of differences survives it, a
floor under the logits hides that, too. Taught in: notebooks/02 to 04.
"""

from __future__ import annotations

import math
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
class TargetedMargin:
    """Logit of one wrong class, chosen for each example beforehand, minus the true one: for `pgd`.

    Where several wrong classes are nearly alike (label smoothing makes them so) the largest one changes from step to
    step and the untargeted margin leads nowhere.

    Args:
        targets: (n,) class of each example of the whole input.
    """

    targets: Tensor
    scale_free: ClassVar[bool] = True
    minimum_classes: ClassVar[int] = 2

    def of(self, rows: Tensor) -> TargetedMargin:
        """The score of the examples at these positions."""
        return TargetedMargin(self.targets[rows])

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return true_logit(logits, self.targets) - true_logit(logits, labels)


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

    `gap=None` is T-MIFPE (Yu et al., arXiv 2507.22428): the gap at which the gradient suffers least from rounding.
    """

    gap: float | None = 10.0
    scale_free: ClassVar[bool] = True
    minimum_classes: ClassVar[int] = 2

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        top = logits.detach().topk(2, dim=1).values
        width = top[:, :1] - top[:, 1:]
        divisor = torch.where(width > 0, width, torch.ones_like(width))
        gap = clearest_gap(logits.detach() / divisor, labels).unsqueeze(1) if self.gap is None else self.gap
        divided = torch.where(width > 0, logits / divisor * gap, logits)
        return torch.nn.functional.cross_entropy(divided, labels, reduction="none")


def clearest_gap(logits: Tensor, labels: Tensor) -> Tensor:
    """t* = argmax of g(t) = t (1 - p_true(t z)), the length of the gradient of cross-entropy of t z, by input.

    Rounding leaves an error of the same size in 1 - p at every t, so where g is largest it weighs least. Derived here
    from what 2507.22428 states in public: c = T / gap, g = c (1 - p), a t* near 1 while the attack has not succeeded.
    With z of gap 1, t* is 1.28 for two classes and grows slowly with rivals that are as near; 1 for an input that is
    fooled, whose gradient does not vanish.

    Args:
        logits: (n, n_classes), divided so that the two largest are 1 apart. labels: (n,).

    Returns:
        (n,), in the dtype of the logits.
    """
    behind = true_logit(logits, labels).unsqueeze(1) - logits  # how far each class is behind the true one
    others = torch.ones_like(behind, dtype=torch.bool).scatter(1, labels.unsqueeze(1), False)
    low = torch.full_like(behind[:, :1], 1e-2)
    high = torch.full_like(low, 2.0 + math.log(logits.shape[1]))
    for _ in range(20):  # g' > 0 while t p E[behind] < 1, with the mean over the wrong classes' softmax
        middle = (low + high) / 2
        weights = (-middle * behind).masked_fill(~others, -torch.inf)
        rivals = (weights.softmax(dim=1) * behind).sum(dim=1, keepdim=True)
        rising = middle * rivals < 1 + weights.logsumexp(dim=1, keepdim=True).exp()
        low, high = torch.where(rising, middle, low), torch.where(rising, high, middle)
    fooled = logits.argmax(dim=1) != labels
    return torch.where(fooled, torch.ones_like(fooled, dtype=logits.dtype), middle.squeeze(1))
