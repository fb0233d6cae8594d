"""What may be handed in beside the model: a surrogate, an attack of one's own, and what an earlier audit found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from robustlib.attacks import ball
from robustlib.audit.findings import Finding, Rung

if TYPE_CHECKING:
    from robustlib.audit.case import Case

YOURS, REPLAYED = "your attack", "replayed"  # names of rungs
OUTSIDE = 1e-3  # of the radius, by which rounding may leave the ball


@dataclass(frozen=True)
class Handed:
    """What an audit uses beside its own attacks.

    Attributes:
        surrogate: inputs to logits, to transfer from instead of a plain model fitted to the answers.
        attack: (inputs, labels) of a batch to adversarial inputs, one for each.
        replay: adversarial inputs of an earlier audit, one for each example that is attacked now.
        earlier: the settings of that audit, whose examples these must be.
    """

    surrogate: Callable | None = None
    attack: Callable | None = None
    replay: Any = None
    earlier: dict[str, Any] | None = None

    def check_examples(self, digest: str) -> None:
        """ValueError unless these are the examples of the earlier audit."""
        if self.earlier is not None and self.earlier.get("examples") != digest:
            n, seed = self.earlier.get("n"), self.earlier.get("seed")
            raise ValueError(
                f"these are not the examples of the earlier audit: give the same data in the same order, and leave out "
                f"n and seed or give its own (n = {n}, seed = {seed})"
            )


def attacked_by_yours(case: Case) -> Any:
    """What the attack that was handed in makes of the attacked examples, in batches."""
    inputs, labels, made = case.attacked, case.attacked_labels, []
    for start in range(0, len(labels), case.served.batch_size):
        rows = slice(start, start + case.served.batch_size)
        batch = inputs[rows].clone() if isinstance(inputs, Tensor) else inputs[rows]
        made.append(case.handed.attack(batch, labels[rows]))
    if not isinstance(inputs, Tensor):
        return within(case, [text for part in made for text in part], "your attack")
    return within(case, torch.cat(made), "your attack")


def replayed(case: Case) -> Any:
    """The adversarial inputs of an earlier audit, as far as their examples are attacked now."""
    chosen = case.handed.replay
    if isinstance(chosen, Tensor):
        return within(case, chosen[torch.as_tensor(case.rows)], "the earlier audit")
    return within(case, [chosen[row] for row in case.rows], "the earlier audit")


def within(case: Case, made: Any, who: str) -> Any:
    """Adversarial inputs brought into the threat that is audited; a finding says what lay outside.

    Raises:
        ValueError: other than one for each attacked example, or images that are not finite numbers.
    """
    inputs = case.attacked
    if not isinstance(inputs, Tensor):
        if len(made) != len(inputs) or not all(isinstance(text, type(inputs[0])) for text in made):
            raise ValueError(f"{who} returned {len(made)} values for {len(inputs)} texts: one text for each is needed")
        return list(made)
    if made.shape != inputs.shape:
        raise ValueError(f"{who} returned shape {tuple(made.shape)} for inputs of shape {tuple(inputs.shape)}")
    made = made.detach().to(inputs)
    if not torch.isfinite(made).all():
        raise ValueError(f"{who} returned NaN or infinity")
    epsilon, norm = case.threat["epsilon"], case.threat["norm"]
    kept = ball.project(made, inputs, epsilon, norm, inputs.dtype)
    apart = (made - kept).flatten(1).norm(dim=1, p=2 if norm == "l2" else torch.inf)
    if outside := int((apart > OUTSIDE * epsilon + 1e-6).sum()):
        values = {"outside": outside, "n": len(made), "largest": float(apart.max())}
        sentence = (
            f"{outside} of {len(made)} inputs of {who} lie outside the threat by up to {values['largest']:.3g} "
            "and were moved into it"
        )
        case.findings.append(Finding("attack.outside", "attack", "warning", sentence, values))
    return kept


def compared_with_yours(yours: Rung, low: Rung, threshold: float) -> Finding:
    """Does the attack that was handed in leave more than what was found?"""
    from robustlib.audit.case import difference_of

    gap = difference_of(np.array(yours.standing), np.array(low.standing))
    values = {"points": gap.points, "low": gap.low, "high": gap.high, "threshold": threshold}
    numbers = f"your attack leaves {yours.accuracy} %, {low.name} {low.accuracy} %"
    if gap.points > threshold and gap.low > 0:
        sentence = f"{numbers}: {gap.points:.1f} points of its number were never robustness"
        return Finding("attack.yours", "attack", "warning", sentence, values)
    return Finding("attack.yours", "attack", "fine", f"{numbers}: nothing that counts lies between them", values)
