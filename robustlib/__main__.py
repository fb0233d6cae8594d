"""`python -m robustlib`: the run, the data, the scorecard, the pages and the environment from the command line."""

import argparse
import importlib.metadata
import os
import re
import signal
import sys
import tomllib
from collections.abc import Callable

from robustlib.data.folders import repository_root

# What needs installed packages is imported inside the functions: arguments are checked before anything is installed.

PROFILES = ("smoke", "quick", "night", "full", "paper", "quick-all-methods")
_EXTRAS = {"run": ("text", "course"), "lab": ("text", "course"), "test": ("text", "course", "test"), "install": ()}


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand and return its exit status: 2, and a sentence that says so, where something is missing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a character that a console lacks must not end a command
            stream.reconfigure(errors="replace")
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv and argv[0] in _WITH_OWN_ARGUMENTS:
            return _WITH_OWN_ARGUMENTS[argv[0]][0](argv[1:])
        arguments = _parser().parse_args(argv)
        return arguments.command(arguments)
    except (OSError, ValueError) as error:
        print(f"python -m robustlib {argv[0]}: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m robustlib", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="execute the notebooks that have changed, then show the results")
    profiles = f"{', '.join(PROFILES)}; default: full with a CUDA device, else quick"
    run.add_argument("profile", nargs="?", help=profiles)
    run.add_argument("--only", metavar="02,04", help="only the notebooks with these numbers")
    run.add_argument("--refresh", action="store_true", help="run and compute again what has not changed")
    run.add_argument("--dry-run", action="store_true", help="say what would run and how long that would take")
    run.add_argument("--workers", type=_workers, metavar="N", help="processes; default: as cores and memory allow")
    run.add_argument("--cluster", metavar="ADDRESS", help="of a Dask scheduler whose workers compute")
    run.add_argument("--budget", type=_seconds, metavar="30m", help="stop in time; the most important is done first")
    run.add_argument("--check-arguments", action="store_true", help=argparse.SUPPRESS)
    run.set_defaults(command=_run)

    env = commands.add_parser("env", help="show versions and device")
    env.add_argument("--check", metavar="PURPOSE", choices=_EXTRAS, help=argparse.SUPPRESS)
    env.set_defaults(command=_env)

    for name, (_, text) in _WITH_OWN_ARGUMENTS.items():
        commands.add_parser(name, help=text)
    return parser


def _workers(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"needs a number of processes, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"needs a time such as 90s, 30m or 2h, got {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _run(arguments: argparse.Namespace) -> int:
    if arguments.profile not in (None, *PROFILES):
        print(f"unknown profile {arguments.profile!r}; there are {', '.join(PROFILES)}", file=sys.stderr)
        return 2
    if arguments.check_arguments:
        return 0
    from robustlib.course.run.execute import end_kernels
    from robustlib.course.run.runner import Options, run
    from robustlib.study.environment import pick_device
    from robustlib.study.profiles import get_profile

    def stop(*_: object) -> None:
        end_kernels()
        raise KeyboardInterrupt

    for ending in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, and a scheduler that ends the job
        signal.signal(ending, stop)
    profile = get_profile(arguments.profile or ("full" if pick_device().type == "cuda" else "quick"))
    return run(profile, Options(**{name: getattr(arguments, name) for name in Options.__dataclass_fields__}))


def _env(arguments: argparse.Namespace) -> int:
    if arguments.check:
        missing = _missing_requirements(_EXTRAS[arguments.check])
        if missing:
            print(f"{sys.executable} lacks what robustlib needs:", *missing, sep="\n  ", file=sys.stderr)
            way_out = "or leave out --no-venv, which makes an environment of its own."
            print("Install it there (pip install -r requirements.txt),", way_out, file=sys.stderr)
        return 1 if missing else 0
    from robustlib.study.environment import environment

    for name, value in environment().items():
        print(f"{name:12} {value if value is not None else '-'}")
    return 0


def _missing_requirements(extras: tuple[str, ...]) -> list[str]:
    """Requirements of pyproject.toml that are not installed, or in another version; pip itself would install them."""
    project = tomllib.loads((repository_root() / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    missing = []
    for requirement in sum((project["optional-dependencies"][extra] for extra in extras), project["dependencies"]):
        name, lowest = re.match(r"([\w.-]+)(?:[>=]=([\d.]+))?", requirement).groups()
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(f"{requirement}: not installed")
            continue
        if lowest and [int(n) for n in re.findall(r"\d+", installed)] < [int(n) for n in lowest.split(".")]:
            missing.append(f"{requirement}: version {installed} is installed")
    return missing


def _main_of(module: str) -> Callable[[list[str]], int]:
    return lambda rest: importlib.import_module(module).main(rest)


def _lab(rest: list[str]) -> int:
    from robustlib.course.run.execute import kernel_environment
    from robustlib.course.teaching.student import student_folder

    as_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    if "--originals" in rest:  # for those who write lessons
        folder = repository_root() / "notebooks"
        rest.remove("--originals")
    else:
        folder = repository_root() / "work"
        if "--dry-run" not in rest:
            copied = len(student_folder(folder))
            print(f"{folder}: your copies of the lessons ({copied} new; what was there stays as it was).")
    with kernel_environment():
        return _replace("jupyterlab", str(folder), *as_root, *rest)


def _test(rest: list[str]) -> int:
    from robustlib.course.run.execute import KEEP_MEMORY
    from robustlib.data import FetchError, fetch

    if "--dry-run" not in rest:
        try:
            fetch("fashion_mnist")
        except FetchError as error:
            print(f"The tests that need fashion_mnist are skipped: {error}", file=sys.stderr)
    if not [argument for argument in rest if argument != "--dry-run"]:  # all of them: a file at a time on every core
        for name, value in {"OMP_NUM_THREADS": "1", **KEEP_MEMORY}.items():
            os.environ.setdefault(name, value)
        rest = ["-n", "auto", "--dist", "loadfile", *rest]
    return _replace("pytest", *rest)


def _replace(module: str, *arguments: str) -> int:
    if "--dry-run" in arguments:
        print("would start:", module, *(argument for argument in arguments if argument != "--dry-run"))
        return 0
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


_WITH_OWN_ARGUMENTS = {
    "audit": (_main_of("robustlib.audit.command"), "is a model's robustness real, or an illusion?"),
    "data": (_main_of("robustlib.data.cli"), "list, fetch or verify data sets"),
    "scorecard": (_main_of("robustlib.study.claims.scorecard"), "compare our numbers with the paper's"),
    "site": (_main_of("robustlib.course.site"), "build the static pages of a results folder"),
    "course": (_main_of("robustlib.course.teaching.cli"), "students' copies, grading, nbgrader, the assignment"),
    "lab": (_lab, "start JupyterLab on your own copies of the lessons (--originals: on the lessons)"),
    "test": (_test, "run the tests of the checkout"),
}

if __name__ == "__main__":
    sys.exit(main())
