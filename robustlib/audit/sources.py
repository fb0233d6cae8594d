"""How to ask a model, for each kind of model that people hand in: one function for each, in one table.

Nothing heavy is imported: a `transformers` pipeline or a scikit-learn estimator is known by what it has, and whoever
hands one in has imported its library already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustlib.audit.answers import described, raw_answers
from robustlib.audit.downloads import fetched
from robustlib.models.pretrained import quiet_transformers

HUB, DRIVE = "https://huggingface.co", "https://drive.google.com"  # where weights are downloaded from


@dataclass(frozen=True)
class Source:
    """How a model is asked, before anything is known about its answers.

    Attributes:
        ask: a batch (what the entrance gives, or a list of texts) to the model's own output.
        gives: what the output is, where the kind of model says so.
        otherwise: what it is where its values do not tell, as those of a head that was hardly trained.
        module: whose parameters say device and dtype, and which gradients flow through; None for black boxes.
        inner: further ways to ask the same model, nearer to its logits, by name.
        class_names: of the answers' columns, where the model knows them.
    """

    name: str
    ask: Callable[[Any], Any]
    gives: str | None = None
    otherwise: str | None = None
    module: nn.Module | None = None
    inner: tuple[tuple[str, Callable[[Any], Any]], ...] = ()
    class_names: Sequence[Any] | None = None
    bounds: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


def source_of(model: Any, gives: str | None = None) -> Source:
    """How to ask a model of any kind: the first row of `SOURCES` that knows it."""
    if hasattr(model, "set_mode_default") and hasattr(model, "model"):  # of torchattacks
        raise TypeError(f"{type(model).__name__} is an attack and no model: audit its model, with attack= this attack")
    if hasattr(model, "clip_values") and hasattr(model, "model"):  # of ART
        raise TypeError(
            f"{type(model).__name__} is a classifier of ART: audit its module (classifier.model, with mean= and std= "
            "where it normalises), or ask classifier.predict"
        )
    for knows, source in SOURCES:
        if knows(model):
            return source(model, gives)
    raise TypeError(
        f"{described(model)} is no model: give a torch module, a function, a transformers pipeline or (model, "
        "tokenizer), a scikit-learn estimator, or wrap it in a function of a batch that returns scores"
    )


class Function(nn.Module):
    """A plain function that may let gradients through."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function
        self.training = False  # a function has no modes

    def forward(self, batch: Any) -> Any:
        return self.function(batch)


def _module(model: nn.Module, gives: str | None) -> Source:
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) and getattr(model, "main_input_name", "") == "input_ids":
        raise TypeError("a transformers text model needs its tokenizer: audit((model, tokenizer), texts, labels)")
    names = _class_names(config)
    otherwise = "logits" if names else None  # the field of a transformers output that is read
    return Source(type(model).__name__, model, otherwise=otherwise, module=model, class_names=names)


def _function(model: Callable, gives: str | None) -> Source:
    name = getattr(model, "__name__", type(model).__name__)
    bounds = getattr(model, "bounds", None)  # foolbox's models
    bounds = tuple(map(float, bounds)) if isinstance(bounds, tuple) and len(bounds) == 2 else None
    return Source("function" if name == "<lambda>" else name, model, module=Function(model), bounds=bounds)


def _estimator(model: Any, gives: str | None) -> Source:
    """A scikit-learn estimator: by its nearest to logits, or by what `gives` names."""
    methods = {
        "logits": "decision_function",
        "log-probabilities": "predict_log_proba",
        "probabilities": "predict_proba",
        "labels": "predict",
    }
    has = {kind: getattr(model, method) for kind, method in methods.items() if hasattr(model, method)}
    classes = getattr(model, "classes_", None)
    if classes is None:
        raise ValueError(f"{type(model).__name__} has no classes_: fit it first; this audits classifiers")
    if getattr(model, "decision_function_shape", "") == "ovo" and len(classes) > 2:
        has.pop("logits", None)  # a column for each pair of classes
    if gives is not None and gives not in has:
        raise ValueError(f"{type(model).__name__} has no {methods.get(gives, gives)}: it gives {', '.join(has)}")
    kind = gives or next(iter(has))
    place = {value: index for index, value in enumerate(classes.tolist())}

    def labels(batch: Any) -> np.ndarray:
        return np.array([place[value] for value in model.predict(_array(batch)).tolist()])

    def scores(batch: Any, kind: str = kind) -> np.ndarray:
        return np.asarray(has[kind](_array(batch)))

    nearest = next(iter(has))  # to logits; probabilities never come without their logarithm
    inner = () if nearest == kind else ((methods[nearest], partial(scores, kind=nearest)),)
    ask = labels if kind == "labels" else scores
    note = f"asked by {methods[kind]}"
    return Source(type(model).__name__, ask, kind, inner=inner, class_names=classes.tolist(), notes=(note,))


def _array(batch: Any) -> Any:
    return batch.detach().cpu().numpy() if isinstance(batch, Tensor) else batch


def _pipeline(model: Any, gives: str | None) -> Source:
    """A `transformers` pipeline: the logits of its model, or, with gives="probabilities", what it returns itself."""
    if model.task not in ("text-classification", "sentiment-analysis"):
        raise ValueError(
            f"a pipeline for {model.task} cannot be audited, one for text-classification can; for images give its "
            "model, pipe.model, with mean= and std= of pipe.image_processor"
        )
    source = _with_tokenizer((model.model, model.tokenizer), gives)
    if gives in (None, "logits"):
        note = "the logits of pipe.model; gives='probabilities' audits what the pipeline itself returns"
        return replace(source, notes=(note,))
    if gives != "probabilities":
        raise ValueError(f"a pipeline gives logits or probabilities, not {gives}")
    place = {str(name): index for index, name in enumerate(source.class_names)}

    def ask(texts: list[Any]) -> Tensor:
        asked = [{"text": text[0], "text_pair": text[1]} if isinstance(text, tuple) else text for text in texts]
        rows = torch.zeros(len(texts), len(place))
        for row, scores in zip(rows, model(asked, top_k=None, truncation=True), strict=True):
            for score in scores:
                row[place[score["label"]]] = score["score"]
        return rows

    return replace(source, ask=ask, gives="probabilities", inner=(("pipe.model", source.ask),))


