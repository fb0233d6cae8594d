"""Image data sets as tensors: pixels in [0, 1], no normalisation (that belongs to the model)."""

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustlib.data.progress import progress
from robustlib.data.splits import check_split, hold_out, stratified_order, subset
from robustlib.data.store import content, fetch

N_VALIDATION = 5_000
_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FASHION_CLASSES = tuple(
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
)


@dataclass(frozen=True)
class ImageData:
    """Images of one split: float32 (n, channels, height, width) in [0, 1], labels int64 (n,).

    `index`: int64 (n,), position in the official file (train and validation share the training file).
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    name: str
    split: str
    index: Tensor


def load_images(name: str, split: str, *, n: int | None = None, seed: int = 0) -> ImageData:
    """Load a split of an image data set, fetching its files where needed.

    Validation is a fixed stratified slice of 5,000 of the official training set. `digits` has no official split: 20 %
    test, 10 % validation, fixed and stratified.

    Args:
        name: "fashion_mnist", "cifar10", "cifar10_jpeg" (a lossy copy, say so) or "digits".
        split: "train", "validation" or "test".
        n: number of examples, stratified by class, in an order of `seed`; all in file order for None.

    ValueError: unknown name or split, or n outside the split; FetchError: the files are unavailable.
    """
    if name not in _READERS:
        raise ValueError(f"unknown image data set {name!r}; known: {', '.join(_READERS)}")
    check_split(split)
    class_names, labels, read = _READERS[name](fetch(name), split)
    if name == "digits":
        order = stratified_order(labels, 0)
        bounds = {"test": (0, 359), "validation": (359, 539), "train": (539, len(labels))}[split]
        members = np.sort(order[slice(*bounds)])
    elif split == "test":
        members = np.arange(len(labels))
    else:
        members = hold_out(labels, min(N_VALIDATION, len(labels) // 10))[split]
    index = members[subset(labels[members], n, seed)]
    pixels = torch.from_numpy(np.ascontiguousarray(read(index)))
    return ImageData(
        images=pixels.float().div_(16 if name == "digits" else 255),
        labels=torch.from_numpy(labels[index].astype(np.int64)),
        class_names=class_names,
        name=name,
        split=split,
        index=torch.from_numpy(index),
    )


# A reader returns class names, labels (n,) of the official file, and a function from positions to uint8
# pixels (n, channels, height, width): a small subset of a big set costs little memory.
_Read = tuple[tuple[str, ...], np.ndarray, Callable[[np.ndarray], np.ndarray]]


def _read_fashion_mnist(paths: dict[str, Path], split: str) -> _Read:
    prefix = "t10k" if split == "test" else "train"
    labels = np.frombuffer(content(paths, f"{prefix}-labels-idx1-ubyte"), np.uint8, offset=8)
    pixels = np.frombuffer(content(paths, f"{prefix}-images-idx3-ubyte"), np.uint8, offset=16)
    return _FASHION_CLASSES, labels, lambda index: pixels.reshape(-1, 1, 28, 28)[index]


def _read_cifar10(paths: dict[str, Path], split: str) -> _Read:
    wanted = ["test_batch.bin"] if split == "test" else [f"data_batch_{batch}.bin" for batch in range(1, 6)]
    with tarfile.open(paths["cifar-10-binary.tar.gz"]) as archive:
        members = ((Path(member.name).name, member) for member in archive)
        batches = {key: archive.extractfile(member).read() for key, member in members if key in wanted}
    rows = np.frombuffer(b"".join(batches[key] for key in wanted), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    return _CIFAR_CLASSES, rows[:, 0], lambda index: rows[index, 1:].reshape(-1, 3, 32, 32)


def _read_cifar10_jpeg(paths: dict[str, Path], split: str) -> _Read:
    prefix = "test" if split == "test" else "train"
    with np.load(io.BytesIO(content(paths, "official_labels.npz")), allow_pickle=False) as archive:
        labels = archive[f"{prefix}_labels"]
    # NNNN.jpg of a class is that class's image number NNNN in the official order
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())

    def read(index: np.ndarray) -> np.ndarray:
        from PIL import Image

        place = {f"{_CIFAR_CLASSES[labels[i]]}/{rank[i]:04d}.jpg": row for row, i in enumerate(index)}
        pixels = np.zeros((len(index), 3, 32, 32), np.uint8)
        with tarfile.open(paths[f"cifar10_{prefix}_jpg.tar.xz"]) as archive:
            for member in progress(archive, description="decoding cifar10_jpeg", total=len(labels) + 11):
                row = place.pop(member.name.partition("/")[2], None)
                if row is not None and (opened := archive.extractfile(member)):
                    pixels[row] = np.asarray(Image.open(opened).convert("RGB")).transpose(2, 0, 1)
        if place:
            raise KeyError(f"the archive lacks {len(place)} images, first {next(iter(place))}")
        return pixels

    return _CIFAR_CLASSES, labels, read


def _read_digits(paths: dict[str, Path], split: str) -> _Read:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return tuple("0123456789"), digits.target, lambda index: digits.images[index, None].astype(np.uint8)


_READERS = {
    "fashion_mnist": _read_fashion_mnist,
    "cifar10": _read_cifar10,
    "cifar10_jpeg": _read_cifar10_jpeg,
    "digits": _read_digits,
}
