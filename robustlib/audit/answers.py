"""What a model answers: read out of whatever it returns, and told apart as logits, probabilities or labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib.audit.subject import GIVES
from robustlib.calibration.checks import looks_like_probabilities

_SAY = f"say which by gives=, one of {', '.join(map(repr, GIVES))}"


def raw_answers(output: Any, n: int) -> Tensor:
    """The answers for n examples in what a model returned: (n, columns) floating point, or (n,) integer labels.

    Read are tensors and arrays, nested lists of numbers, objects and mappings with `logits` (ModelOutput), and the
    first part of a tuple. Gradients, dtype and device are kept.

    Raises:
        TypeError, ValueError: nothing that can be read, or not one row for each example.
    """
    values = _tensor(_part(output))
    if values is None:
        raise TypeError(
            f"the model returned {described(output)}, in which no answers were found: wrap it in a function that "
            "returns a tensor or an array of shape (n, n_classes), such as lambda inputs: model(inputs)['scores']"
        )
    if values.ndim == 0 or len(values) != n:
        raise ValueError(
            f"the model returned answers of shape {tuple(values.shape)} for {n} examples: one row for each is needed"
        )
    if values.ndim > 2 and values.numel() == n * values.shape[1]:
        values = values.flatten(1)
    if values.ndim > 2:
        raise ValueError(
            f"the model returned answers of shape {tuple(values.shape)} where (n, n_classes) is needed: one answer for "
            "each example, not for each position; this audits classifiers"
        )
    if values.is_floating_point():
        return values[:, None] if values.ndim == 1 else values
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2:
        raise TypeError(
            f"the model returned {described(output)}, integers in several columns: return scores in floating point, or "
            "one label for each example"
        )
    return values.long()


def established(answers: Tensor, declared: str | None = None, *, otherwise: str | None = None) -> str:
    """Which of `GIVES` raw answers are; what was declared must fit them.

    Integers are labels. Rows in [0, 1] that sum to 1, to their own precision or decimals, are probabilities; rows
    whose exponentials do, log-probabilities; anything that leaves [0, 1] otherwise, logits. A single column leaves
    [0, 1] only if it holds logits.

    Args:
        otherwise: what answers that could be either are taken for.

    Raises:
        ValueError: unknown or unfitting declaration, or answers that could be either.
    """
    if declared is not None and declared not in GIVES:
        raise ValueError(f"gives={declared!r} is unknown: {_SAY}")
    if not answers.is_floating_point():
        if declared not in (None, "labels"):
            raise ValueError(f"gives={declared!r}, but the model returned integers: labels are all it gives")
        return "labels"
    if declared == "logits":
        return declared
    finite = answers.detach()[torch.isfinite(answers.detach()).all(dim=1) | (answers.detach() == -torch.inf).any(dim=1)]
    measured = _measured(finite)
    if declared is None:
        if measured is None and otherwise is None:
            low, high = float(finite.min()), float(finite.max())
            columns = "numbers, one for each example," if answers.shape[1] == 1 else "rows that do not sum to 1"
            raise ValueError(
                f"the model returned {columns} in [{low:.3g}, {high:.3g}]: probabilities or logits? {_SAY}"
            )
        return measured or otherwise
    if len(finite) and measured is not None and measured != declared and not _fits(finite, declared):
        raise ValueError(
            f"gives={declared!r}, but the answers look like {measured} (rows sum to "
            f"{float(finite.double().sum(dim=1).min()):.3g} to {float(finite.double().sum(dim=1).max()):.3g}): "
            "correct gives=, or return what it says"
        )
    return declared


def in_columns(answers: Tensor, gives: str, n_classes: int | None = None) -> Tensor:
    """Raw answers with one column for each class: labels become one-hot rows, a single column z the pair (0, z).

    Raises:
        ValueError: a label that is no class.
    """
    if gives == "labels":
        if answers.is_floating_point():
            return answers if answers.shape[1] > 1 else in_columns(answers[:, 0].round().long(), gives, n_classes)
        classes = n_classes or int(answers.max()) + 1
        if len(answers) and not 0 <= int(answers.min()) <= int(answers.max()) < classes:
            raise ValueError(
                f"the model answered labels from {int(answers.min())} to {int(answers.max())}, and there are {classes} "
                "classes: give n_classes="
            )
        return torch.nn.functional.one_hot(answers, classes).float()
    if answers.shape[1] > 1:
        return answers
    if gives == "logits":
        return torch.cat([torch.zeros_like(answers), answers], dim=1)
    if gives == "probabilities":
        return torch.cat([1 - answers, answers], dim=1)
    return torch.cat([torch.log1p(-answers.exp()), answers], dim=1)


def described(value: Any) -> str:
    """A value in a few words for a message: its type, and its dtype, keys or length where it has them."""
    name = type(value).__name__
    kind = f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
    if isinstance(value, Tensor):
        return f"a torch tensor of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, np.ndarray):
        return f"a numpy array of {value.dtype}"
    if isinstance(value, Mapping):
        return f"{kind} with {', '.join(map(str, value)) or 'nothing'}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, Sequence):
        inside = f" of {type(value[0]).__name__}" if len(value) else ""
        return f"{kind}{inside}, length {len(value)}"
    return "nothing (None)" if value is None else kind


def _part(output: Any) -> Any:
    """The part of an output that holds the answers."""
    if isinstance(output, Mapping):
        return output.get("logits")
    if hasattr(output, "logits"):  # InceptionOutputs and other named tuples
        return output.logits
    if isinstance(output, tuple) and len(output) and not isinstance(output[0], int | float | np.generic):
        return output[0]
    return output


def _tensor(values: Any) -> Tensor | None:
    """A tensor of numbers, or None."""
    if isinstance(values, Tensor):
        return values.int() if values.dtype == torch.bool else values
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # rows of different lengths
        return None
    if array.dtype.kind not in "fiub":
        return None
    return torch.from_numpy(array.astype(int) if array.dtype.kind in "ub" else np.ascontiguousarray(array))


def _measured(rows: Tensor) -> str | None:
    """What the values of floating-point rows say they are; None where they could be either."""
    if not len(rows):
        return "logits"
    low, high = float(rows.min()), float(rows.max())
    if rows.shape[1] == 1:
        return "logits" if low < 0 or high > 1 else None
    if looks_like_probabilities(rows):
        return "probabilities"
    if low < 0 or high > 1:
        return "log-probabilities" if _fits(rows, "log-probabilities") else "logits"
    return None


def _fits(rows: Tensor, declared: str) -> bool:
    """Whether rows can be what was declared, rounding to a tenth or in half precision allowed."""
    if rows.shape[1] == 1:
        return declared != "log-probabilities" or float(rows.max()) <= 1e-6
    if declared == "labels":
        return bool(((rows == 0) | (rows == 1)).all() and (rows.sum(dim=1) == 1).all())
    values = rows.double().exp() if declared == "log-probabilities" else rows.double()
    allowed = max(0.01, 8 * torch.finfo(rows.dtype).eps)
    tenths = rows * 10
    if declared == "probabilities" and ((tenths - tenths.round()).abs() < 1e-3).all():
        allowed = 0.05 * rows.shape[1]
    within = (values >= 0).all() and (values <= 1 + allowed).all()
    return bool(within and ((values.sum(dim=1) - 1).abs() <= allowed).all())
