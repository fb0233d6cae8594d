"""The run: data, units of work, the notebooks that have changed, then where the results are."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import joblib

import robustlib
from robustlib.course.run.execute import Execution, execute, kernel_environment
from robustlib.course.run.forecast import Forecast, clock
from robustlib.course.run.state import State, Step, select_notebooks
from robustlib.data.folders import repository_root, results_dir
from robustlib.study.environment import installed_version
from robustlib.study.pool import LostWorkersError, compute, default_workers
from robustlib.study.profiles import Profile

INTERRUPTED = 130  # what a shell reports for a command stopped with Ctrl-C
_say = partial(print, flush=True)


@dataclass(frozen=True)
class Options:
    """How a run is carried out.

    Attributes:
        only: numbers of notebooks, as "02,04"; None is all.
        refresh: run what has not changed, too, and recompute what the cache holds.
        dry_run: only say what would run and how long that would take.
        workers: processes at a time; None: as many as processors and memory allow.
        cluster: address of a Dask scheduler whose workers compute the units.
        budget: seconds after which the run ends, having done the most important first.
    """

    only: str | None = None
    refresh: bool = False
    dry_run: bool = False
    workers: int | None = None
    cluster: str | None = None
    budget: float | None = None


def run(profile: Profile, options: Options = Options()) -> int:
    """Bring the executed notebooks of a profile up to date and say where everything is.

    Returns:
        Exit status: 0; 1 if a notebook failed or another run holds the results; 130 if interrupted.

    Raises:
        ValueError: `only` names no notebook.
        ReadOnlyFolderError: the results cannot be written.
    """
    options = replace(options, workers=options.workers or default_workers())  # before kernels are told to use one
    state, deadline = State(results_dir(profile.name)), time.monotonic() + (options.budget or float("inf"))
    notebooks = select_notebooks(repository_root() / "notebooks", options.only)
    if options.dry_run:
        os.environ["ROBUSTLIB_FETCH"] = "0"
        _say(_forecast(notebooks, state, profile, options).text())
        return 0
    with state.lock() as holder:
        if holder:
            _say(f"another run of the profile {profile.name} is at work ({holder}); wait for it or end it first")
            return 1
        versions = ", ".join(f"{name} {installed_version(name)}" for name in ("torch", "numpy"))
        _say(f"profile {profile.name}, seed {profile.seeds[0]}, robustlib {robustlib.__version__}, {versions}")
        variables = {"ROBUSTLIB_REFRESH": str(time.time())} if options.refresh else {}
        try:
            state.record({}, _fetch_data(profile.datasets) | _fetch_data(profile.text_datasets))
            with kernel_environment(**variables, ROBUSTLIB_WORKERS="1"):
                everything = _forecast(notebooks, state, profile, options)
                _say(everything.text())
                steps = _with_units(everything, options, deadline)
                failed = _run_steps(steps, state, profile, everything.workers)
        except KeyboardInterrupt:
            _say(f"\nInterrupted. What is finished is kept; go on with: ./run_all.sh {profile.name}")
            return INTERRUPTED
        left_out = sorted(step.name for step in everything.steps if step not in steps)
        summarised = report(state.results, left_out)
    if failed:
        _say(f"\n{len(failed)} of {len(steps)} notebooks failed:")
        for step, execution in failed:
            _say(f"  {step.name}, {execution.failure}")
            if step.output.exists():
                _say(f"    executed copy: {_short(step.output)}")
    return 1 if failed or not summarised else 0


def _forecast(notebooks: list[Path], state: State, profile: Profile, options: Options) -> Forecast:
    steps = state.steps(notebooks, _parameters(profile), refresh=options.refresh)
    return Forecast.of(steps, profile.name, profile.seeds[0], options.workers)


def _parameters(profile: Profile) -> dict[str, object]:
    return {"profile": profile.name, "seed": profile.seeds[0], "solutions": True}


def _with_units(everything: Forecast, options: Options, deadline: float) -> list[Step]:
    """Compute the units; returns the steps that are now to run: within a budget, those that have their units.

    What time a budget leaves goes to the other units, for the next run.
    """
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


def _run_steps(steps: Sequence[Step], state: State, profile: Profile, workers: int) -> list[tuple[Step, Execution]]:
    """Execute the notebooks, several at a time, at the end those that read records of others; returns the failed."""
    failed, n_done = [], 0
    for readers in (False, True):
        turn = sorted(
            (s for s in steps if s.reads_records == readers), key=lambda step: (-(step.seconds or 0), step.name)
        )
        for step in turn:
            # Before as well as after: a notebook cut off by a power failure is then known to be unfinished.
            state.record({step.name: {"status": "interrupted", "fingerprint": "", "seconds": step.seconds}})
        for step, execution in _executed(turn, profile, min(workers, len(turn))):
            n_done += 1
            memory = round(execution.peak_memory_mb)
            entry = {
                "status": "failed" if execution.failure else "done",
                "fingerprint": step.fingerprint,
                "seconds": step.seconds if execution.failure else round(execution.seconds, 1),
                "peak_memory_mb": memory,
                "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
            }
            state.record({step.name: entry})
            outcome = "FAILED" if execution.failure else "done"
            spent = f"{outcome} in {clock(execution.seconds)}, peak memory {memory} MB"
            _say(f"[{n_done}/{len(steps)}] {step.name}: {spent}")
            if execution.failure:
                failed.append((step, execution))
    return failed


def _executed(steps: list[Step], profile: Profile, workers: int) -> Iterator[tuple[Step, Execution]]:
    """The notebooks and what became of them, as they end. Threads wait, kernels work."""

    def one(step: Step) -> tuple[Step, Execution]:
        return step, execute(step.notebook, step.output, _parameters(profile))

    if steps:
        parallel = joblib.Parallel(workers, backend="threading", return_as="generator_unordered", pre_dispatch=workers)
        with contextlib.chdir(steps[0].notebook.parent):
            yield from parallel(joblib.delayed(one)(step) for step in steps)


def _fetch_data(names: tuple[str, ...]) -> dict[str, bool]:
    """Fetch the first data set that is available: True for that one, False for those before it."""
    from robustlib.data import FetchError, resolve_dataset

    try:
        chosen, reasons = resolve_dataset(names)
    except FetchError:  # the notebooks that need data will fail; the others need not
        chosen, reasons = None, dict.fromkeys(names, "")
    for name in reasons:
        _say(f"data: {name} is unavailable (why: python -m robustlib data fetch {name})")
    if chosen:
        _say(f"data: {chosen} is there, verified")
    return {**dict.fromkeys(reasons, False), **({chosen: True} if chosen else {})}


def report(results: Path, left_out: Sequence[str] = ()) -> bool:
    """Judge the claims, build the pages and say where the results are, or why not; False if there is no headline.

    Args:
        left_out: notebooks that a budget left no time for.
    """
    from robustlib.course.site import build_site
    from robustlib.study.claims.scorecard import summary, write_scorecard

    made = {}
    for name, make in (
        ("headline numbers", lambda: summary(write_scorecard(results, left_out))),
        ("pages", lambda: build_site(results)),
    ):
        try:
            made[name] = make()
        except Exception as error:  # must not lose a run
            _say(f"No {name}: {type(error).__name__}: {error}")
    memory = max((entry.get("peak_memory_mb", 0) for entry in State(results).read()["notebooks"].values()), default=0)
    _say(f"\nExecuted notebooks   {_short(results / 'notebooks')}   (peak memory {memory} MB)")
    for title, pattern in (("Figures", "figures"), ("Records", "records/*.csv"), ("Scorecard", "scorecard*")):
        if any(results.glob(pattern)):
            _say(f"{title:20} {_short(results / pattern)}")
    if "pages" in made:
        _say(f"{'Pages':20} {_short(made['pages'])}")
    if "headline numbers" in made:
        _say(f"\n{made['headline numbers']}")
    if left_out:
        _say(f"\nLeft out for lack of time: {', '.join(left_out)}. The same command goes on from here.")
    return "headline numbers" in made


def _short(path: Path) -> str:
    """A path as short as it can be from where the user stands."""
    return os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)
