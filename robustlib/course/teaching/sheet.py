"""What a lecturer takes out of the lessons: exercises alone, predictions, and what a run needs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from robustlib.course.exercises import EXERCISES
from robustlib.data.folders import repository_root

SETUP = """\
import math

import numpy as np
import pandas as pd
import torch
from robustlib.course import exercises
from robustlib.study.claims.findings import OVER"""
_HEADING = re.compile(r"### Exercise (\d+\.\d+):.*?difficulty (\d)/5")
_CHECK = re.compile(r'(\w+) = exercises\.check\("([\d.]+)"')
_PREDICTION = re.compile(r"^(\w*prediction) *= *(.*?)(?: *#.*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Task:
    """One exercise as it stands in a notebook: the question, and the code between it and its check."""

    number: str
    name: str  # of the learner's function
    difficulty: int  # 1 to 5, which are its points
    question: str
    code: str


def lessons() -> list[Path]:
    """The numbered notebooks of the course."""
    return sorted((repository_root() / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def tasks(notebook: NotebookNode) -> list[Task]:
    """The exercises of a notebook in order; one whose question or check was deleted is left out."""
    found, question, code = [], "", []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            if _HEADING.search(cell.source):
                question, code = cell.source, []
        elif cell.cell_type == "code" and question:
            check = _CHECK.search(cell.source)
            if check is None:
                code.append(cell.source)
                continue
            number, difficulty = _HEADING.search(question).groups()
            if check[2] == number and number in EXERCISES:
                found.append(Task(number, check[1], int(difficulty), question, "\n\n".join(code)))
            question = ""
    return found


def predictions(notebook: NotebookNode) -> dict[str, str]:
    """What was predicted, by the name of the variable: a letter, or "" where nothing is."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    letters = {name: value.strip("\"' ").lower() for name, value in _PREDICTION.findall(code)}
    return {name: "" if letter == "none" else letter for name, letter in letters.items()}


def read(path: Path) -> NotebookNode:
    """A notebook file.

    Raises:
        ValueError: it is no notebook.
    """
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises what its parsers raise
        raise ValueError(f"{path} is no notebook: {error}") from error


def machines(results: Path) -> str:
    """A Markdown table of what each lesson took in a run: minutes, and memory at its highest (of the kernel, RSS).

    Raises:
        FileNotFoundError: the results hold no run; the message says what makes one.
    """
    path = results / "run.json"
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: ./run_all.sh quick makes it")
    rows = ["| lesson | minutes | memory (GB) |", "|---|---:|---:|"]
    for name, entry in sorted(json.loads(path.read_text(encoding="utf-8"))["notebooks"].items()):
        if entry.get("seconds") and entry.get("peak_memory_mb"):
            rows.append(f"| {name[:2]} | {entry['seconds'] / 60:.1f} | {entry['peak_memory_mb'] / 1024:.1f} |")
    return "\n".join(rows)
