"""The examples of an audit: pixels in [0, 1] or texts, their labels, and the way back to what a model takes.

An attack moves pixels in [0, 1], so that epsilon has one meaning. What a model takes instead (another range, another
shape, normalised values) is made from them in front of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustlib.audit.answers import described


@dataclass(frozen=True)
class Examples:
    """Examples as they are attacked.

    Attributes:
        inputs: float tensor (n, channels, height, width) in [0, 1], or a list of n texts or pairs of texts.
        labels: (n,) int64.
        modality: "image" (features of an estimator are images of one row) or "text".
        entrance: from `inputs` to what the model takes; None for texts.
        notes: what was done to them, in sentences.
    """

    inputs: Any
    labels: Tensor
    modality: str
    entrance: Entrance | None = None
    notes: tuple[str, ...] = ()


class Entrance(nn.Module):
    """Pixels (n, channels, height, width) in [0, 1] to what a model takes; with the defaults the very same tensor.

    Args:
        bounds: range of the model's inputs.
        shape: of one example; None: as the pixels.
        mean, std: per channel, in the model's range, by which pixels are normalised.
    """

    def __init__(
        self,
        bounds: tuple[float, float] = (0.0, 1.0),
        shape: Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.bounds, self.shape = bounds, shape
        self.mean = None if mean is None else torch.as_tensor(mean, dtype=torch.float32).reshape(-1, 1, 1)
        self.std = None if std is None else torch.as_tensor(std, dtype=torch.float32).reshape(-1, 1, 1)

    def handed(self, pixels: Tensor) -> Tensor:
        """Pixels in the range and shape in which inputs were handed in: without mean and std."""
        values = self.bounds[0] + pixels * self.span if self.bounds != (0.0, 1.0) else pixels
        return values if self.shape is None else values.reshape(len(values), *self.shape)

    def pixels(self, values: Tensor) -> Tensor:
        """The way back from `handed`: (n, channels, height, width) in [0, 1]."""
        if self.shape is not None:
            values = values.reshape(len(values), *(1,) * (3 - len(self.shape)), *self.shape)
        return (values - self.bounds[0]) / self.span if self.bounds != (0.0, 1.0) else values

    @property
    def span(self) -> float:
        """Length of the model's range: an epsilon in its units is divided by it."""
        return self.bounds[1] - self.bounds[0]

    def forward(self, pixels: Tensor) -> Tensor:
        values = self.handed(pixels)
        if self.mean is not None:
            values = (values - self.mean.to(values)) / self.std.to(values)
        return values


def examples_of(
    inputs: Any,
    labels: Any,
    *,
    bounds: tuple[float, float] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[Any] | None = None,
    limit: int | None = None,
) -> Examples:
    """Examples from arrays, tensors, lists, data frames' columns, or a `DataLoader` (then `labels` is None).

    Args:
        inputs: texts, pairs of texts, or numbers of shape (n, ...).
        labels: (n,) integers, or names of classes where `class_names` is known.
        bounds: range of the inputs, in whose units epsilon is given; default (0, 1).
        mean, std: per channel, where the model was trained on normalised pixels.
        class_names: of the classes in the order of the model's answers.
        limit: the first so many examples only.

    Raises:
        TypeError, ValueError: inputs or labels that cannot be used; each says what to do.
    """
    if labels is None:
        inputs, labels = _loaded(inputs, limit)
    texts = _texts(inputs)
    if texts is not None:
        labels = labels_of(labels, len(texts), class_names)
        if bounds is not None or mean is not None:
            raise ValueError("bounds=, mean= and std= are for images and features; these inputs are texts")
        return Examples(texts[:limit], labels[:limit], "text")
    pixels, entrance, notes = _pixels(inputs, bounds, mean, std)
    labels = labels_of(labels, len(pixels), class_names)
    return Examples(pixels[:limit], labels[:limit], "image", entrance, notes)


def labels_of(labels: Any, n: int, class_names: Sequence[Any] | None = None) -> Tensor:
    """Labels (n,) as int64, from integers or from names of classes.

    Raises:
        TypeError, ValueError: neither, another number than n, or a name that is no class.
    """
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all():
        raise ValueError("labels are one-hot rows: give class indices, labels.argmax(1)")
    if values.shape != (n,):
        raise ValueError(f"labels must have shape ({n},), one for each example, got {values.shape}")
    if class_names is not None and (values.dtype.kind in "OUS" or not _indices(values, len(class_names))):
        place = {str(name): index for index, name in enumerate(class_names)}
        unknown = sorted({str(value) for value in values} - set(place))
        if unknown:
            raise ValueError(
                f"labels {', '.join(unknown[:5])} are none of the model's classes ({', '.join(list(place)[:12])}): "
                "rename them, or give class indices in the order of the model's answers"
            )
        return torch.tensor([place[str(value)] for value in values])
    if values.dtype.kind in "OUS":
        raise TypeError(
            "labels are words, and the order of the model's classes is unknown: give class_names= in the order of its "
            "answers, or class indices"
        )
    if values.dtype.kind == "f" and (values == values.round()).all():
        values = values.astype(np.int64)
    if values.dtype.kind not in "iub":
        raise TypeError(f"labels must be class indices, integers from 0, got {described(labels)}")
    if n and values.min() < 0:
        raise ValueError(f"labels must be class indices from 0, found {values.min()}: -1 and 1 become 0 and 1")
    return torch.from_numpy(values.astype(np.int64))


