"""Whatever is handed in, as a `Subject` and its `Examples`: asked once, so that what it gives is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.audit.answers import established, in_columns, raw_answers
from robustlib.audit.examples import Entrance, Examples, examples_of
from robustlib.audit.sources import Function, Source, source_of
from robustlib.audit.subject import Subject

_PROBED = 16  # examples whose answers establish what a model gives


def adapt(
    model: Any,
    inputs: Any,
    labels: Any = None,
    *,
    gives: str | None = None,
    n_classes: int | None = None,
    class_names: Sequence[Any] | None = None,
    bounds: tuple[float, float] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    name: str | None = None,
    limit: int | None = None,
) -> tuple[Subject, Examples]:
    """The subject and the examples of an audit.

    Args:
        model: a torch module, any callable, a `transformers` pipeline, (model, tokenizer) or checkpoint folder, a
            scikit-learn estimator, or "timm:NAME" or "robustbench:NAME".
        inputs, labels, class_names, bounds, mean, std, limit: as of `examples_of`.
        gives: what the model returns, one of `GIVES`; None: established from its answers, see `established`.
        n_classes: where the model returns labels only; default: as many as labels and answers name.
        name: what the report calls the model.

    Raises:
        TypeError, ValueError: model, inputs and labels cannot be brought together; each says what to do.
        ModuleNotFoundError: the model needs a package that is not installed.
    """
    source = source_of(model, gives)
    if isinstance(model, str) and mean is None:
        mean, std = getattr(source.module, "pixel_statistics", (None, None))
    examples = examples_of(
        inputs,
        labels,
        bounds=bounds or source.bounds,
        mean=mean,
        std=std,
        class_names=class_names if class_names is not None else source.class_names,
        limit=limit,
    )
    if not len(examples.labels):
        raise ValueError("there are no examples to audit")
    if name is not None:
        source = replace(source, name=name)
    return _subject(source, examples, gives, n_classes), examples


def _subject(source: Source, examples: Examples, gives: str | None, n_classes: int | None) -> Subject:
    """Ask once, establish what the answers are, and close everything that follows over it."""
    n, notes = min(_PROBED, len(examples.labels)), [*source.notes, *examples.notes]
    if examples.modality == "image":
        source, fed = _fed_with_arrays_if_need_be(source, examples, n)
        notes += fed
    ask = _asking(source, examples.entrance)
    answers = ask(examples.inputs[:n].clone() if examples.modality == "image" else examples.inputs[:n])
    kind = established(answers, gives or source.gives, otherwise=source.otherwise)
    if answers.ndim == 2 and answers.shape[1] == 1:
        notes.append("one column z: the classes 0 and 1 were scored as the pair (0, z)")
    largest = int(examples.labels.max()) + 1
    if kind == "labels" and n_classes is None:
        named = source.class_names
        seen = [largest, 2, int(answers.max()) + 1 if answers.ndim == 1 else answers.shape[1]]
        n_classes = len(named) if named is not None else max(seen)
    columns = partial(in_columns, gives=kind, n_classes=n_classes)
    n_classes = columns(answers).shape[1]
    if largest > n_classes:
        raise ValueError(
            f"labels go up to {largest - 1}, and the model has {n_classes} classes, 0 to {n_classes - 1}: is the label "
            "map the model's?"
        )

    def respond(batch: Any) -> Tensor:
        with torch.no_grad():
            return columns(ask(batch)).detach().cpu()

    module = None
    if source.module is not None:
        module = Differentiable(source.module, lambda batch: columns(ask(batch)))
        if isinstance(source.module, Function) and examples.modality == "text":
            module = None
        elif isinstance(source.module, Function) and not _passes_gradients(module, examples.inputs[:1]):
            module = None
            notes.append("no gradient reaches the inputs through this function: it was audited as a black box")
    inner = tuple((label, _inner(replace(source, ask=function), examples.entrance)) for label, function in source.inner)
    return Subject(
        respond, kind, examples.modality, n_classes, module=module, inner=inner, name=source.name, notes=tuple(notes)
    )


class Differentiable(nn.Module):
    """The path from inputs to answers (n, n_classes), in the mode the model is in; gradients follow it from pixels.

    Attributes:
        model: the module handed in, so that its sub-modules and modes can be found; gradients flow through `path`.
    """

    def __init__(self, model: nn.Module, path: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.path = model, path
        self.training = model.training

    def forward(self, inputs: Any) -> Tensor:
        answers = self.path(inputs)
        return answers.to(inputs.device) if isinstance(inputs, Tensor) else answers


def _asking(source: Source, entrance: Entrance | None) -> Callable[[Any], Tensor]:
    """From a batch of examples to raw answers, on the model's device and in its dtype."""

    def ask(batch: Any) -> Tensor:
        if entrance is None:
            return raw_answers(source.ask(list(batch)), len(batch))
        inputs = entrance(batch)
        reference = _floating_parameter(source.module)
        if reference is not None:
            inputs = inputs.to(reference)
        return raw_answers(source.ask(inputs), len(batch))

    return ask


def _inner(source: Source, entrance: Entrance | None) -> Callable[[Any], Tensor]:
    ask = _asking(source, entrance)

    def respond(batch: Any) -> Tensor:
        with torch.no_grad():
            return in_columns(ask(batch), "logits").detach().cpu()

    return respond


def _floating_parameter(module: nn.Module | None) -> Tensor | None:
    values = () if module is None else (*module.parameters(), *module.buffers())
    return next((value for value in values if value.is_floating_point()), None)


def _passes_gradients(module: nn.Module, pixels: Tensor) -> bool:
    with torch.enable_grad():
        try:  # on a copy that is no leaf: a function may change its inputs in place
            return module(pixels.clone().requires_grad_().clone()).requires_grad
        except RuntimeError:  # a tensor that requires a gradient has no .numpy()
            return False


def _fed_with_arrays_if_need_be(source: Source, examples: Examples, n: int) -> tuple[Source, list[str]]:
    """The source as it is, or one that hands numpy arrays to a function which cannot take a tensor."""
    probe = examples.inputs[:n].clone()
    try:
        with torch.no_grad():
            source.ask(_entered(source, examples.entrance, probe))
        return source, []
    except Exception as first:
        if not isinstance(source.module, Function):
            raise _refused(source, examples, first) from first
        arrays = replace(source, ask=lambda batch: source.ask(batch.detach().cpu().numpy()), module=None)
        try:
            arrays.ask(_entered(arrays, examples.entrance, probe))
        except Exception as second:
            raise _refused(source, examples, first, second) from first
        return arrays, ["the function takes numpy arrays: it was audited as a black box"]


def _entered(source: Source, entrance: Entrance, pixels: Tensor) -> Tensor:
    reference = _floating_parameter(source.module)
    inputs = entrance(pixels)
    return inputs if reference is None else inputs.to(reference)


def _refused(source: Source, examples: Examples, *errors: Exception) -> ValueError:
    """What to say where a model raises on its first batch."""
    shape = tuple(examples.entrance(examples.inputs[:1]).shape[1:])
    layout = ""
    if len(shape) == 3 and shape[-1] in (1, 3, 4) and shape[0] > 4:
        layout = " Channels last? Give images.permute(0, 3, 1, 2), or transpose(0, 3, 1, 2) of an array."
    elif len(shape) == 2:
        layout = " Without channels? Give images[:, None]."
    raised = [f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}" for error in errors]
    what = f"a batch of examples of shape {shape}"
    return ValueError(f"{source.name} raised on {what} {' and, given an array, '.join(raised)}.{layout}")
