"""The commands a reader types: run_all.sh, `python -m robustlib`, and every command that is documented."""

from __future__ import annotations

import getpass
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from robustlib.__main__ import main
from robustlib.study.environment import describe_environment, environment, pick_device
from robustlib.study.profiles import PROFILES

ROOT = Path(__file__).resolve().parent.parent


def call(command: list[str], **options) -> tuple[int, str]:
    """Exit status, and stdout and stderr together; no input, as in continuous integration."""
    environ = {**os.environ, "PYTHON": sys.executable, **options.pop("environ", {})}
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    answer = subprocess.run(command, **streams, timeout=300, env=environ, **options)
    return answer.returncode, answer.stdout


def write_project(root: Path, *dependencies: str, test: tuple[str, ...] = ()) -> None:
    extras = {"text": [], "course": [], "test": list(test)}
    lines = [f"dependencies = {list(dependencies)}", "[project.optional-dependencies]"]
    lines += [f"{name} = {extra}" for name, extra in extras.items()]
    (root / "pyproject.toml").write_text("\n".join(["[project]", *lines]))


@pytest.fixture
def checkout(tmp_path, write_notebook):
    """A checkout with this library, one notebook and no requirements, in a folder whose name has spaces."""
    root = tmp_path / "a study, copied"
    write_notebook(root / "notebooks" / "04_works.ipynb", "1 + 1")
    (root / "run_all.sh").write_bytes((ROOT / "run_all.sh").read_bytes())
    (root / "run_all.sh").chmod(0o755)
    (root / "requirements.txt").write_text("# none\n")
    write_project(root)
    (root / "robustlib").symlink_to(ROOT / "robustlib")
    return root


def run_all(checkout: Path, *arguments: str, **options) -> tuple[int, str]:
    # from another folder, as a scheduler would
    environ = {"ROBUSTLIB_ROOT": str(checkout), **options.pop("environ", {})}
    return call([str(checkout / "run_all.sh"), *arguments], cwd="/", environ=environ, **options)


def test_help_names_every_profile_and_installs_nothing(checkout):
    status, text = run_all(checkout, "--help")
    assert status == 0
    assert f"[{'|'.join(PROFILES)}]" in text
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["huge"], f"unknown profile 'huge'; there are {', '.join(PROFILES)}"),
        (["smoke", "quick"], "unrecognized arguments: quick"),
        (["--onyl", "02"], "unrecognized arguments: --onyl"),
        (["--only"], "argument --only: expected one argument"),
        (["--workers", "0"], "argument --workers: needs a number of processes, got '0'"),
        (["--budget", "30"], "argument --budget: needs a time such as 90s, 30m or 2h, got '30'"),
    ],
)
def test_a_slip_is_found_before_anything_is_installed(checkout, arguments, message):
    status, text = run_all(checkout, *arguments)
    assert status == 2
    assert message in text
    assert not (checkout / ".venv").exists()


def test_a_known_profile_is_planned_and_an_unknown_number_lists_the_known_ones(checkout):
    status, text = run_all(checkout, "--no-venv", "smoke", "--dry-run", "--only=4", "--workers=1")
    assert (status, text.splitlines()[0]) == (0, "  04_works: 0 units, about 00:20 (never run)")
    status, text = run_all(checkout, "--no-venv", "smoke", "--only", "02,07")
    assert (status, "no notebook with number 02, 07; there are 04" in text) == (2, True)


def test_without_venv_what_is_missing_is_named(checkout):
    write_project(checkout, "numpy>=999", "no-such-package==1.0", "filelock>=3", "torch>=1.10,<9", test=("ruff>=999",))
    status, text = run_all(checkout, "--no-venv", "smoke")
    assert status == 1
    assert f"{sys.executable} lacks what robustlib needs:" in text
    assert re.search(r"\n  numpy>=999: version \d\S* is installed\n  no-such-package==1.0: not installed\nInst", text)
    assert "ruff>=999: version" in run_all(checkout, "test", "--no-venv")[1]  # only the tests need it


def write_python(path: Path, version: str, home: Path) -> Path:
    """A Python that says it is of that version, and only notes what `venv`, `pip` and modules are asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"""#!/usr/bin/env bash
case "$*" in
    *"%d.%d"*) echo {version} ;;
    *"import pip"*) ;;
    *--check-arguments) ;;
    "-m venv"*) echo "$*" >>"{home}/calls"; rm -rf .venv; mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip"*) echo "$*" >>"{home}/calls"; exit "${{PIP_STATUS:-0}}" ;;
    "-m "*) echo "$*" >>"{home}/calls"; exit "${{MODULE_STATUS:-0}}" ;;
    *) exec "{sys.executable}" "$@" ;;
