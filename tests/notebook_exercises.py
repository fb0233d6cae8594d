"""The exercises as they stand in the notebooks: stub, solution and check of each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import nbformat
import numpy as np
import pandas as pd
import torch

from robustlib.data.folders import repository_root
from robustlib.study.claims.findings import OVER


@dataclass(frozen=True)
class Exercise:
    """One exercise: its notebook, the check's name, and the functions of the stub and of the solution."""

    notebook: str
    check: str
    stub: Callable
    solution: Callable


def read_exercises() -> dict[str, Exercise]:
    """Every exercise of every notebook, by the name of its check."""
    exercises = {}
    for path in sorted((repository_root() / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        tagged = {"exercise": [], "solution": [], "check": []}
        for cell in nbformat.read(path, as_version=4).cells:
            for tag in cell.metadata.get("tags", []):
                tagged.get(tag, []).append(cell.source)
        for stub, solution, check in zip(*tagged.values(), strict=True):
            name, function = re.fullmatch(r"exercises\.(\w+)\((\w+)\)", check.strip()).groups()
            assert name not in exercises, f"{path.name}: {name} is checked twice"
            exercises[name] = Exercise(path.stem, name, _function(stub, function), _function(solution, function))
    return exercises


def _function(source: str, name: str) -> Callable:
    namespace = {"torch": torch, "np": np, "pd": pd, "math": math, "OVER": OVER}
    exec(source, namespace)
    return namespace[name]
