"""The audit as it is called: `audit(model, inputs, labels, epsilon=8 / 255)`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib.audit import again
from robustlib.audit.adapters import adapt
from robustlib.audit.examples import Entrance
from robustlib.audit.findings import Audit
from robustlib.audit.handed import Handed
from robustlib.audit.run import N_MORE, audit_subject

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


def audit(
    model: Any,
    inputs: Any,
    labels: Any = None,
    *,
    epsilon: float | None = None,
    norm: str = "linf",
    recipe: str = "dg",
    gives: str | None = None,
    attack: Callable | None = None,
    surrogate: Callable | None = None,
    replay: str | os.PathLike | None = None,
    n: int | None = None,
    budget: float | str | None = None,
    bounds: tuple[float, float] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[Any] | None = None,
    n_classes: int | None = None,
    name: str | None = None,
    **settings: Any,
) -> Audit:
    """Audit a classifier: is its accuracy under attack real, or an illusion?

    Args:
        model: a torch module or any function of a batch; a `transformers` pipeline, (model, tokenizer) or checkpoint
            folder; a scikit-learn estimator; "timm:NAME" or "robustbench:NAME". It is asked as it is: in its mode, on
            its device, in its precision.
        inputs: images (N, channels, height, width) or features (N, d) in [0, 1] or `bounds`, or N texts or pairs of
            texts: tensors, arrays or lists; or a `DataLoader`, and no labels.
        labels: (N,) class indices, or names of classes where the model knows them or `class_names` does.
        epsilon: radius of the attack, in the units of the inputs. norm: "linf" or "l2".
        recipe: of substitutions, for texts ("dg", "pwws", ...).
        gives: "logits", "log-probabilities", "probabilities" or "labels"; default: established from the answers.
        attack: of your own, (inputs, labels) to adversarial inputs; what it leaves is the claim that is tested.
        surrogate: inputs to logits, to transfer from, instead of a plain model fitted to the answers.
        replay: file of adversarial inputs, saved by an earlier audit of these data, whose n and seed are taken.
        n: examples that are attacked, drawn at random; default 200 images or 100 texts. More examples calibrate.
        budget: seconds, or "5m"; rungs that take longer are left out and named.
        bounds: range of the inputs, default (0, 1). mean, std: per channel, put in front of the model.
        class_names, n_classes, name: of the model, where it does not tell.
        settings: `claim`, `random`, `thorough`, `seed`, `batch_size`, `state`, `tell`: as of `run.audit_subject`.

    Raises:
        TypeError, ValueError: model, inputs, labels or settings that make no audit; each says what to do.
        ModuleNotFoundError, ConnectionError: a package is not installed, or weights cannot be downloaded.
    """
    kept = None if replay is None else again.load(replay)
    if kept is not None:
        n, settings = n or kept.settings["n"], {"seed": kept.settings["seed"], **settings}
    options = {"bounds": bounds, "mean": mean, "std": std, "class_names": class_names, "name": name}
    limit = None if labels is not None else (n or 200) + N_MORE["image"]
    subject, examples = adapt(model, inputs, labels, gives=gives, n_classes=n_classes, limit=limit, **options)
    if epsilon is not None and examples.entrance is not None:
        epsilon /= examples.entrance.span
    settings |= {"n": n, "budget": seconds_of(budget), "epsilon": epsilon, "norm": norm, "recipe": recipe}
    settings["given"] = _given(examples.entrance, attack, surrogate, kept)
    return _as_handed(audit_subject(subject, examples.inputs, examples.labels, **settings), examples.entrance)


def _given(
    entrance: Entrance | None, attack: Callable | None, surrogate: Callable | None, kept: again.Adversarial | None
) -> Handed:
    """What was handed in beside the model, brought from the range and shape of the inputs to pixels in [0, 1]."""
    earlier = None if kept is None else kept.settings
    if entrance is None:
        return Handed(surrogate, attack, None if kept is None else kept.inputs, earlier)

    def yours(images: Tensor, labels: Tensor) -> Tensor:
        made = attack(entrance.handed(images), labels)
        return entrance.pixels(made if isinstance(made, Tensor) else torch.as_tensor(np.asarray(made)))

    replay = None if kept is None else entrance.pixels(kept.inputs)
    return Handed(surrogate, None if attack is None else yours, replay, earlier)


def _as_handed(result: Audit, entrance: Entrance | None) -> Audit:
    """The audit with its adversarial inputs in the range and shape in which inputs were handed in."""
    if result.adversarial is None or entrance is None:
        return result
    inputs = entrance.handed(result.adversarial.inputs)
    return replace(result, adversarial=replace(result.adversarial, inputs=inputs))


def seconds_of(budget: float | str | None) -> float | None:
    """Seconds from a number or a text such as "90", "45s", "5m" or "1h"; ValueError for another."""
    if budget is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|)\s*", str(budget))
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"budget must be a time such as 90, '45s', '5m' or '1h', got {budget!r}")
    return float(match[1]) * _UNITS[match[2]]
