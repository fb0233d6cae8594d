"""The course: its plan, its links, and the scorecard lesson with few records or none."""

import io
import json
import re
import tomllib
from contextlib import redirect_stdout
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from record_rows import write_made_up_records

from robustlib.course.links import badges
from robustlib.data.registry import DATASETS

ROOT = Path(__file__).resolve().parent.parent
PLANS = {folder: (ROOT / folder / "README.md").read_text(encoding="utf-8") for folder in ("notebooks", "teaching")}
PLAN = PLANS["notebooks"]
ADDRESS = "https://github.com/some-one/a.study"


@pytest.fixture
def project(tmp_path):
    def write(address: str) -> Path:
        (tmp_path / "pyproject.toml").write_text(f'[tool.robustlib]\nrepository = "{address}"\nbranch = "dev"')
        return tmp_path / "pyproject.toml"

    return write


@pytest.mark.parametrize("address", [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}.git"])
def test_badges_are_made_from_the_address(project, address):
    colab, binder = badges(project(address)).splitlines()
    notebook = "notebooks/00_first_result.ipynb"
    assert colab.endswith(f"](https://colab.research.google.com/github/some-one/a.study/blob/dev/{notebook})")
    assert binder.endswith(f"](https://mybinder.org/v2/gh/some-one/a.study/dev?urlpath=lab/tree/{notebook})")
    assert (ROOT / notebook).exists()


@pytest.mark.parametrize("address", ["github.com/a/b", "https://github.com/only-owner", "git@github.com:a/b", "x y"])
def test_an_address_that_is_none_is_an_error(project, address):
    with pytest.raises(ValueError, match=r"expected https://github\.com/OWNER/NAME"):
        badges(project(address))


def test_readme_has_the_badges_where_there_is_an_address():
    readme, lines = (ROOT / "README.md").read_text(encoding="utf-8"), badges(ROOT / "pyproject.toml")
    assert lines in readme
    assert ("colab.research.google.com" in readme) == bool(lines)


def test_binder_installs_the_same_requirements_on_a_python_that_we_support():
    lines = (ROOT / "binder" / "requirements.txt").read_text().splitlines()
    assert "-r ../requirements.txt" in lines
    version = (ROOT / "binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert tuple(map(int, version.split("."))) >= tuple(map(int, lowest.split(".")))
    script = ROOT / "binder" / "postBuild"
    assert script.stat().st_mode & 0o111
    (names,) = re.findall(r"for name in (.+); do", script.read_text())
    assert set(names.split()) <= set(DATASETS)


def test_the_plan_names_every_lesson_and_links_to_what_exists():
    for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"):
        assert path.stem in PLAN, f"{path.name} is not in the course plan"
    for folder, text in PLANS.items():
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (ROOT / folder / link).exists(), link


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")), ids=lambda path: path.stem)
def test_the_minutes_of_the_plan_are_those_of_the_lesson(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    text = "\n".join(cell.source for cell in cells)
    (row,) = (line for line in PLAN.splitlines() if path.stem in line and " min |" in line)
    read, exercises = (int(cell.split()[0]) for cell in row.split("|")[4:6])
    assert read == int(re.search(r"\*\*Time\*\* \| (\d+) minutes", text)[1])
    assert exercises == sum(map(int, re.findall(r"### Exercise .+?(\d+) min", text)))


def run_lesson(results: Path, monkeypatch) -> tuple[str, dict]:
    """What lesson 14 says in a folder of results, run without a kernel, and its variables."""
    monkeypatch.setenv("ROBUSTLIB_RESULTS", str(results))
    shown = []
    monkeypatch.setattr("robustlib.course.notebook.say", shown.append)
    shell = InteractiveShell()
    printed = io.StringIO()
    with redirect_stdout(printed):
        for cell in json.loads((ROOT / "notebooks" / "14_scorecard.ipynb").read_text())["cells"]:
            if cell["cell_type"] == "code":
                source = "".join(cell["source"]).replace('profile = "quick"', 'profile = "smoke"')
                shell.run_cell(source).raise_error()
    return "\n".join([*shown, printed.getvalue()]), shell.user_ns


def test_without_records_the_published_ones_are_shown_and_this_is_said(tmp_path, monkeypatch):
    text, world = run_lesson(tmp_path, monkeypatch)
    assert "Below you see the **published** records of profile" in text
    assert len(world["tested"]) > 20
    assert "There is only one run to look at" in text
    assert len(world["pairs"]) > 0
    figures = {path.stem for path in (tmp_path / "smoke" / "figures").iterdir()}
    assert figures == {"14_verdicts", "14_hides_and_pierces", "14_removal", "14_share"}


def test_without_any_records_every_claim_is_listed_as_not_tested(tmp_path, monkeypatch):
    root = tmp_path / "empty"
    (root / "notebooks").mkdir(parents=True)
    (root / "run_all.sh").touch()
    monkeypatch.setenv("ROBUSTLIB_ROOT", str(root))
    text, world = run_lesson(tmp_path, monkeypatch)
    assert set(world["card"].verdict) == {"not tested"}
    assert "needs the image notebooks | `./run_all.sh smoke`" in text
    assert "No claim could be tested" in text
    assert not re.search(r"\bnan\b", text)


def test_with_few_records_only_what_they_say_is_judged(tmp_path, monkeypatch):
    write_made_up_records(tmp_path / "smoke")
    text, world = run_lesson(tmp_path, monkeypatch)
    assert list(world["tested"].claim) == ["C1"]
    assert "this machine's results for profile smoke" in text
    assert not re.search(r"\bnan\b", text)
