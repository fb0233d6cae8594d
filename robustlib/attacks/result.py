"""What every attack returns, for images and for text."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

SUCCEEDED, FAILED, SKIPPED = "succeeded", "failed", "skipped"


@dataclass(frozen=True)
class AttackResult:
    """Outcome of an attack on n examples, judged by the model that was searched."""

    adversarial: Tensor | list  # the inputs after the attack, in their type and order; a skipped example is unchanged
    # (n,) array of "succeeded" (prediction now wrong), "failed" (still right) and "skipped" (already wrong before the
    # attack, so not attacked)
    outcome: np.ndarray
    # passes of the model, counted per example
    n_forward: int
    n_backward: int = 0
    queries: np.ndarray | None = None  # (n,) model queries spent on each example, where the attack counts them
    # what a single attack adds (the path of PGD, the words a text attack changed)
    details: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def adversarial_accuracy(self) -> float:
        """Failed / all: a skipped example was wrong already and counts as an error. NaN of none."""
        return float((self.outcome == FAILED).mean()) if len(self) else float("nan")


def outcomes(clean_correct: ArrayLike, adversarial_correct: ArrayLike) -> np.ndarray:
    """Outcome of each example from whether the model was right before and after, both (n,) bool."""
    before, after = np.asarray(clean_correct, dtype=bool), np.asarray(adversarial_correct, dtype=bool)
    return np.where(~before, SKIPPED, np.where(after, FAILED, SUCCEEDED))
