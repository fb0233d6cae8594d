"""Ten slides from `teaching/slides.md` and the figures of a run, by nbconvert; and the key of the predictions."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import nbformat

from robustlib.course.teaching.sheet import read
from robustlib.data.folders import replace_file, repository_root

_MEASURED = re.compile(r"(?:The measurement says: |You predicted )(.*)")


def slides(target: Path, results: Path) -> int:
    """Write one HTML file with the figures inside it; reveal.js is loaded from the network when it is shown.

    Returns:
        The number of slides.

    Raises:
        FileNotFoundError: a figure that the results do not have; the message says what makes it.
    """
    from nbconvert import SlidesExporter

    parts = (repository_root() / "teaching" / "slides.md").read_text(encoding="utf-8").split("\n---\n")
    cells = []
    for part in parts:
        cell = nbformat.v4.new_markdown_cell(part.strip(), metadata={"slideshow": {"slide_type": "slide"}})
        for name in re.findall(r"!\[\]\((\S+\.png)\)", part):
            figure = results / "figures" / name
            if not figure.is_file():
                raise FileNotFoundError(f"{figure} is missing: ./run_all.sh quick --only {name[:2]} makes it")
            cell.setdefault("attachments", {})[name] = {"image/png": base64.b64encode(figure.read_bytes()).decode()}
            cell.source = cell.source.replace(f"({name})", f"(attachment:{name})")
        cells.append(cell)
    page, _ = SlidesExporter().from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    replace_file(target, page)
    return len(cells)


def key(results: Path) -> dict[str, list[str]]:
    """What the executed lessons of a run say to each prediction, by lesson.

    Raises:
        FileNotFoundError: there are no executed lessons; the message says what makes them.
    """
    executed = sorted((results / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not executed:
        raise FileNotFoundError(f"no executed lessons in {results / 'notebooks'}: ./run_all.sh quick makes them")
    found: dict[str, list[str]] = {}
    for path in executed:
        for cell in read(path).cells:
            for output in cell.get("outputs", []):
                measured = _MEASURED.search(output.get("data", {}).get("text/markdown", ""))
                if measured:
                    found.setdefault(path.stem, []).append(re.sub(r"[*.]", "", measured[1]).strip())
    return found
