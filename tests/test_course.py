"""The course: its plan, its links, and the scorecard lesson with few records or none."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from robustlib.__main__ import main
from robustlib.calibration.fit import fit_temperature
from robustlib.course import exercises
from robustlib.course import links as course
from robustlib.data.registry import DATASETS
from robustlib.models.forward import logits_of

ROOT = Path(__file__).resolve().parent.parent
PLAN = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
ADDRESS = "https://github.com/some-one/a.study"


# --- links -----------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """A repository with two lessons, and `repository` as its only setting."""

    def write(
        address: str, readme: str = "", plan: str = f"before\n{course.BEGIN}\nold\n{course.END}\nafter\n"
    ) -> Path:
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        for name in ("00_first_result", "05_text_illusion"):
            (tmp_path / "notebooks" / f"{name}.ipynb").touch()
        (tmp_path / "run_all.sh").touch()
        (tmp_path / "pyproject.toml").write_text(f'[tool.robustlib]\nrepository = "{address}"\n')
        (tmp_path / "README.md").write_text(readme)
        (tmp_path / "notebooks" / "README.md").write_text(plan)
        return tmp_path

    return write


@pytest.mark.parametrize("address", [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}.git"])
def test_links_are_made_from_the_address(checkout, address):
    root = checkout(address)
    assert course.write_links(root) == [root / "notebooks" / "README.md"]
    text = (root / "notebooks" / "README.md").read_text()
    assert text.startswith(f"before\n{course.BEGIN}\n| lesson | Colab | Binder |")
    assert text.endswith(f"{course.END}\nafter\n")
    assert (
        "| 05 text illusion | [open](https://colab.research.google.com/github/some-one/a.study/blob/main/"
        "notebooks/05_text_illusion.ipynb) | [open](https://mybinder.org/v2/gh/some-one/a.study/main"
        "?urlpath=lab%2Ftree%2Fnotebooks%2F05_text_illusion.ipynb) |"
    ) in text
    assert f"!git clone --quiet --depth 1 {ADDRESS} study\n%cd study/notebooks\n%pip install --quiet ..\n" in text
    assert course.write_links(root)
    assert (root / "notebooks" / "README.md").read_text() == text, "a second call changes nothing"


@pytest.mark.parametrize(
    ("address", "binder"),
    [
        ("https://gitlab.com/group/sub/study", "gl/group%2Fsub%2Fstudy/main?"),
        ("https://git.example.org/us/study", "git/https%3A%2F%2Fgit.example.org%2Fus%2Fstudy/main?"),
    ],
)
def test_colab_opens_github_only(checkout, address, binder):
    text = course.links_section(checkout(address))
    assert "colab.research" not in text
    assert text.count("paste the cell below") == 2
    assert f"https://mybinder.org/v2/{binder}" in text


def test_without_an_address_there_are_no_links_and_the_text_says_what_to_set(checkout, monkeypatch, capsys):
    root = checkout("", readme=f"{course.BEGIN}\n{course.END}")
    monkeypatch.setenv("ROBUSTLIB_ROOT", str(root))
    assert main(["links"]) == 0
    assert "No address is set" in capsys.readouterr().out
    for path in (root / "README.md", root / "notebooks" / "README.md"):
        assert "[tool.robustlib]" in path.read_text()
        assert "python -m robustlib links" in path.read_text()
        assert "](http" not in path.read_text()


@pytest.mark.parametrize("address", ["github.com/a/b", "https://github.com/only-owner", "git@github.com:a/b", "x y"])
def test_an_address_that_is_none_is_an_error(checkout, monkeypatch, address, capsys):
    root = checkout(address)
    before = (root / "notebooks" / "README.md").read_text()
    with pytest.raises(ValueError, match="expected https://host/owner/name"):
        course.links_section(root)
    monkeypatch.setenv("ROBUSTLIB_ROOT", str(root))
    assert main(["links"]) == 2
    assert "repository = " in capsys.readouterr().err
    assert (root / "notebooks" / "README.md").read_text() == before


@pytest.mark.parametrize("plan", ["", course.BEGIN, f"{course.END}\n{course.BEGIN}", f"{course.BEGIN}{course.END}" * 2])
def test_without_markers_nothing_is_written(checkout, plan):
    root = checkout(ADDRESS, plan=plan)
    with pytest.raises(ValueError, match="neither README"):
        course.write_links(root)
    assert (root / "notebooks" / "README.md").read_text() == plan


def test_the_links_of_this_repository_are_those_of_its_setting():
    assert f"{course.BEGIN}\n{course.links_section(ROOT)}\n{course.END}" in PLAN


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


# --- the plan --------------------------------------------------------------------------------------------------


def test_the_plan_names_every_lesson_and_links_to_what_exists():
    for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"):
        assert path.stem in PLAN, f"{path.name} is not in the course plan"
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", PLAN):
        assert (ROOT / "notebooks" / link).exists(), link


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")), ids=lambda path: path.stem)
def test_the_minutes_of_the_plan_are_those_of_the_lesson(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    text = "\n".join(cell.source for cell in cells)
    (row,) = (line for line in PLAN.splitlines() if path.stem in line and " min |" in line)
    read, exercises = (int(cell.split()[0]) for cell in row.split("|")[4:6])
    assert read == int(re.search(r"\*\*Time\*\* \| (\d+) minutes", text)[1])
    assert exercises == sum(map(int, re.findall(r"### Exercise .+?(\d+) min", text)))


@pytest.mark.parametrize("command", sorted(set(re.findall(r"\./run_all\.sh[^`\n]*", PLAN))))
def test_the_commands_of_the_plan_work(command):
    words = [*shlex.split(command), "--no-venv", "--dry-run"]
    environ = {**os.environ, "PYTHON": sys.executable}
    answer = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_assignment_can_be_handed_out_and_solved(tmp_path, monkeypatch):
    """Its code, in the smallest profile: three models with the same predictions, whose temperatures can be found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROBUSTLIB_ROOT", str(ROOT))
    blocks = [
        b for b in re.findall(r"^```python\n(.*?)^```", PLAN, flags=re.DOTALL | re.MULTILINE) if "safetensors" in b
    ]
    teacher, student = (block.replace('"quick"', '"smoke"') for block in blocks)
    exec(teacher, {})
    found = {}
    for name in "abc":
        world = {}
        exec(student.replace("model_b", f"model_{name}"), world)
        study = world["study"]
        found[name] = logits_of(world["model"], study.validation_inputs)
    labels = study.validation_labels
    assert torch.equal(found["a"].argmax(1), found["b"].argmax(1))
    assert torch.equal(found["a"].argmax(1), found["c"].argmax(1))
    fitted = {name: fit_temperature(logits, labels).temperature for name, logits in found.items()}
    assert fitted["a"] / fitted["b"] == pytest.approx(0.002, rel=1e-3)
    assert fitted["a"] / fitted["c"] == pytest.approx(300_000, rel=1e-3)


