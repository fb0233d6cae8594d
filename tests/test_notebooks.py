"""Every notebook runs in the smallest profile, its numbers agree with each other, and its anatomy is right."""

import ast
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import papermill
import pytest
from nbconvert import MarkdownExporter
from safetensors import safe_open

from robustlib.data.folders import repository_root
from robustlib.study.plan import units_of
from robustlib.study.pool import compute

NOT_STATED = ("cal:", "blind:")  # adversaries that only the notebook knows: what they do depends on another's result
BEFOREHAND = ("00_first_result", "02_illusion_of_robustness", "05_text_illusion")  # all would take ten minutes
NOTEBOOKS = sorted((repository_root() / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One cache and one results folder for all notebooks; the units of `BEFOREHAND` are computed first, as in a run."""
    folder = tmp_path_factory.mktemp("notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTLIB_CACHE", str(folder / "cache"))
        patch.setenv("ROBUSTLIB_RESULTS", str(folder / "results"))
        outcome = compute([unit for stem in BEFOREHAND for unit in units_of(stem, "smoke")], workers=2)
        assert (outcome.left, outcome.failures) == ([], {})
        yield folder / "results" / "smoke"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_and_its_records_are_consistent(path, results):
    results.mkdir(parents=True, exist_ok=True)
    options = {"cwd": path.parent, "kernel_name": "python3", "progress_bar": False}
    before = computed_so_far()
    executed = papermill.execute_notebook(path, results.parent / path.name, parameters={"profile": "smoke"}, **options)
    if path.stem in BEFOREHAND:
        assert not [entry for entry in computed_so_far() - before if not entry.startswith(NOT_STATED)]
    shown, _ = MarkdownExporter(exclude_input=True, exclude_markdown=True).from_notebook_node(executed)
    assert not re.search(r"\bnan\b", shown, flags=re.IGNORECASE), "a result is NaN"
    figures = list((results / "figures").glob(f"{path.stem[:2]}_*.png"))
    assert figures
    assert all(figure.stat().st_size > 5000 for figure in figures)
    if executed.metadata.get("robustlib", {}).get("reads_records"):  # it judges what the others have recorded
        return
    frame = pd.read_csv(results / "records" / f"{path.stem}-seed0.csv")
    assert len(frame) > 0
    shares = frame[frame.metric == "accuracy"]
    assert shares["mean"].between(0, 100).all()
    bounded = shares.dropna(subset=["low", "high"])
    assert bounded["mean"].between(bounded.low, bounded.high).all()
    assert frame["n"].gt(0).all()


def computed_so_far() -> set[str]:
    """Models and evaluations in the cache: adversary of an evaluation, and where it lies."""
    entries = set()
    for path in (Path(os.environ["ROBUSTLIB_CACHE"])).glob("*/*.safetensors"):
        with safe_open(path, framework="pt") as file:
            config = json.loads(file.metadata()["about"])["config"]
        if path.parent.name in ("evaluation", "image_model", "text_model"):
            entries.add(f"{config.get('adversary', path.parent.name)} {path.name}")
    return entries


def cells(path, kind):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def is_folded(cell) -> bool:
    return cell.metadata.get("jupyter", {}).get("source_hidden", False)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_anatomy(path):
    notebook = nbformat.read(path, as_version=4)
    code, prose = cells(path, "code"), cells(path, "markdown")
    text = "\n".join(cell.source for cell in prose)
    assert notebook.metadata.kernelspec.name == "python3"
    (parameters,) = (cell for cell in code if "parameters" in (cell.metadata.get("tags") or []))
    lines = [line.split("  #")[0] for line in parameters.source.splitlines()]
    assert lines[:3] == ['profile = "quick"', "seed = 0", "solutions = False"]  # numbers come from the profile
    assert all(re.fullmatch(r'\w+ = (""|0\.0)', line) for line in lines[3:]), "a default that is not empty"
    assert not any(cell.outputs or cell.execution_count for cell in code), "committed with outputs"
    folded = [cell for cell in code if {"check"} & set(cell.metadata.get("tags", [])) or is_folded(cell)]
    assert len(prose) >= 0.8 * (len(code) - len(folded))
    if any(map(is_folded, code)):  # then all that gives an answer away is
        assert all(is_folded(cell) for cell in code if "notebook.reveal(" in cell.source), (
            "a reveal is read before it runs"
        )
    functions = (
        node for cell in code for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.FunctionDef)
    )
    assert not any("notebook.reveal(" in ast.unparse(node) for node in functions), "pages fold cells that reveal"
    assert max(len(cell.source.splitlines()) for cell in code) <= 30
    parts = ["**One question", "You will be able to", "**Needs**", "**Time**", "**Paper**", "Your prediction"]
    for part in (*parts, "## What this does not show", "*Further reading.*"):
        assert part in text, f"{part} is missing"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_exercises_have_a_stub_and_a_check_directly_below_it(path):
    code = cells(path, "code")
    tags = [(cell.metadata.get("tags") or [""])[0] for cell in code]
    stubs = [index for index, tag in enumerate(tags) if tag == "exercise"]
    titles = re.findall(
        r"### Exercise \d+\.\d+: .+\(\w+, \d+ min, difficulty \d/5\)",
        "\n".join(cell.source for cell in cells(path, "markdown")),
    )
    assert len(stubs) == len(titles) >= 2
    for index in stubs:
        assert tags[index : index + 2] == ["exercise", "check"]
        name = re.fullmatch(r"def (\w+)\(.*\): \.\.\.", code[index].source)[1]
        assert re.fullmatch(rf'{name} = exercises\.check\("\d+\.\d+", {name}\)', code[index + 1].source)


def test_the_sweep_of_lesson_09_is_read_from_the_lowest_temperature_to_the_highest():
    """Main rows are trained first, so records come as T = 1, 100, 1000, 10: ends read by position were not the ends."""
    path = next(path for path in NOTEBOOKS if path.stem.startswith("09_"))
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    (source,) = [text for text in cells if text.startswith("def sweep_facts(")]
    space = {"pd": pd, "STAR": "starred"}
    exec(source.split("\n\n\n")[0], space)
    order = [1.0, 100.0, 1000.0, 10.0]
    common = {"method": "starred", "adversary": "margin", "attack": "pgd", "training_temperature": order}
    rows = [common | {"metric": name, "mean": order} for name in ("training_loss", "logit_range", "accuracy")]
    lesson = SimpleNamespace(records=pd.concat(map(pd.DataFrame, rows)), main_attack="pgd")
    facts = space["sweep_facts"](lesson)
    assert [*facts.index] == [*facts["logit_range"]] == sorted(order)
