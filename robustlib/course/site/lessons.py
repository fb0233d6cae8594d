"""An executed notebook as the body of a page: prose, code, tables and figures, without a kernel's leftovers."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from robustlib.course.exercises import solution_source
from robustlib.course.site.glossary import Explainer, Term
from robustlib.course.site.markdown import scrolling_tables, subscripts, to_html

WIDGET = "application/vnd.jupyter.widget-view+json"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_SOLUTION = re.compile(r"<details><summary>Sample solution</summary>.*?</details>", re.DOTALL)
_WIDE = 2.4  # a figure of several panels: on a phone it scrolls in its box instead of shrinking to nothing


@dataclass(frozen=True)
class Slider:
    """A slider of a lesson, which has a page of its own: what `widgets.Slider` says of itself, and its HTML."""

    page: str
    source: str
    name: str
    title: str
    about: str
    body: str


@dataclass(frozen=True)
class Lesson:
    """One notebook as a page; `sections` are (anchor, text) of its second-level headings, `body` is HTML."""

    stem: str
    page: str
    title: str
    question: str
    sections: tuple[tuple[str, str], ...]
    body: str
    failed: bool
    sliders: tuple[Slider, ...]

    @property
    def number(self) -> str:
        return self.stem[:2]


def read_lesson(notebook: Path, figures: Path, *, pages: dict[str, str], terms: tuple[Term, ...] = ()) -> Lesson:
    """Turn an executed notebook into a page; its figures are written to the folder `figures`.

    `pages`: page of each notebook, by the notebook's file name; `terms`: words to explain where they are first used.

    ValueError: the file holds no notebook.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{notebook} is damaged ({error}): run it again") from error
    injected = any("injected-parameters" in _tags(cell) for cell in cells)
    page, explainer = _Page(notebook.stem, figures, pages), Explainer(terms)
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text = _SOLUTION.sub("", source)  # a page shows it, a notebook says how to
            page.parts.append(explainer.explain(to_html(text, pages=pages)))
        elif cell["cell_type"] == "code" and source.strip() and not (injected and "parameters" in _tags(cell)):
            hidden = cell["metadata"].get("jupyter", {}).get("source_hidden", False)
            page.add_code(source, _tags(cell), cell["outputs"], hidden=hidden)
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    title = re.search(r"^# (.+)$", prose, re.MULTILINE)
    question = re.search(r"\*\*One question: (.+?)\*\*", prose, re.DOTALL)
    asked = " ".join(question[1].split()) if question else ""
    body = subscripts("\n".join(page.parts))
    plain = re.sub(r"<math.*?</math>", lambda match: re.sub(r"<[^>]+>", "", match[0]), body, flags=re.DOTALL)
    return Lesson(
        stem=notebook.stem,
        page=pages[notebook.name],
        title=title[1].strip() if title else notebook.stem,
        question=asked[:1].upper() + asked[1:],
        sections=tuple(re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', plain)),
        body=body,
        failed=page.failed,
        sliders=tuple(page.sliders),
    )


class _Page:
    """HTML parts of one page, in order, and the figures written on the way."""

    def __init__(self, stem: str, figures: Path, pages: dict[str, str]) -> None:
        self.stem, self.figures, self.pages = stem, figures, pages
        self.parts: list[str] = []
        self.sliders: list[Slider] = []
        self.failed = False
        self._count = 0

    def add_code(self, source: str, tags: list[str], outputs: list[dict[str, Any]], *, hidden: bool) -> None:
        """`hidden`: a cell that only tells the outcome; its code says nothing that its output does not."""
        code = _highlighted(source.removeprefix("# Parameters\n"))
        if "exercise" not in tags:
            code = f'<details class="source"><summary>Code</summary>\n{code}\n</details>'
        self.parts += [] if hidden else [code]
        shown = [
            self._figure(output) if "image/png" in output.get("data", {}) else self._output(output)
            for output in outputs
        ]
        if "notebook.reveal(" in source:  # whoever scrolls by has not answered yet
            shown = ['<details class="reveal"><summary>What was measured</summary>', *shown, "</details>"]
        self.parts += shown
        checked = re.search(r'exercises\.check\("([\d.]+)"', source) if "check" in tags else None
        if checked:
            inside = _highlighted(solution_source(checked[1]))
            self.parts.append(f'<details class="solution"><summary>Sample solution</summary>\n{inside}\n</details>')

    def _output(self, output: dict[str, Any]) -> str:
        kind = output["output_type"]
        if kind == "stream":
            # stderr holds progress bars, which mean something only while they move
            return "" if output["name"] == "stderr" else _text("".join(output["text"]))
        if kind == "error":
            self.failed = True
            return _text("\n".join(output["traceback"]), "error")
        data = {mime: "".join(value) if isinstance(value, list) else value for mime, value in output["data"].items()}
        about = output["metadata"].get("robustlib")
        if about:
            before = sum(slider.source == about["source"] for slider in self.sliders)
            name = f"{about['source'].replace('_', '-')}-{self.stem[:2]}" + (f"-{before + 1}" if before else "")
            self.sliders.append(Slider(page=f"{name}.html", body=data["text/html"], **about))
            return data["text/html"]
        if WIDGET in data:
            return '<p class="live">This widget needs a running notebook.</p>'
        if "text/html" in data:
            return scrolling_tables(re.sub(r"<(style|script)\b.*?</\1>", "", data["text/html"], flags=re.DOTALL))
        if "text/markdown" in data:
            return to_html(data["text/markdown"], pages=self.pages)
        return _text(data.get("text/plain", ""))

    def _figure(self, output: dict[str, Any]) -> str:
        """A figure that can be enlarged, with the words that `plots.show` computed from what is drawn."""
        self._count += 1
        png, about = base64.b64decode("".join(output["data"]["image/png"])), output["metadata"].get("image/png", {})
        number = f"Figure {self._count}."
        caption = f"{number} {about.get('caption', '')}".strip()
        alt = html.escape(f"{number} {about.get('alt', '')}".strip(), quote=True)
        width, height = Image.open(io.BytesIO(png)).size
        path = self.figures / f"{self.stem}-{self._count}.png"
        path.write_bytes(png)
        wide = ' class="wide"' if width > _WIDE * height else ""
        address = f"{self.figures.name}/{path.name}"
        return (
            f'<figure><a href="{address}"><img{wide} src="{address}" width="{width}" height="{height}" alt="{alt}"></a>'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )


def _tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def _text(text: str, kind: str = "output") -> str:
    escaped = html.escape(_COLOUR.sub("", text).rstrip())
    return f'<pre class="{kind}" tabindex="0">{escaped}</pre>' if escaped else ""


def _highlighted(source: str) -> str:
    code = highlight(source, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip()
    return f'<pre class="code" tabindex="0"><code>{code}</code></pre>'
