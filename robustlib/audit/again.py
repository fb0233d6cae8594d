"""An audit and an earlier one of the same examples: what it found, kept in a file, and whether the model got worse."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib.audit.findings import Audit, Finding


@dataclass(frozen=True)
class Adversarial:
    """The strongest inputs that an audit found.

    Attributes:
        inputs: n images (in the range and shape in which they were handed in), texts or pairs of texts: adversarial
            where an attack succeeded, else as far as the last one came.
        positions: (n,) of their examples in the data that was handed in.
        standing: (n,) 1.0 where the model is still right, 0.0 where not; the share of draws where answers are random.
        settings: of the audit.
    """

    inputs: Any
    positions: np.ndarray
    standing: np.ndarray
    settings: dict[str, Any]

    def save(self, path: str | os.PathLike) -> None:
        """Write an .npz file, which `load` reads and `audit(..., replay=path)` tries again."""
        arrays = {"inputs": np.asarray(self.inputs), "positions": self.positions, "standing": self.standing}
        with Path(path).open("wb") as file:
            np.savez_compressed(file, settings=json.dumps(self.settings), **arrays)


def load(path: str | os.PathLike) -> Adversarial:
    """What `Adversarial.save` wrote; ValueError where it is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            inputs, positions, standing, settings = (
                file[name] for name in ("inputs", "positions", "standing", "settings")
            )
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} holds no adversarial inputs of an audit ({error}): write them with save()") from None
    if inputs.dtype.kind == "U":
        inputs = [tuple(row) if isinstance(row, list) else row for row in inputs.tolist()]
    else:
        inputs = torch.from_numpy(inputs)
    return Adversarial(inputs, positions, standing, json.loads(str(settings)))


def adversarial_of(case: Any, positions: np.ndarray, settings: dict[str, Any]) -> Adversarial | None:
    """What a case remembers, for all its examples; None where no attack finished."""
    if case.worst is None:
        return None
    found, share = case.worst
    if isinstance(case.inputs, Tensor):
        inputs = case.inputs.detach().cpu().clone()
        inputs[torch.as_tensor(case.rows)] = found.detach().cpu().to(inputs.dtype)
    else:
        inputs = list(case.inputs)
        for row, text in zip(case.rows, found, strict=True):
            inputs[row] = text
    return Adversarial(inputs, positions[: len(case.inputs)], case.standing(share), settings)


def compared(audit: Audit, earlier: Audit) -> Audit:
    """The audit with a finding on whether the model got worse: a verdict lost, or surely less left of the examples.

    Raises:
        ValueError: other examples or another threat.
    """
    for name in ("norm", "epsilon", "recipe", "n", "seed", "examples"):
        before, now = earlier.settings.get(name), audit.settings.get(name)
        if before != now:
            raise ValueError(f"the earlier record says {name} {before}, this one {now}: they cannot be compared")
    values: dict[str, Any] = {"earlier": earlier.verdict}
    lost = audit.exit_status != 0 and earlier.exit_status == 0
    sentence = f"{earlier.verdict} in the earlier record"
    new, old = audit.rung(audit.found_by), earlier.rung(earlier.found_by)
    fell = False
    if new is not None and old is not None:
        from robustlib.audit.case import difference_of

        change = difference_of(np.array(new.standing), np.array(old.standing))
        fell = change.high < 0
        values |= {"points": change.points, "low": change.low, "high": change.high}
        sentence += f", at most {old.accuracy} % there and {new.accuracy} % here: {change} points"
    finding = Finding("attack.regression", "attack", "warning" if lost or fell else "fine", sentence, values)
    return replace(audit, findings=(*audit.findings, finding))
