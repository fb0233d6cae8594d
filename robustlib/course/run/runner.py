"""The run: data, then the notebooks in order, only what has changed, then where the results are."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import robustlib
from robustlib.course.run.console import Console, NotebookProgress, clock
from robustlib.course.run.execute import Execution, execute, kernel_search_path
from robustlib.data.folders import repository_root, results_dir
from robustlib.study.environment import installed_version
from robustlib.study.profiles import Profile

INTERRUPTED = 130  # what a shell reports for a command stopped with Ctrl-C


@dataclass(frozen=True)
class Step:
    """One notebook of the plan. `reason` says why it has to run; empty: nothing has changed."""

    notebook: Path
    output: Path
    fingerprint: str
    reason: str
    n_cells: int
    expected_seconds: float | None
    reads_records: bool


def run(
    profile: Profile,
    *,
    only: str | None = None,
    refresh: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
) -> int:
    """Bring the executed notebooks of a profile up to date and say where everything is.

    Args:
        profile: what to run; its data sets are fetched first.
        only: numbers of notebooks, as "02,04"; None is all.
        refresh: run what has not changed, too, and have the notebooks recompute what the cache holds.
        dry_run: only say what would run.

    Returns:
        Exit status: 0; 1 if a notebook failed or another run holds the results; 130 if interrupted.

    Raises:
        ValueError: `only` names no notebook.
    """
    console = console or Console()
    results = results_dir(profile.name)
    notebooks = select_notebooks(repository_root() / "notebooks", only)
    parameters = {"profile": profile.name, "seed": profile.seeds[0]}
    if dry_run:
        for step in _plan(notebooks, results, parameters, _read_state(results)["data"], refresh):
            console.say(f"{step.notebook.stem}: {f'would run ({step.reason})' if step.reason else 'unchanged'}")
        return 0

    with _lock(results) as holder:
        if holder:
            console.say(f"another run of the profile {profile.name} is at work ({holder}); wait for it or end it first")
            return 1
        versions = ", ".join(f"{name} {installed_version(name)}" for name in ("torch", "numpy"))
        console.say(f"profile {profile.name}, seed {parameters['seed']}, robustlib {robustlib.__version__}, {versions}")
        try:
            data = _fetch_data(profile.datasets, console) | _fetch_data(profile.text_datasets, console)
            _begin(results, data)
            steps = _plan(notebooks, results, parameters, data, refresh)
            failed = _run_steps(steps, results, parameters, refresh, console)
        except KeyboardInterrupt:
            console.say(f"\nInterrupted. Finished notebooks are kept; go on with: ./run_all.sh {profile.name}")
            return INTERRUPTED
        summarised = _report(results, console)
    if failed:
        console.say(f"\n{len(failed)} of {len(steps)} notebooks failed:")
        for step, execution in failed:
            console.say(f"  {step.notebook.stem}, {execution.failure}")
            if step.output.exists():
                console.say(f"    executed copy: {_shown(step.output)}")
    return 1 if failed or not summarised else 0


def select_notebooks(folder: Path, only: str | None = None) -> list[Path]:
    """The numbered notebooks in order, or those of them whose numbers `only` names ("02,04" or "2,4").

    Raises:
        ValueError: a number without a notebook; the message lists those there are.
    """
    numbered = {int(path.name[:2]): path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    known = ", ".join(path.name[:2] for path in numbered.values()) or "none"
    if not numbered:
        raise ValueError(f"no notebook called NN_name.ipynb in {folder}")
    if only is None:
        return list(numbered.values())
    wanted = [part.strip() for part in only.split(",") if part.strip()]
    unknown = [part for part in wanted if not part.isdecimal() or int(part) not in numbered]
    if unknown or not wanted:
        raise ValueError(f"no notebook with number {', '.join(unknown) or 'given'}; there are {known}")
    return [numbered[number] for number in sorted({int(part) for part in wanted})]


def library_digest(package: Path) -> str:
    """sha256 over every source and table of the library, and over the versions of what computes the numbers."""
    digest = hashlib.sha256()
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.csv")]):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    for name in ("torch", "numpy"):
        digest.update(f"{name} {installed_version(name)}\0".encode())
    return digest.hexdigest()


def fingerprint(cells: list[dict], parameters: dict[str, object], library: str, data: dict[str, bool]) -> str:
    """What an executed copy depends on: source (prose too, the copy shows it), parameters, library, data.

    A data set counts by name and by being there: its bytes are pinned by the sha256 in the registry, which
    is part of `library`.
    """
    source = [[cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", [])] for cell in cells]
    text = json.dumps([source, parameters, library, data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plan(
    notebooks: list[Path], results: Path, parameters: dict[str, object], data: dict[str, bool], refresh: bool
) -> list[Step]:
    library = library_digest(Path(robustlib.__file__).resolve().parent)
    state = _read_state(results)["notebooks"]
    steps: list[Step] = []
    for path in notebooks:
        step = _step(path, results, parameters, library, data, state.get(path.stem, {}), refresh)
        # What other notebooks have recorded is no part of a fingerprint.
        if step.reads_records and not step.reason and (any(s.reason for s in steps) or _newer_records(step, results)):
            step = replace(step, reason="new records")
        steps.append(step)
    return steps


def _newer_records(step: Step, results: Path) -> bool:
    copied = step.output.stat().st_mtime_ns
    return any(path.stat().st_mtime_ns > copied for path in results.glob("records/*.csv"))


def _step(
    notebook: Path,
    results: Path,
    parameters: dict[str, object],
    library: str,
    data: dict[str, bool],
    earlier: dict,
    refresh: bool,
) -> Step:
    output = results / "notebooks" / notebook.name
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
        cells, metadata = content["cells"], content["metadata"]
        now = fingerprint(cells, parameters, library, data)
    except (ValueError, KeyError):  # papermill will say what is wrong with it when its turn comes
        cells, metadata, now = [], {}, ""
    if not earlier:
        reason = "never run"
    elif earlier["status"] != "done":
        reason = f"{earlier['status']} last time"
    elif not output.exists():
        reason = "its copy is gone"
    elif earlier["fingerprint"] != now:
        reason = "changed"
    else:
        reason = "refresh" if refresh else ""
    n_cells = sum(cell["cell_type"] == "code" and bool("".join(cell["source"]).strip()) for cell in cells)
    stated = metadata.get("robustlib", {}).get("seconds", {}).get(parameters["profile"])
    # One cell more than the notebook has: papermill puts the parameters into a cell of their own.
    expected = earlier.get("seconds") or stated
    reads_records = any(cell["cell_type"] == "code" and "load_records(" in "".join(cell["source"]) for cell in cells)
    return Step(notebook, output, now, reason, n_cells + 1, expected, reads_records)


def _run_steps(
    steps: list[Step], results: Path, parameters: dict[str, object], refresh: bool, console: Console
) -> list[tuple[Step, Execution]]:
    failed = []
    variables = {"ROBUSTLIB_REFRESH": str(time.time())} if refresh else {}
    to_run = [step for step in steps if step.reason]
    with kernel_search_path(results / ".jupyter", **variables) if to_run else contextlib.nullcontext():
        for index, step in enumerate(steps):
            head = f"[{index + 1}/{len(steps)}] {step.notebook.stem}"
            if not step.reason:
                console.say(f"{head}: unchanged, not run again")
                continue
            console.say(f"{head}: starts ({step.reason})")
            execution = _run_step(step, steps[index + 1 :], results, parameters, head, console)
            took = f"{clock(execution.seconds)}, peak memory {execution.peak_memory_mb:.0f} MB"
            console.say(f"{head}: {f'FAILED ({execution.failure.error})' if execution.failure else 'done'} in {took}")
            if execution.failure:
                failed.append((step, execution))
    return failed


def _run_step(
    step: Step, afterwards: list[Step], results: Path, parameters: dict[str, object], head: str, console: Console
) -> Execution:
    name = step.notebook.stem
    times = [later.expected_seconds for later in afterwards if later.reason]
    rest = None if None in times else sum(times)
    # Before as well as after: a notebook cut off by a power failure is then known to be unfinished.
    _record(results, name, {"status": "interrupted", "fingerprint": "", "seconds": step.expected_seconds})
    progress = NotebookProgress(console, head, step.n_cells, step.expected_seconds, rest)
    execution = execute(step.notebook, step.output, parameters, progress)
    entry = {
        "status": "failed" if execution.failure else "done",
        "fingerprint": step.fingerprint,
        "seconds": step.expected_seconds if execution.failure else round(execution.seconds, 1),
        "peak_memory_mb": round(execution.peak_memory_mb),
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    _record(results, name, entry)
    return execution


def _read_state(results: Path) -> dict[str, dict]:
    """What earlier runs left: `notebooks` (an entry by name) and `data` (which data sets they had)."""
    try:
        state = json.loads((results / "run.json").read_text(encoding="utf-8"))
        return {"notebooks": state["notebooks"], "data": state["data"]}
    except (FileNotFoundError, ValueError, KeyError):  # none, or damaged: everything runs again
        return {"notebooks": {}, "data": {}}


def _write_state(results: Path, state: dict[str, dict]) -> None:
    partial = results / "run.json.partial"
    partial.write_text(json.dumps(state, indent=1, sort_keys=True), encoding="utf-8")
    os.replace(partial, results / "run.json")


def _begin(results: Path, data: dict[str, bool]) -> None:
    """Note what data there is, and drop what notebooks that are gone have left."""
    notebooks = _read_state(results)["notebooks"]
    gone = {name for name in notebooks if not (repository_root() / "notebooks" / f"{name}.ipynb").exists()}
    for name in gone:
        (results / "notebooks" / f"{name}.ipynb").unlink(missing_ok=True)
    _write_state(results, {"data": data, "notebooks": {n: e for n, e in notebooks.items() if n not in gone}})


def _record(results: Path, name: str, entry: dict) -> None:
    state = _read_state(results)
    _write_state(results, {**state, "notebooks": {**state["notebooks"], name: entry}})


@contextlib.contextmanager
def _lock(results: Path) -> Iterator[str]:
    """Hold the results of one profile; yields "" or, if another process does, who that is."""
    from filelock import FileLock, Timeout

    results.mkdir(parents=True, exist_ok=True)
    # A file of its own: filelock before 3.20 empties the lock file of whoever holds it.
    holder = results / ".run.holder"
    lock = FileLock(results / ".run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield holder.read_text(encoding="utf-8") if holder.exists() else "unknown process"
        return
    try:
        holder.write_text(f"process {os.getpid()}, since {datetime.now():%Y-%m-%d %H:%M:%S}", encoding="utf-8")
        yield ""
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _fetch_data(names: tuple[str, ...], console: Console) -> dict[str, bool]:
    """Fetch the first data set that can be had, the one that the notebooks will use.

    Returns:
        True for that one, False for those before it, which could not be had.
    """
    from robustlib.data import FetchError, resolve_dataset

    try:
        found, reasons = resolve_dataset(names)
    except FetchError:  # the notebooks that need data will fail; the others need not
        found, reasons = None, dict.fromkeys(names, "")
    for name in reasons:
        console.say(f"data: {name} cannot be had (why: python -m robustlib data fetch {name})")
    if found:
        console.say(f"data: {found} is there, verified")
    return {**dict.fromkeys(reasons, False), **({found: True} if found else {})}


def _report(results: Path, console: Console) -> bool:
    """Say where the results are, with the headline numbers; False if those could not be had."""
    try:
        from robustlib.study.claims.scorecard import summary, write_scorecard

        if any(results.glob("records/*.csv")):
            write_scorecard(results)
        headline = summary(results)
    except Exception as error:  # the paths below are worth having in any case
        headline = None
        trouble = f"No headline numbers: {type(error).__name__}: {error}"
    site = _build_site(results, console)
    entries = _read_state(results)["notebooks"].values()
    memory = max((entry.get("peak_memory_mb", 0) for entry in entries), default=0)
    console.say(f"\nExecuted notebooks   {_shown(results / 'notebooks')}   (peak memory {memory} MB)")
    for title, pattern in (("Figures", "figures"), ("Records", "records/*.csv"), ("Scorecard", "scorecard*")):
        if any(results.glob(pattern)):
            console.say(f"{title:20} {_shown(results / pattern)}")
    if site:
        console.say(f"{'Pages':20} {_shown(site)}")
    console.say(f"\n{headline or trouble}")
    return headline is not None


def _build_site(results: Path, console: Console) -> Path | None:
    """Index of the static site; None, with the reason said, where it could not be built: that must not lose a run."""
    try:
        from robustlib.course.site import build_site

        return build_site(results)
    except Exception as error:
        console.say(f"No pages: {type(error).__name__}: {error}")
        return None


def _shown(path: Path) -> str:
    """A path as short as it can be from where the user stands."""
    return os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)