def _indices(values: np.ndarray, n_classes: int) -> bool:
    return values.dtype.kind in "iub" and (not len(values) or 0 <= values.min() <= values.max() < n_classes)


def _loaded(loader: Any, limit: int | None) -> tuple[Any, Any]:
    """The inputs and labels of a `DataLoader`, as far as they are needed."""
    if not isinstance(loader, Iterable) or isinstance(loader, Tensor | np.ndarray | str):
        raise TypeError("labels are missing: audit(model, inputs, labels), or a DataLoader of (inputs, labels)")
    inputs, labels, count = [], [], 0
    for batch in loader:
        if not isinstance(batch, list | tuple) or len(batch) != 2 or not hasattr(batch[0], "__len__"):
            raise TypeError(f"the loader yields {described(batch)} where (inputs, labels) in batches is needed")
        inputs.append(batch[0])
        labels.append(torch.as_tensor(batch[1]))
        count += len(batch[0])
        if limit is not None and count >= limit:
            break
    if not inputs:
        raise ValueError("the loader is empty")
    joined = torch.cat(inputs) if isinstance(inputs[0], Tensor) else [text for part in inputs for text in part]
    return joined, torch.cat(labels)


def _texts(inputs: Any) -> list[Any] | None:
    """The inputs as a list of texts or pairs of texts; None where they are no texts."""
    if isinstance(inputs, str):
        raise TypeError("inputs must be a list of texts, got one text: give [text]")
    if isinstance(inputs, Tensor):
        return None
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind not in "OUS":
        return None
    if hasattr(inputs, "columns"):  # a data frame: numbers, see _pixels
        return None
    texts = list(inputs)
    if texts and all(isinstance(text, str) for text in texts):
        return [str(text) for text in texts]
    pairs = [tuple(text) if isinstance(text, tuple | list) else () for text in texts]
    if texts and all(len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs):
        return pairs
    if any(isinstance(text, str) for text in texts):
        first = next(index for index, text in enumerate(texts) if not isinstance(text, str))
        raise TypeError(f"some inputs are texts, input {first} is {described(texts[first])}: drop or fill the gaps")
    return None


def _pixels(
    inputs: Any, bounds: tuple[float, float] | None, mean: Any, std: Any
) -> tuple[Tensor, Entrance, tuple[str, ...]]:
    """Pixels (n, channels, height, width) in [0, 1], the entrance to the model, and notes."""
    if (mean is None) != (std is None):
        raise ValueError("mean= and std= belong together: give both")
    values, notes = _numbers(inputs), []
    if not values.is_floating_point():
        if bounds is None:
            raise ValueError(
                f"images are {described(values)}: give images / 255 where the model takes pixels in [0, 1], or "
                "images.astype('float32') and bounds=(0, 255) where it takes 0 to 255"
            )
        values = values.float()
    values = values.float() if values.dtype != torch.float64 else values
    if len(values) and not torch.isfinite(values).all():
        raise ValueError(f"{int((~torch.isfinite(values.flatten(1))).any(dim=1).sum())} inputs hold NaN or infinity")
    low, high = bounds or (0.0, 1.0)
    if not low < high:
        raise ValueError(f"bounds must be (low, high) with low below high, got {bounds}")
    slack = 1e-5 * (high - low)
    if values.numel() and (float(values.min()) < low - slack or float(values.max()) > high + slack):
        raise ValueError(
            f"inputs lie in [{float(values.min()):.4g}, {float(values.max()):.4g}], outside [{low:g}, {high:g}]: "
            "normalised images? Give pixels in [0, 1] with mean= and std=, which are then put in front of the model so "
            "that epsilon stays in pixels; or bounds=(low, high), the range that inputs can have, with epsilon in "
            "their units"
        )
    shape = None
    if values.ndim != 4:
        shape = tuple(values.shape[1:])
        values = values.reshape(len(values), *(1,) * (4 - values.ndim), *shape) if 1 < values.ndim < 4 else values
        if values.ndim != 4:
            raise ValueError(
                f"inputs must have shape (n, ...) with one to three more dimensions, got {(len(values), *shape)}"
            )
    if (low, high) != (0.0, 1.0):
        values = (values - low) / (high - low)
        notes.append(f"inputs range from {low:g} to {high:g}, and epsilon is in these units")
    if mean is not None:
        notes.append("mean and std were put in front of the model: epsilon is in units of the pixels")
    return values.clamp(0, 1), Entrance((float(low), float(high)), shape, mean, std), tuple(notes)


def _numbers(inputs: Any) -> Tensor:
    if isinstance(inputs, Tensor):
        return inputs.detach()
    if hasattr(inputs, "to_numpy"):
        inputs = inputs.to_numpy()
    if hasattr(inputs, "toarray"):  # a sparse matrix
        raise TypeError(
            "inputs are a sparse matrix, whose zeros an attack would fill: give the texts and the whole pipeline"
        )
    if isinstance(inputs, list | tuple) and inputs and isinstance(inputs[0], Tensor):
        return torch.stack(list(inputs)).detach()
    try:
        array = np.asarray(inputs)
    except ValueError:
        raise ValueError("inputs differ in shape: bring them to one size first") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"inputs must be texts, or numbers of shape (n, ...), got {described(inputs)}")
    return torch.from_numpy(np.ascontiguousarray(array))
