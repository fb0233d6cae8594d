"""The run: data, units of work, the notebooks that have changed, then where the results are."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import joblib
from filelock import FileLock, Timeout

from robustlib.course.run import state
from robustlib.course.run.execute import Execution, execute, kernel_environment
from robustlib.course.run.forecast import Forecast, clock
from robustlib.course.run.kernels import import_early
from robustlib.course.run.state import Step
from robustlib.data.folders import repository_root, results_dir, writable
from robustlib.study.environment import describe_environment
from robustlib.study.pool import LostWorkersError, compute, default_workers
from robustlib.study.profiles import Profile

INTERRUPTED = 130  # what a shell reports for a command stopped with Ctrl-C
_say = partial(print, flush=True)


@dataclass(frozen=True)
class Options:
    """How a run is carried out: what `python -m robustlib run --help` says; the budget in seconds."""

    only: str | None = None
    refresh: bool = False
    dry_run: bool = False
    workers: int | None = None
    cluster: str | None = None
    budget: float | None = None


def run(profile: Profile, options: Options = Options()) -> int:
    """Bring the executed notebooks of a profile up to date and say where everything is.

    Returns the exit status: 0; 1 if a notebook failed or another run holds the results; 130 if interrupted.
    ValueError: `only` names no notebook; ReadOnlyFolderError: the results cannot be written.
    """
    options = replace(options, workers=options.workers or default_workers())  # before kernels are told to use one
    results = results_dir(profile.name).resolve()
    notebooks = state.select_notebooks(repository_root() / "notebooks", options.only)
    if options.dry_run:
        with patch.dict(os.environ, ROBUSTLIB_FETCH="0"):
            _say(_forecast(notebooks, results, profile, options).text())
        return 0
    lock = writable(results) / ".run.lock"
    try:
        with FileLock(lock, timeout=0):
            lock.write_text(f"process {os.getpid()}, since {datetime.now():%Y-%m-%d %H:%M:%S}", encoding="utf-8")
            return _run(notebooks, results, profile, options)
    except Timeout:
        _say(f"another run of the profile {profile.name} is at work ({lock.read_text(encoding='utf-8')})")
        return 1
    except KeyboardInterrupt:
        _say(f"\nInterrupted. What is finished is kept; go on with: ./run_all.sh {profile.name}")
        return INTERRUPTED


def _run(notebooks: Sequence[Path], results: Path, profile: Profile, options: Options) -> int:
    deadline = time.monotonic() + (options.budget or float("inf"))
    _say(describe_environment(profile.name, profile.seeds[0]))
    variables = {"ROBUSTLIB_REFRESH": str(time.time())} if options.refresh else {}
    # Torch has one thread in a lesson; several of numpy and scikit-learn would compete with other kernels'.
    with kernel_environment(**variables, ROBUSTLIB_WORKERS="1", OMP_NUM_THREADS="1"):
        import_early()
        forecast = _forecast(notebooks, results, profile, options)
        _say(forecast.text())
        steps = _with_units(forecast, options, deadline)
        failed = _execute(steps, results, profile, forecast.workers)
    summarised = report(results, sorted(step.name for step in forecast.steps if step not in steps))
    if failed:
        _say(f"\n{len(failed)} of {len(steps)} notebooks failed:")
    for step, execution in failed:
        _say(f"  {step.name}, {execution.failure}")
        if step.output.exists():
            _say(f"    executed copy: {_short(step.output)}")
    return 1 if failed or not summarised else 0


def _forecast(notebooks: Sequence[Path], results: Path, profile: Profile, options: Options) -> Forecast:
    data = [_available(profile.datasets), _available(profile.text_datasets)]
    steps = state.steps_of(notebooks, results, _parameters(profile), data, refresh=options.refresh)
    return Forecast.of(steps, profile.name, profile.seeds[0], options.workers)


def _parameters(profile: Profile) -> dict[str, object]:
    return {"profile": profile.name, "seed": profile.seeds[0], "solutions": True}


def _available(names: tuple[str, ...]) -> str:
    """The first data set that is available, fetched if need be; "" where none is."""
    from robustlib.data import FetchError, resolve_dataset

    try:
        chosen, reasons = resolve_dataset(names)
    except FetchError:  # the notebooks that need data will fail; the others need not
        chosen, reasons = "", dict.fromkeys(names, "")
    for name in reasons:
        _say(f"data: {name} is unavailable (why: python -m robustlib data fetch {name})")
    return chosen


def _with_units(everything: Forecast, options: Options, deadline: float) -> list[Step]:
    """The steps that have their units now; what time a budget leaves goes to the other units, for the next run."""
    chosen = everything.within(options.budget)
    own = sum(chosen.seconds[step][1] for step in chosen.steps) / chosen.workers
    for units in (chosen.all_units, everything.all_units) if options.budget else (chosen.all_units,):
        seconds = max(0.0, deadline - time.monotonic() - own) if options.budget else None
        try:
            compute(units, workers=everything.workers, cluster=options.cluster, seconds=seconds)
        except LostWorkersError as error:  # a notebook computes what is missing, alone
            _say(str(error))
    if not options.budget:
        return list(everything.steps)
    return [step for step in chosen.steps if all(unit.is_done() for unit in everything.units[step])]


def _execute(steps: Sequence[Step], results: Path, profile: Profile, workers: int) -> list[tuple[Step, Execution]]:
    """Execute the notebooks, several at a time, at the end those that read records of others; returns the failed."""
    # Before as well as after: a notebook cut off by a power failure is then known to be unfinished.
    state.record(results, {s.name: {"status": "interrupted", "fingerprint": "", "seconds": s.seconds} for s in steps})

    def executed(step: Step) -> tuple[Step, Execution]:
        return step, execute(step.notebook, step.output, _parameters(profile))

    # Threads wait, kernels work.
    parallel = joblib.Parallel(workers, backend="threading", return_as="generator_unordered", pre_dispatch=workers)
    elsewhere = state.read(repository_root() / "results" / "published" / "quick")  # which of them are the long ones
    done: list[tuple[Step, Execution]] = []
    for readers in (False, True):
        turn = [step for step in steps if step.reads_records == readers]
        turn.sort(key=lambda step: (-(step.seconds or elsewhere.get(step.name, {}).get("seconds", 0)), step.name))
        with contextlib.chdir(repository_root() / "notebooks"):
            for step, execution in parallel(joblib.delayed(executed)(step) for step in turn):
                done.append((step, execution))
                memory = round(execution.peak_memory_mb)
                entry = {
                    "status": "failed" if execution.failure else "done",
                    "fingerprint": step.fingerprint,
                    "seconds": step.seconds if execution.failure else round(execution.seconds, 1),
                    "peak_memory_mb": memory,
                }
                state.record(results, {step.name: entry})
                outcome = f"{'FAILED' if execution.failure else 'done'} in {clock(execution.seconds)}"
                _say(f"[{len(done)}/{len(steps)}] {step.name}: {outcome}, peak memory {memory} MB")
    return [(step, execution) for step, execution in done if execution.failure]


def report(results: Path, left_out: Sequence[str] = ()) -> bool:
    """Judge the claims, build the pages and say where the results are, or why not; False if there is no headline.

    `left_out`: notebooks that a budget left no time for.
    """
    from robustlib.course.site import build_site
    from robustlib.study.claims.scorecard import summary, write_scorecard

    made: dict[str, Any] = {}

    def headline() -> str:
        made["scorecard"] = write_scorecard(results, left_out)
        return summary(made["scorecard"])

    jobs = {"headline numbers": headline, "pages": lambda: build_site(results, judged=made.get("scorecard"))}
    for name, job in jobs.items():
        try:
            made[name] = job()
        except Exception as error:  # must not lose a run
            _say(f"No {name}: {type(error).__name__}: {error}")
    _say()
    for title, pattern in (
        ("Executed notebooks", "notebooks"),
        ("Figures", "figures"),
        ("Records", "records/*.csv"),
        ("Scorecard", "scorecard*"),
        ("Pages", "site/index.html"),
    ):
        if any(results.glob(pattern)):
            _say(f"{title:20} {_short(results / pattern)}")
    if "headline numbers" in made:
        _say(f"\n{made['headline numbers']}")
    if left_out:
        _say(f"\nLeft out for lack of time: {', '.join(left_out)}. The same command goes on from here.")
    return "headline numbers" in made


def _short(path: Path) -> str:
    """A path as short as it can be from where the user stands."""
    return os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)
