"""`python -m robustlib`: the run, the data, the scorecard, the pages and the environment from the command line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from robustlib.data.folders import cache_dir, repository_root

# Imports of what needs installed packages stand inside the functions: `env --check` has to work without any.


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand and return its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in _WITH_OWN_PARSER:
        return _WITH_OWN_PARSER[argv[0]][0](argv[1:])
    arguments = _parser().parse_args(argv)
    return arguments.command(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m robustlib", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="execute the notebooks that have changed, then show the results")
    run.add_argument("profile", nargs="?", help="smoke, quick, full or paper; default: full with a GPU, else quick")
    run.add_argument("--only", metavar="02,04", help="only the notebooks with these numbers")
    run.add_argument("--refresh", action="store_true", help="run and compute again what has not changed")
    run.add_argument("--dry-run", action="store_true", help="say what would run")
    run.set_defaults(command=_run)

    env = commands.add_parser("env", help="show versions and device")
    env.add_argument("--check", metavar="PURPOSE", choices=("run", "test", "lab", "install"), help=argparse.SUPPRESS)
    env.set_defaults(command=_env)

    for name, (_, text) in _WITH_OWN_PARSER.items():
        commands.add_parser(name, help=text)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from robustlib.course.run.execute import end_kernels
    from robustlib.course.run.runner import run
    from robustlib.study.environment import pick_device
    from robustlib.study.profiles import get_profile

    def stop(*_: object) -> None:
        end_kernels()
        raise KeyboardInterrupt

    for ending in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, and a scheduler that ends the job
        signal.signal(ending, stop)
    try:
        profile = get_profile(arguments.profile or ("full" if pick_device().type == "cuda" else "quick"))
        return run(profile, only=arguments.only, refresh=arguments.refresh, dry_run=arguments.dry_run)
    except ValueError as error:
        print(f"python -m robustlib run: {error}", file=sys.stderr)
        return 2


def _env(arguments: argparse.Namespace) -> int:
    from robustlib.study.environment import environment, unmet_requirements

    if not arguments.check:
        for name, value in environment().items():
            print(f"{name:12} {value if value is not None else '-'}")
        return 0
    unmet = unmet_requirements(repository_root() / "requirements.txt", arguments.check)
    if unmet:
        print(f"{sys.executable} lacks what robustlib needs:", *unmet, sep="\n  ", file=sys.stderr)
        print(
            f"Install it there ({Path(sys.executable).name} -m pip install -r requirements.txt), "
            "or leave out --no-venv, which makes an environment of its own.",
            file=sys.stderr,
        )
    return 1 if unmet else 0


def _data(rest: list[str]) -> int:
    from robustlib.data.cli import main as data

    return data(rest)


def _scorecard(rest: list[str]) -> int:
    from robustlib.study.claims.scorecard import main as scorecard

    return scorecard(rest)


def _site(rest: list[str]) -> int:
    from robustlib.course.site import main as site

    return site(rest)


def _links(rest: list[str]) -> int:
    from robustlib.course.links import main as links

    return links(rest)


def _lab(rest: list[str]) -> int:
    from robustlib.course.run.execute import kernel_search_path

    as_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", str(repository_root() / "notebooks"), *as_root, *rest]
    with kernel_search_path(cache_dir() / "jupyter"):
        os.execv(sys.executable, command)


_WITH_OWN_PARSER = {
    "data": (_data, "list, fetch or verify data sets"),
    "scorecard": (_scorecard, "compare our numbers with the paper's"),
    "site": (_site, "build the static pages of a results folder"),
    "links": (_links, "write the Colab and Binder links into the READMEs"),
    "lab": (_lab, "start JupyterLab on the notebooks"),
}

if __name__ == "__main__":
    sys.exit(main())
