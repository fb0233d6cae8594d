"""The exercises in nbgrader's source format: an assignment a lesson, with checks that give reasons and part credit."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from robustlib.course.exercises import solution_source
from robustlib.course.teaching.sheet import SETUP, Task, lessons, read, tasks
from robustlib.data.folders import replace_file

_PREPARED = "# This folder was made by `python -m robustlib course nbgrader`.\nc = get_config()\n"


def export(target: Path) -> list[Path]:
    """Write `source/LESSON/LESSON.ipynb` for every lesson, and a configuration file unless there is one.

    What nbgrader calls a solution cell holds the sample solution between its markers; `nbgrader generate_assignment`
    turns it into a stub. The check's value is the number of points, which nbgrader takes as partial credit.

    Returns:
        The notebooks written.
    """
    written = []
    for lesson in lessons():
        chosen = tasks(read(lesson))
        path = target / "source" / lesson.stem / lesson.name
        cells = [nbformat.v4.new_markdown_cell(f"# Exercises of lesson {lesson.stem}")]
        cells += [_cell("code", f"setup-{lesson.stem[:2]}", SETUP, locked=True)]
        for task in chosen:
            cells += _graded(task)
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        replace_file(path, nbformat.writes(notebook))
        written.append(path)
    config = target / "nbgrader_config.py"
    if not config.exists():
        replace_file(config, _PREPARED)
    return written


def _graded(task: Task) -> list[NotebookNode]:
    key = f"exercise-{task.number.replace('.', '-')}"
    question = re.sub(r"<details><summary>Sample solution</summary>.*?</details>", "", task.question, flags=re.DOTALL)
    head, *body = solution_source(task.number).split("\n")
    solution = "\n".join([head, "    ### BEGIN SOLUTION", *body, "    ### END SOLUTION"])
    check = f'exercises.credit("{task.number}", {task.name}, {task.difficulty})'
    return [
        _cell("markdown", f"{key}-question", question.strip(), locked=True),
        _cell("code", f"{key}-answer", solution, solution=True),
        _cell("code", f"{key}-check", check, grade=True, points=task.difficulty, locked=True),
    ]


def _cell(kind: str, key: str, source: str, *, points: int | None = None, **facts: bool) -> NotebookNode:
    facts = {name: facts.get(name, False) for name in ("grade", "solution", "locked")}
    about = {"schema_version": 3, "grade_id": key, "task": False, "cell_type": kind, **facts}
    if points is not None:
        about["points"] = points
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    return make(source, metadata={"nbgrader": about})
