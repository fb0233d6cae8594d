"""Real data sets by name: found or fetched, verified, and loaded. Command line: `python -m robustlib data`."""

from robustlib.data.registry import DATASETS, Dataset
from robustlib.data.store import FetchError, content, fetch, resolve_dataset

__all__ = [
    "DATASETS",
    "Dataset",
    "FetchError",
    "ImageData",
    "TextData",
    "content",
    "fetch",
    "load_images",
    "load_text",
    "resolve_dataset",
]


def __getattr__(name: str):
    """The loaders import torch; the registry and the command line must not wait for it."""
    if name in ("ImageData", "load_images"):
        from robustlib.data import images

        return getattr(images, name)
    if name in ("TextData", "load_text"):
        from robustlib.data import text

        return getattr(text, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
