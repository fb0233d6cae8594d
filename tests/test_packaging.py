"""What pip installs: the right requirements, a core that needs no more than its own, a wheel that is complete."""

import contextlib
import importlib.metadata
import io
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def closure(requirements: list[str]) -> set[str]:
    """Names of the installed distributions that these requirements bring, followed to the ground."""
    names, pending = set(), [Requirement(text) for text in requirements]
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if name not in names:
            names.add(name)
            for text in importlib.metadata.requires(name) or ():
                further = Requirement(text)
                if not further.marker or any(further.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                    pending.append(further)
    return {name for name in names if list(importlib.metadata.distributions(name=name))}


def test_the_requirements_are_the_project_s():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    expected = [*PROJECT["dependencies"], *EXTRAS["text"], *EXTRAS["course"], *EXTRAS["test"]]
    assert [line for line in lines if not line.startswith("#")] == expected


def test_what_is_imported_is_required():
    """Or comes with what is required, as nbformat with papermill; two more are taken by name, if they are there."""
    rules = ["--ignore", "DEP002,DEP003", "--per-rule-ignores", "DEP001=timm|robustbench"]
    command = [sys.executable, "-m", "deptry", "robustlib", "notebooks", *rules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


CORE = """
import importlib.metadata, sys
allowed = {"robustlib", *sys.argv[1].split(",")}
homes = importlib.metadata.packages_distributions()

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        brought = {home.lower().replace("_", "-").replace(".", "-") for home in homes.get(top, [])}
        if brought and not brought & allowed:
            raise ModuleNotFoundError(f"{name} is no requirement of the core", name=name)

sys.meta_path.insert(0, Refuse())
import numpy as np, torch
from robustlib import attacks, calibration, data, models
assert not {"torchvision", "foolbox", "pyautoattack", "sklearn"} & set(sys.modules), "loaded before it is used"
from robustlib.attacks import auto_attack, carlini_wagner, hop_skip_jump, pgd, square, words
from robustlib.attacks.words import attack, resources, transformations
from robustlib.calibration import fit_temperature
from robustlib.models import logits_of
from robustlib.models.images import build_image_model

test = data.load_images("digits", "test", n=20)
model = build_image_model("small_cnn", 1, 8, 10, seed=0).eval()
logits = logits_of(model, test.images)
fit_temperature(logits, test.labels)
for method, options in (
    (pgd, {"steps": 2}),
    (square, {"n_queries": 2}),
    (auto_attack, {"attacks": ("apgd-ce",)}),
    (carlini_wagner, {"steps": 2, "binary_search_steps": 1}),
    (hop_skip_jump, {"steps": 1, "max_gradient_evaluations": 10}),
):
    method(model, test.images, test.labels, epsilon=0.1, **options)
from robustlib.data.cache import cached
assert cached("core", {"a": 1}, lambda: {"x": torch.ones(2)})["x"].sum() == 2
print("the core works")
"""


def test_the_core_needs_its_own_requirements_only():
    """In a process in which every distribution outside of them is missing."""
    command = [sys.executable, "-c", CORE, ",".join(closure(PROJECT["dependencies"]))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.endswith("the core works\n"), done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder with the wheel and the source distribution of this checkout."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if name.startswith("robustlib/") or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).exists():
                (source / name).write_bytes((ROOT / name).read_bytes())
    script = f"import setuptools.build_meta as b; b.build_sdist({str(folder)!r}); b.build_wheel({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", script], cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_wheel_and_source_distribution_are_complete(built):
    (wheel,), (archive,) = built.glob("*.whl"), built.glob("*.tar.gz")
    files = filter(Path.is_file, (ROOT / "robustlib").rglob("*"))
    expected = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(archive) as opened:
        in_archive = {name.partition("/")[2] for name in opened.getnames()}
    assert expected - in_wheel == set()
    assert expected - in_archive == set()
    assert {Path(name).suffix for name in expected} >= {".py", ".csv", ".js", ".css"}
    assert any(name.endswith("/LICENSE") for name in in_wheel)
    assert {"LICENSE", "README.md", "pyproject.toml"} <= in_archive


@pytest.fixture
def outside(built, tmp_path):
    """Run Python with the installed wheel, in a folder without a checkout above it."""
    site = tmp_path / "site"
    zipfile.ZipFile(next(built.glob("*.whl"))).extractall(site)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ROBUSTLIB_")}

    def run(*arguments: str, **variables: str) -> tuple[int, str]:
        environment = {**environ, "PYTHONPATH": str(site), "HOME": str(tmp_path), **variables}
        command = [sys.executable, *arguments]
        options = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, **options, timeout=120)
        return done.returncode, done.stdout.decode(errors="replace")

    return run


def test_the_wheel_works_without_a_checkout(outside, tmp_path):
    assert outside("-m", "robustlib", "--help")[0] == 0
    status, text = outside("-m", "robustlib", "data", "list", ROBUSTLIB_DATA=str(tmp_path / "shelf"))
    assert status == 0 and "Fashion-MNIST" in text
    show = "from robustlib.data.folders import *; print(data_dirs(), cache_dir(), results_dir('x'))"
    status, text = outside("-c", show)
    assert (status, text.count(str(tmp_path))) == (0, 3), text
    status, text = outside("-m", "robustlib", "run", "smoke")
    assert status == 2
    assert text.startswith("python -m robustlib run: no folder with notebooks/") and "ROBUSTLIB_ROOT" in text


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_that_is_not_utf8_shows_what_it_can(outside, encoding):
    status, text = outside("-m", "robustlib", "data", "list", PYTHONIOENCODING=encoding)
    assert status == 0, text
    assert "counter_fitting" in text


@pytest.mark.parametrize("name", ["run_all.sh", "a.py", "b.ipynb", "c.csv", "run"])
def test_a_checkout_by_git_for_windows_keeps_its_line_ends(name):
    asked = subprocess.run(["git", "check-attr", "eol", name], cwd=ROOT, capture_output=True, text=True, check=True)
    assert asked.stdout == f"{name}: eol: lf\n"


def test_no_room_imports_upward(monkeypatch):
    cli = pytest.importorskip("importlinter.cli")
    monkeypatch.chdir(ROOT)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == 0, output.getvalue()