esac
"""
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def python(tmp_path):
    return write_python(tmp_path / "some python" / "python", "3.12", tmp_path)


def calls(python: Path) -> list[str]:
    path = python.parent.parent / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [line.replace("--disable-pip-version-check ", "") for line in lines]


VENV, INSTALL = "-m venv --clear .venv", ["-m pip install -r requirements.txt -e ."]


def test_the_environment_is_made_once_and_again_when_the_requirements_change(checkout, python):
    environ = {"PYTHON": str(python)}
    assert run_all(checkout, "smoke", "--refresh", environ=environ)[0] == 0
    assert calls(python) == [VENV, *INSTALL, "-m robustlib run smoke --refresh"]
    assert run_all(checkout, "--only", "04", environ=environ)[0] == 0
    assert calls(python) == ["-m robustlib run --only 04"]
    (checkout / "requirements.txt").write_text("# changed\n")
    assert run_all(checkout, environ=environ)[0] == 0
    assert calls(python) == [*INSTALL, "-m robustlib run"]
    write_python(python, "3.13", python.parent.parent)
    assert run_all(checkout, "lab", "--no-browser", environ=environ)[0] == 0
    assert calls(python) == [VENV, *INSTALL, "-m robustlib lab --no-browser"]


def test_an_installation_that_fails_names_the_way_out_and_is_done_again(checkout, python):
    status, text = run_all(checkout, "smoke", environ={"PYTHON": str(python), "PIP_STATUS": "1"})
    assert status == 1
    assert "./run_all.sh --no-venv" in text
    assert calls(python) == [VENV, *INSTALL]
    assert run_all(checkout, "smoke", environ={"PYTHON": str(python)})[0] == 0
    assert calls(python) == [*INSTALL, "-m robustlib run smoke"]


def test_the_tests_get_their_arguments_and_give_their_exit_status(checkout, python):
    environ = {"PYTHON": str(python), "MODULE_STATUS": "5"}
    status, _ = run_all(checkout, "test", "-k", "two words", "--help", environ=environ)
    assert status == 5
    assert calls(python)[2:] == ["-m robustlib test -k two words --help"]


def test_every_python_that_was_tried_is_named_and_a_shim_that_fails_is_passed_over(checkout, tmp_path):
    write_python(tmp_path / "bin" / "python3", "3.10", tmp_path)
    write_python(tmp_path / "bin" / "python", "3.14", tmp_path)
    for version in ("3.11", "3.12", "3.13"):
        shim = tmp_path / "bin" / f"python{version}"
        shim.write_text("#!/bin/sh\nexit 127\n")
        shim.chmod(0o755)
    environ = {"PYTHON": "", "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    for arguments in (["smoke"], ["--no-venv", "smoke"]):
        status, text = run_all(checkout, *arguments, environ=environ)
        assert status == 1
        assert "needs Python 3.11, 3.12 or 3.13; found: python3 (3.10) python (3.14)." in text
        assert "PYTHON=/path/to/python3.12 ./run_all.sh" in text
    assert not (checkout / ".venv").exists()
    write_python(tmp_path / "bin" / "python3.12", "3.12", tmp_path)
    assert "Creating .venv with python3.12 (Python 3.12)" in run_all(checkout, "smoke", environ=environ)[1]


def test_the_environment_has_versions_and_no_path_and_no_name():
    about = environment()
    assert about["python"] == platform.python_version()
    assert about["device"] == pick_device().type
    assert re.fullmatch(r"\d+\.\d+\S*", about["torch"])
    assert about["commit"] is None or re.fullmatch(r"[0-9a-f]{12,40}(-dirty)?", about["commit"])
    text = f"{about} {describe_environment('smoke', 3)}"
    assert "profile smoke, seed 3; robustlib" in text
    for private in (platform.node(), str(Path.home()), str(ROOT)):
        assert private not in text
    assert getpass.getuser() not in describe_environment("smoke", 3).split()


@pytest.mark.parametrize(("command", "word"), [(["env"], "torch"), (["data", "list", "digits"], "digits")])
def test_the_subcommands_that_only_show_something(command, word, capsys):
    assert main(command) == 0
    assert word in capsys.readouterr().out


def documented_commands() -> list[str]:
    """Our two commands in README's bash blocks and in the course's plans, without comments."""
    blocks = re.findall(r"(?ms)^```bash\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"))
    lines = [line.removeprefix("$ ") for line in "\n".join(blocks).splitlines()]
    for folder in ("notebooks", "teaching"):
        lines += re.findall(r"\./run_all\.sh[^`\n]*", (ROOT / folder / "README.md").read_text(encoding="utf-8"))
    words = [shlex.split(line, comments=True) for line in lines]
    # PYTHON=... in front of a command is the reader's own
    words = [[word for word in line if not re.match(r"[A-Z_]+=", word)] for line in words]
    ours = [shlex.join(line) for line in words if line and (line[0] == "./run_all.sh" or "robustlib" in line[1:3])]
    return list(dict.fromkeys(ours))


def test_readme_names_the_commands():
    assert any(command.startswith("./run_all.sh test") for command in documented_commands())


@pytest.mark.parametrize("command", documented_commands())
def test_the_documented_commands_work(command):
    words = shlex.split(command)
    if words[0] == "./run_all.sh":
        words += ["--dry-run"] + ["--no-venv"] * ("--no-venv" not in words)
    else:
        assert words[:4] == ["python", "-m", "robustlib", "audit"], "how can it be tried without a run or a download?"
        words[0] = sys.executable
    status, text = call(words, cwd=ROOT)
    if "audit" in words and "--explain" not in words:  # on the reader's own files
        assert (status, "usage:" in text) == (2, False), text
        assert re.search("there is no file mymodel.py|No such file or directory: 'test.csv'", text), text
    else:
        assert status == 0, f"{words}: {text}"
