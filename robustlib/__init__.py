"""Mechanics of the study "is it robust, or only miscalibrated?"; the notebooks tell the story."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`robustlib.audit` without importing PyTorch before it is asked for."""
    if name == "audit":
        from importlib import import_module

        return import_module("robustlib.audit")
    raise AttributeError(f"module 'robustlib' has no attribute {name!r}")
