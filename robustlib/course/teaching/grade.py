"""Grading of handed-in notebooks: their exercises, in a kernel for each notebook, without computing a lesson."""

from __future__ import annotations

import contextlib
import json
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from nbformat import NotebookNode

from robustlib.course.exercises import Judgement
from robustlib.course.run.execute import kernel_environment
from robustlib.course.teaching.sheet import SETUP, Task, predictions, read, tasks
from robustlib.data.progress import progress

COLUMNS = ("student", "notebook", "exercise", "points", "of", "outcome", "slip", "prediction")
_LIMITS = """\
import resource

resource.setrlimit(resource.RLIMIT_AS, ({bytes}, {bytes}))"""
_JUDGE = """\
import json

_judgement = exercises.judge({number!r}, {name})
print({token!r} + json.dumps(vars(_judgement)))"""


def grade_folder(folder: Path, *, seconds: int = 30, memory_mb: int = 8000) -> pd.DataFrame:
    """Judge every notebook below a folder; `student` is the path of its folder, or its own name where that is none.

    A notebook's answers run in a kernel of its own, in an empty folder, with its address space limited; an answer that
    takes longer than `seconds` is wrong. The operating system's rights still apply: grade strangers' work as a user
    who may read nothing else, or in a container.

    Returns:
        A row for each exercise: `points` of `of` (its difficulty), outcome, the slip that was named, and beside the
        first exercise of a notebook its predictions.

    Raises:
        FileNotFoundError: there is no notebook below the folder.
    """
    paths = [path for path in sorted(folder.rglob("*.ipynb")) if ".ipynb_checkpoints" not in path.parts]
    if not paths:
        raise FileNotFoundError(f"no notebook in {folder}: a folder for each student is expected, with notebooks in it")
    rows = []
    for path in progress(paths, description="grading"):
        parent = path.parent.relative_to(folder)
        student = parent.as_posix() if parent.parts else path.stem
        rows += [{"student": student, "notebook": path.stem} | row for row in _grade(path, seconds, memory_mb)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _grade(path: Path, seconds: int, memory_mb: int) -> Iterator[dict[str, Any]]:
    try:
        notebook = read(path)
    except ValueError as error:
        yield {"outcome": "unreadable", "slip": str(error), "points": 0.0, "of": 0}
        return
    chosen = tasks(notebook)
    predicted = "; ".join(f"{name}: {letter or 'none'}" for name, letter in predictions(notebook).items())
    for index, (task, judgement) in enumerate(zip(chosen, judged(chosen, seconds, memory_mb), strict=True)):
        yield {
            "exercise": task.number,
            "of": task.difficulty,
            "points": judgement.points(task.difficulty),
            "outcome": judgement.outcome,
            "slip": judgement.slip,
            "prediction": "" if index else predicted,
        }


def judged(chosen: list[Task], seconds: int, memory_mb: int) -> list[Judgement]:
    """What `exercises.judge` says of each answer, in one kernel."""
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    # What an answer prints cannot pass for a judgement: it does not know the token.
    token = secrets.token_hex(8)
    limits = _LIMITS.format(bytes=memory_mb * 2**20)
    cells = [SETUP, limits]
    for task in chosen:
        cells += [task.code, _JUDGE.format(number=task.number, name=task.name, token=token)]
    run: NotebookNode = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    with tempfile.TemporaryDirectory() as empty, kernel_environment(HOME=empty):
        client = NotebookClient(
            run,
            timeout_func=lambda cell: seconds if cell in run.cells[2:] else 300,  # imports are not the learner's
            extra_arguments=["--log-level=50"],
            startup_timeout=180,
            interrupt_on_timeout=True,
            allow_errors=True,
            kernel_name="python3",
            resources={"metadata": {"path": empty}},
        )
        with contextlib.suppress(DeadKernelError):  # the answers from there on say so
            client.execute()
    return [
        _judgement(task.number, answer, verdict, token)
        for task, answer, verdict in zip(chosen, run.cells[2::2], run.cells[3::2], strict=True)
    ]


def _judgement(number: str, answer: NotebookNode, verdict: NotebookNode, token: str) -> Judgement:
    for output in verdict.get("outputs", []):
        for line in output.get("text", "").splitlines():
            if line.startswith(token):
                return Judgement(**json.loads(line.removeprefix(token)))
    errors = [
        output for cell in (answer, verdict) for output in cell.get("outputs", []) if output.output_type == "error"
    ]
    slip = "its kernel died: out of memory, or ended by the answer"
    if errors and errors[0].ename == "KeyboardInterrupt":
        slip = "it took longer than the time limit"
    elif errors:
        slip = f"the cell raised {errors[0].ename}: {errors[0].evalue}"
    return Judgement(number, "wrong", slip)