# --- lesson 13 with few records, or none -----------------------------------------------------------------------


def run_lesson(results: Path, monkeypatch) -> tuple[str, dict]:
    """What lesson 13 says in a folder of results, run without a kernel, and its variables."""
    monkeypatch.setenv("ROBUSTLIB_RESULTS", str(results))
    shown = []
    monkeypatch.setattr("robustlib.course.notebook.say", shown.append)
    shell = InteractiveShell()
    printed = io.StringIO()
    with redirect_stdout(printed):
        for cell in json.loads((ROOT / "notebooks" / "13_scorecard.ipynb").read_text())["cells"]:
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
    assert {path.stem for path in (tmp_path / "smoke" / "figures").iterdir()} == {
        "13_verdicts",
        "13_removal",
        "13_margin",
    }


def test_without_any_records_every_claim_is_listed_as_not_tested(tmp_path, monkeypatch):
    root = tmp_path / "empty"
    (root / "notebooks").mkdir(parents=True)
    (root / "run_all.sh").touch()
    monkeypatch.setenv("ROBUSTLIB_ROOT", str(root))
    text, world = run_lesson(tmp_path, monkeypatch)
    assert set(world["card"].verdict) == {"not tested here"}
    assert "needs the image notebooks | `./run_all.sh smoke`" in text
    assert "No claim could be tested" in text
    assert not re.search(r"\bnan\b", text)


def test_with_few_records_only_what_they_say_is_judged(tmp_path, monkeypatch):
    (tmp_path / "smoke" / "records").mkdir(parents=True)
    records = exercises.made_up_records()
    records.assign(versions="", commit=np.nan, date="2026-01-02").to_csv(
        tmp_path / "smoke" / "records" / "04_made_up-seed0.csv", index=False
    )
    text, world = run_lesson(tmp_path, monkeypatch)
    assert list(world["tested"].claim) == ["C1"]
    assert "this machine's results for profile smoke" in text
    assert not re.search(r"\bnan\b", text)