def _with_tokenizer(pair: tuple[Any, Any], gives: str | None) -> Source:
    """A `transformers` model and its tokenizer, run in the mode it is in, on a few texts at a time in their order."""
    model, tokenizer = pair
    _check_head(model)
    longest = _longest(model, tokenizer)
    device = next(model.parameters()).device

    def run(texts: list[Any]) -> Any:
        first, second = (
            (list(part) for part in zip(*texts, strict=True)) if isinstance(texts[0], tuple) else (texts, None)
        )
        encoded = tokenizer(
            first, second, padding=len(texts) > 1, truncation=True, max_length=longest, return_tensors="pt"
        ).to(device)
        return raw_answers(model(**encoded), len(texts))

    def ask(texts: list[Any], size: int = 64) -> Tensor:
        return torch.cat([run(texts[start : start + size]) for start in range(0, len(texts), size)])

    names = _class_names(model.config)
    return Source(type(model).__name__, ask, otherwise="logits", module=model, class_names=names)


def _check_head(model: Any) -> None:
    config = model.config
    if not hasattr(model, "num_labels") or "ForSequenceClassification" not in type(model).__name__:
        raise ValueError(f"{type(model).__name__} has no head for sequence classification: load it with one")
    if config.problem_type not in (None, "single_label_classification"):
        raise ValueError(f"the model was trained for {config.problem_type}: this audits exclusive classes")


def _longest(model: Any, tokenizer: Any) -> int:
    """Tokens that both model and tokenizer can take."""
    positions = getattr(model.config, "max_position_embeddings", None) or 512
    if "roberta" in str(model.config.model_type):
        positions -= (model.config.pad_token_id or 0) + 1
    return min(positions, tokenizer.model_max_length, 512)


def _class_names(config: Any) -> list[str] | None:
    """Names in a `transformers` configuration, unless they are the made-up ones."""
    names = getattr(config, "id2label", None)
    return [str(names[index]) for index in sorted(names)] if names else None


def _checkpoint(folder: str | Path, gives: str | None) -> Source:
    """A folder (or a name on the hub) with a sequence-classification checkpoint, as `Trainer` saves it."""
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ModuleNotFoundError:
        raise ModuleNotFoundError("a transformers checkpoint needs: pip install transformers") from None
    path = Path(folder)
    if not path.is_dir() and (path.is_absolute() or str(folder).startswith(".") or str(folder).count("/") > 1):
        raise ValueError(f"there is no folder {folder}")
    if path.is_dir() and not (path / "config.json").is_file():
        inside = sorted(
            (part for part in path.glob("checkpoint-*") if part.is_dir()), key=lambda part: (len(part.name), part.name)
        )
        hint = f": do you mean {inside[-1]}?" if inside else ""
        raise ValueError(f"{folder} holds no config.json, so it is no checkpoint{hint}")

    def load() -> tuple[Any, Any]:
        with quiet_transformers():
            model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True).eval()
        return model, AutoTokenizer.from_pretrained(folder)

    # AutoTokenizer makes an empty one where there is none.
    if path.is_dir() and not any(any(path.glob(pattern)) for pattern in ("tokenizer*", "vocab*", "*.model")):
        raise ValueError(
            f"{folder} holds no tokenizer (Trainer saves one where it was given processing_class=): save it there by "
            "tokenizer.save_pretrained, or audit((model, tokenizer), ...)"
        )
    pair = fetched(load, str(folder), None if path.is_dir() else HUB)
    return replace(_with_tokenizer(pair, gives), name=path.name)


def _timm(name: str, gives: str | None) -> Source:
    try:
        import timm
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{name} needs: pip install timm") from None
    model = fetched(lambda: timm.create_model(name.removeprefix("timm:"), pretrained=True).eval(), name, HUB)
    settings = timm.data.resolve_data_config({}, model=model)
    model.pixel_statistics = settings["mean"], settings["std"]
    size = "x".join(map(str, settings["input_size"]))
    return Source(name.removeprefix("timm:"), model, module=model, notes=(f"trained on {size} pixels",))


def _robustbench(name: str, gives: str | None) -> Source:
    try:
        from robustbench.utils import load_model
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{name} needs: pip install robustbench") from None
    short = name.removeprefix("robustbench:")
    model = fetched(lambda: load_model(short, dataset="cifar10", threat_model="Linf").eval(), name, DRIVE)
    return Source(short, model, module=model)


def _is_pair(model: Any) -> bool:
    return (
        isinstance(model, tuple | list) and len(model) == 2 and isinstance(model[0], nn.Module) and callable(model[1])
    )


SOURCES: tuple[tuple[Callable[[Any], bool], Callable[[Any, str | None], Source]], ...] = (
    (lambda model: isinstance(model, str) and model.startswith("timm:"), _timm),
    (lambda model: isinstance(model, str) and model.startswith("robustbench:"), _robustbench),
    (lambda model: isinstance(model, str | Path), _checkpoint),
    (_is_pair, _with_tokenizer),
    (lambda model: hasattr(model, "task") and hasattr(model, "tokenizer"), _pipeline),
    (lambda model: isinstance(model, nn.Module), _module),
    (lambda model: hasattr(model, "predict") and hasattr(model, "get_params"), _estimator),
    (callable, _function),
)
