"""Copies of the lessons for students, who may change and run them without touching the course or its results."""

from __future__ import annotations

from pathlib import Path

import nbformat

from robustlib.course.teaching.sheet import lessons, read
from robustlib.data.folders import repository_root, writable

_OWN_RESULTS = """\
# Your own copy: what it records stays beside it, in results/, and never reaches the published numbers.
import os

os.environ.setdefault("ROBUSTLIB_RESULTS", os.path.abspath("results"))"""


def student_folder(target: Path) -> list[Path]:
    """Put copies of the lessons and the glossary into a folder; what is there already is never overwritten.

    Returns:
        The files written.

    Raises:
        ReadOnlyFolderError: the folder cannot be written to.
    """
    writable(target)
    written = []
    for lesson in lessons():
        copy = target / lesson.name
        if copy.exists():
            continue
        notebook = read(lesson)
        tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
        after = next(index for index, names in enumerate(tags) if "parameters" in names) + 1
        notebook.cells.insert(after, nbformat.v4.new_code_cell(_OWN_RESULTS, metadata={"tags": ["own-results"]}))
        nbformat.write(notebook, copy)
        written.append(copy)
    glossary = target / "glossary.md"
    if not glossary.exists():
        glossary.write_bytes((repository_root() / "notebooks" / "glossary.md").read_bytes())
        written.append(glossary)
    return written
