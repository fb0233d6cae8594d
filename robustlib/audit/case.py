"""What a rung of the ladder works with: the examples under attack, the threat, and what is known so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib.attacks.crossed import crossed_mean
from robustlib.attacks.statistics import paired_difference, proportion_interval
from robustlib.audit.findings import Accuracy, Difference, Finding, Rung
from robustlib.audit.handed import Handed
from robustlib.audit.served import Served

# Findings under which what is shown need not be what decides, so that more is tried.
TROUBLE = (
    "answers.labels",
    "answers.coarse",
    "answers.ties",
    "answers.finite",
    "gradient.missing",
    "gradient.nan",
    "gradient.zero",
    "gradient.differences",
    "boundary.jump",
    "scores.direction",
    "attack.radius",
)


@dataclass
class Case:
    """One audit under way.

    Attributes:
        inputs, labels: all n examples; images on the module's device, labels (n,) there, too.
        clean: (n,) 1.0 where right without an attack, else 0.0; the share of draws for a random subject.
        parts: (name, callable) that predict as the subject does, to be searched instead of it.
        more: further inputs without an attack, for a surrogate. handed: what was given beside the model.
        temperature: T* of the served logits.
        curves: as of `Audit`.
        points: by rung, the adversarial inputs of the attacked examples, where later rungs go on from.
        worst: the inputs (and judged shares) by which each attacked example stands least, over all rungs of the bound.
    """

    served: Served
    inputs: Any
    labels: Tensor
    clean: np.ndarray
    threat: dict[str, Any]
    temperature: float = 1.0
    seed: int = 0
    thorough: bool = False
    parts: list[tuple[str, Callable]] = field(default_factory=list)
    more: Any = None
    handed: Handed = field(default_factory=Handed)
    findings: list[Finding] = field(default_factory=list)
    rungs: list[Rung] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)
    points: dict[str, Any] = field(default_factory=dict)
    worst: tuple[Any, np.ndarray] | None = None

    @property
    def rows(self) -> np.ndarray:
        """Positions of the examples that are attacked: those that are right without an attack at least once."""
        return np.flatnonzero(self.clean > 0)

    @property
    def attacked(self) -> Any:
        """Their inputs."""
        return taken(self.inputs, self.rows)

    @property
    def attacked_labels(self) -> Tensor:
        """Their labels, (m,)."""
        return self.labels[torch.as_tensor(self.rows, device=self.labels.device)]

    @property
    def random(self) -> bool:
        """Whether the same inputs get different answers."""
        return self.served.draws > 1

    @property
    def white(self) -> bool:
        """Whether a gradient reaches the inputs."""
        return self.served.subject.module is not None and not self.flagged("gradient.missing")

    @property
    def trouble(self) -> bool:
        """Whether something was found that can hide more than a scale."""
        return any(map(self.flagged, TROUBLE))

    def flagged(self, name: str) -> bool:
        """Whether the finding of that name is there and not fine."""
        return any(finding.name == name and finding.severity != "fine" for finding in self.findings)

    def judged(self, inputs: Any, rows: np.ndarray | None = None) -> np.ndarray:
        """(m,) share of draws in which attacked examples (or those at `rows` among them) are still right."""
        labels = self.attacked_labels.cpu()
        return self.served.right(inputs, labels if rows is None else labels[torch.as_tensor(rows)])

    def standing(self, share: np.ndarray) -> np.ndarray:
        """(n,) the same for all examples: those that are wrong without an attack do not stand."""
        everyone = np.zeros(len(self.clean))
        everyone[self.rows] = np.minimum(share, self.clean[self.rows]) if not self.random else share
        return everyone

    def remember(self, inputs: Any, share: np.ndarray) -> None:
        """Keep the inputs of a rung for the attacked examples of which fewer draws stand than so far."""
        if self.worst is None:
            inputs = inputs.clone() if isinstance(inputs, Tensor) else list(inputs)
            self.worst = inputs, share.copy()
            return
        kept, least = self.worst
        for row in np.flatnonzero(share < least):
            kept[row], least[row] = inputs[row], share[row]

    def unmasked(self, points: float = 20.0) -> bool:
        """Whether what lies behind the answers stands that many points below the usual attack on them."""
        unmask = (r.difference.points for r in self.rungs if r.difference is not None and r.family == "unmask")
        return min(unmask, default=0.0) <= -points


def taken(inputs: Any, rows: np.ndarray) -> Any:
    """Some of the inputs, images or texts."""
    return (
        inputs[torch.as_tensor(rows, device=inputs.device)] if isinstance(inputs, Tensor) else [inputs[i] for i in rows]
    )


def accuracy_of(standing: np.ndarray) -> Accuracy:
    """Mean of (n,) zeros and ones with Wilson's interval, of shares with Student's, in percent."""
    if set(np.unique(standing)) <= {0.0, 1.0}:
        low, high = proportion_interval(int(standing.sum()), len(standing))
    else:
        crossed = crossed_mean(standing[None], extremes=(0, 1))
        low, high = crossed.low, crossed.high
    return Accuracy(100 * float(standing.mean()), 100 * low, 100 * high)


def difference_of(standing: np.ndarray, reference: np.ndarray) -> Difference:
    """`standing` minus `reference`, on the same examples, in points."""
    if set(np.unique([standing, reference])) <= {0.0, 1.0}:
        result = paired_difference(reference.astype(bool), standing.astype(bool))
        return Difference(100 * result.difference, 100 * result.low, 100 * result.high)
    crossed = crossed_mean((standing - reference)[None], extremes=(-1, 1))
    return Difference(100 * crossed.mean, 100 * crossed.low, 100 * crossed.high)
