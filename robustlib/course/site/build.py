"""Writes the files of the static site."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from robustlib.course.links import links, site_address
from robustlib.course.site.card import NAME, SIZE, draw_card
from robustlib.course.site.glossary import PAGE, read_terms
from robustlib.course.site.index import index_content
from robustlib.course.site.lessons import read_lesson
from robustlib.course.site.origin import citations, describe_lesson, describe_origin
from robustlib.data.folders import repository_root
from robustlib.study.claims.judge import Scorecard, judge_claims
from robustlib.study.records import load_records, newest_results

LARGEST_PAGE = 5_000_000  # bytes, figures not counted: they are files of their own
_HERE = Path(__file__).parent


def build_site(results: Path, output: Path | None = None, *, judged: Scorecard | None = None) -> Path:
    """Build the site of one results folder in `output` (default: `results/site`) and return its index.

    What is missing in the folder is left out of the site; what an earlier build left is replaced. `judged`: its claims,
    where somebody has judged them already.

    FileNotFoundError: no such results folder; ValueError: a stored file is damaged, a page would be larger than
    LARGEST_PAGE, or `output` holds other files.
    """
    if not results.is_dir():
        raise FileNotFoundError(f"no results in {results}: run the notebooks first, ./run_all.sh")
    output = output or results / "site"
    if output.exists() and any(output.iterdir()) and not (output / "menus.js").exists():
        raise ValueError(f"{output} holds something else than a site and would be replaced: name another folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    # Built beside it and then put in its place, so that a build that fails leaves the last one as it was.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".site-") as folder:
        fresh = Path(folder) / "site"
        shutil.copytree(_HERE / "static", fresh)
        _write_pages(results, fresh, judged or judge_claims(load_records(results)))
        if output.exists():
            shutil.rmtree(output)
        fresh.rename(output)
    return output / "index.html"


def _write_pages(results: Path, site: Path, judged: Scorecard) -> None:
    figures = site / "figures"
    figures.mkdir()
    notebooks = sorted((results / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    root = repository_root()
    glossary = root / "notebooks" / "glossary.md"
    terms = read_terms(glossary.read_text(encoding="utf-8")) if notebooks and glossary.is_file() else ()
    pages = {path.name: f"{path.stem}.html" for path in notebooks} | {"SCORECARD.md": "index.html#scorecard"}
    pages |= {"glossary.md": PAGE} if terms else {}
    lessons = [read_lesson(path, figures, pages=pages, terms=terms) for path in notebooks]
    sliders = [(lesson, slider) for lesson in lessons for slider in lesson.sliders]
    loader = jinja2.FileSystemLoader(_HERE / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    content = index_content(judged) | {"has_csv": (results / "scorecard.csv").exists()}
    title, pyproject = "Is it robust, or only miscalibrated?", root / "pyproject.toml"
    shown = draw_card(site / NAME, title, content["headline"])
    card = {"address": f"{site_address(pyproject)}{NAME}", "alt": shown, "size": SIZE}
    common = {"lessons": lessons, "sliders": sliders, "origin": describe_origin(judged.records, results.name)}
    common |= {"card": card, "glossary": PAGE if terms else ""}

    def write(template: str, page: str, **content: Any) -> None:
        text = environment.get_template(template).render(page=page, **common, **content)
        size = len(text.encode())
        if size > LARGEST_PAGE:
            raise ValueError(f"{page} would take {size} bytes, more than {LARGEST_PAGE}")
        (site / page).write_text(text, encoding="utf-8")

    for index, lesson in enumerate(lessons):
        write(
            "lesson.html",
            lesson.page,
            lesson=lesson,
            title=lesson.title,
            description=lesson.question,
            measured=describe_lesson(judged.records, lesson.stem),
            links=links(pyproject, f"notebooks/{lesson.stem}.ipynb"),
            previous=lessons[index - 1] if index else None,
            next=dict(enumerate(lessons)).get(index + 1),
        )
    for lesson, slider in sliders:
        about = {
            "title": slider.name,
            "description": slider.about,
            "measured": describe_lesson(judged.records, lesson.stem),
        }
        write("slider.html", slider.page, lesson=lesson, slider=slider, **about)
    if terms:
        description = "Every term of the course, on one page."
        write("glossary.html", PAGE, terms=terms, title="Glossary", description=description)
    if content["has_csv"]:
        shutil.copy(results / "scorecard.csv", site)
    description = "An interactive study of the illusion of adversarial robustness: scorecard, lessons, sliders."
    gallery = [] if lessons else _gallery(results / "figures", figures)
    first = next((slider.body for _, slider in sliders if slider.source == "illusion"), "")
    content |= {"figures": gallery, "first": first, "citations": citations(root / "CITATION.cff")}
    write("index.html", "index.html", title=title, description=description, **content)


def _gallery(source: Path, target: Path) -> list[dict[str, Any]]:
    figures = []
    for path in sorted(source.glob("*.png")):
        with Image.open(path) as picture:
            width, height = picture.size
        shutil.copy(path, target)
        title = path.stem.replace("_", " ")
        figures.append({"path": f"{target.name}/{path.name}", "title": title, "width": width, "height": height})
    return figures


def main(argv: list[str]) -> int:
    """`python -m robustlib site`: build the static site of a results folder."""
    parser = argparse.ArgumentParser(prog="python -m robustlib site", description=main.__doc__)
    folder = {"type": Path, "metavar": "FOLDER"}
    parser.add_argument("--results", **folder, help="results folder; default: the newest results there are")
    parser.add_argument("--output", **folder, help="where the site goes; default: site/ in there")
    arguments = parser.parse_args(argv)
    print(build_site(arguments.results or newest_results(), arguments.output))
    return 0
