"""Real data sets by name: found or fetched, verified, and loaded. Command line: `python -m robustlib data`."""

from importlib import import_module

# Handed on when first asked for: loaders import torch, and the command line must not wait for it.
_HOMES = {
    "DATASETS": "registry",
    "Dataset": "registry",
    "FetchError": "store",
    "ImageData": "images",
    "TextData": "text",
    "content": "store",
    "fetch": "store",
    "load_images": "images",
    "load_text": "text",
    "resolve_dataset": "store",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
