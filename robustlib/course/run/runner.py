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
from functools import partial
from pathlib import Path

from tqdm import tqdm

import robustlib
from robustlib.course.run.execute import Execution, StatusLine, execute, kernel_environment
from robustlib.data.folders import replace_file, repository_root, results_dir, writable
from robustlib.data.source import source_digest
from robustlib.study.environment import installed_version
from robustlib.study.profiles import Profile

INTERRUPTED = 130  # what a shell reports for a command stopped with Ctrl-C
clock = tqdm.format_interval  # seconds as 00:41 or 1:02:03, like the bars


@dataclass(frozen=True)
class Step:
    """One notebook of the plan. `reason` says why it has to run; empty: nothing has changed."""

    notebook: Path
    output: Path
    fingerprint: str
    reason: str
    expected_seconds: float | None


def run(
    profile: Profile,
    *,
    only: str | None = None,
    refresh: bool = False,
    dry_run: bool = False,
    status: StatusLine | None = None,
) -> int:
    """Bring the executed notebooks of a profile up to date and say where everything is.

    Args:
        only: numbers of notebooks, as "02,04"; None is all.
        refresh: run what has not changed, too, and have the notebooks recompute what the cache holds.
        dry_run: only say what would run.

    Returns:
        Exit status: 0; 1 if a notebook failed or another run holds the results; 130 if interrupted.

    Raises:
        ValueError: `only` names no notebook.
        ReadOnlyFolderError: the results cannot be written.
    """
    results = results_dir(profile.name)
    notebooks = select_notebooks(repository_root() / "notebooks", only)
    parameters = {"profile": profile.name, "seed": profile.seeds[0], "solutions": True}
    if dry_run:
        for step in _plan(notebooks, results, parameters, _read_state(results)["data"], refresh):
            _say(f"{step.notebook.stem}: {f'would run ({step.reason})' if step.reason else 'unchanged'}")
        return 0

    with _lock(results) as holder:
        if holder:
            _say(f"another run of the profile {profile.name} is at work ({holder}); wait for it or end it first")
            return 1
        versions = ", ".join(f"{name} {installed_version(name)}" for name in ("torch", "numpy"))
        _say(f"profile {profile.name}, seed {parameters['seed']}, robustlib {robustlib.__version__}, {versions}")
        try:
            data = _fetch_data(profile.datasets) | _fetch_data(profile.text_datasets)
            _record(results, {}, data)
            steps = _plan(notebooks, results, parameters, data, refresh)
            failed = _run_steps(steps, results, parameters, data, refresh, status or StatusLine())
        except KeyboardInterrupt:
            _say(f"\nInterrupted. Finished notebooks are kept; go on with: ./run_all.sh {profile.name}")
            return INTERRUPTED
        summarised = report(results)
    if failed:
        _say(f"\n{len(failed)} of {len(steps)} notebooks failed:")
        for step, execution in failed:
            _say(f"  {step.notebook.stem}, {execution.failure}")
            if step.output.exists():
                _say(f"    executed copy: {_short(step.output)}")
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
    """Hash of the library's source and tables, and of the versions of what computes the numbers."""
    digest = hashlib.sha256(source_digest(("",), package).encode())
    for path in sorted(path for kind in ("*.csv", "*.toml") for path in package.rglob(kind)):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes())
    for name in ("torch", "numpy"):
        digest.update(f"{name} {installed_version(name)}\0".encode())
    return digest.hexdigest()


def fingerprint(cells: list[dict], parameters: dict[str, object], library: str, data: dict[str, bool]) -> str:
    """What an executed copy depends on: source (prose too), parameters, library, and which data sets are there."""
    source = [[cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", [])] for cell in cells]
    text = json.dumps([source, parameters, library, data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plan(
    notebooks: list[Path], results: Path, parameters: dict[str, object], data: dict[str, bool], refresh: bool
) -> list[Step]:
    library = library_digest(Path(robustlib.__file__).resolve().parent)
    state = _read_state(results)["notebooks"]
    steps: list[Step] = []
    for notebook in notebooks:
        try:
            content = json.loads(notebook.read_text(encoding="utf-8"))
            current = fingerprint(content["cells"], parameters, library, data)
            reads_records = content["metadata"].get("robustlib", {}).get("reads_records", False)
        except (ValueError, KeyError):  # papermill will say what is wrong with it when its turn comes
            current, reads_records = "", False
        output, earlier = results / "notebooks" / notebook.name, state.get(notebook.stem, {})
        reason = _reason(earlier, output, current) or ("refresh" if refresh else "")
        step = Step(notebook, output, current, reason, earlier.get("seconds"))
        # What other notebooks have recorded is no part of a fingerprint.
        if reads_records and not reason and (any(s.reason for s in steps) or _newer_records(output, results)):
            step = replace(step, reason="new records")
        steps.append(step)
    return steps


def _reason(earlier: dict, output: Path, current: str) -> str:
    if not earlier:
        return "never run"
    if earlier["status"] != "done":
        return f"{earlier['status']} last time"
    if not output.exists():
        return "its copy is gone"
    return "" if earlier["fingerprint"] == current else "changed"


def _newer_records(output: Path, results: Path) -> bool:
    copied = output.stat().st_mtime_ns
    return any(path.stat().st_mtime_ns > copied for path in results.glob("records/*.csv"))


def _run_steps(
    steps: list[Step],
    results: Path,
    parameters: dict[str, object],
    data: dict[str, bool],
    refresh: bool,
    status: StatusLine,
) -> list[tuple[Step, Execution]]:
    failed = []
    with kernel_environment(**({"ROBUSTLIB_REFRESH": str(time.time())} if refresh else {})):
        for index, step in enumerate(steps):
            title = f"[{index + 1}/{len(steps)}] {step.notebook.stem}"
            if not step.reason:
                _say(f"{title}: unchanged, not run again")
                continue
            _say(f"{title}: starts ({step.reason})")
            # Before as well as after: a notebook cut off by a power failure is then known to be unfinished.
            entry = {"status": "interrupted", "fingerprint": "", "seconds": step.expected_seconds}
            _record(results, {step.notebook.stem: entry}, data)
            expected = _expected([later for later in steps[index:] if later.reason])
            execution = execute(step.notebook, step.output, parameters, title=title, expected=expected, status=status)
            entry = {
                "status": "failed" if execution.failure else "done",
                "fingerprint": step.fingerprint,
                "seconds": step.expected_seconds if execution.failure else round(execution.seconds, 1),
                "peak_memory_mb": round(execution.peak_memory_mb),
                "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
            }
            _record(results, {step.notebook.stem: entry}, data)
            outcome = "FAILED" if execution.failure else "done"
            _say(f"{title}: {outcome} in {clock(execution.seconds)}, peak memory {entry['peak_memory_mb']} MB")
            if execution.failure:
                failed.append((step, execution))
    return failed


def _expected(steps: list[Step]) -> str:
    """How long the first step and all of them may take, by the last run, as far as it is known."""
    seconds = [step.expected_seconds for step in steps]
    if seconds[0] is None:
        return ", time left unknown"
    whole = f" (whole run: about {clock(sum(seconds))} more)" if None not in seconds and len(seconds) > 1 else ""
    return f" of about {clock(seconds[0])}{whole}"


def _read_state(results: Path) -> dict[str, dict]:
    """What earlier runs left: `notebooks` (an entry by name) and `data` (which data sets they had)."""
    try:
        state = json.loads((results / "run.json").read_text(encoding="utf-8"))
        return {"notebooks": state["notebooks"], "data": state["data"]}
    except (FileNotFoundError, ValueError, KeyError):  # none, or damaged: everything runs again
        return {"notebooks": {}, "data": {}}


def _record(results: Path, entries: dict[str, dict], data: dict[str, bool]) -> None:
    """Note the entries and what data there is, and drop what notebooks that are gone have left."""
    notebooks = _read_state(results)["notebooks"] | entries
    for name in list(notebooks):
        if not (repository_root() / "notebooks" / f"{name}.ipynb").exists():
            (results / "notebooks" / f"{name}.ipynb").unlink(missing_ok=True)
            del notebooks[name]
    replace_file(results / "run.json", json.dumps({"notebooks": notebooks, "data": data}, indent=1, sort_keys=True))


@contextlib.contextmanager
def _lock(results: Path) -> Iterator[str]:
    """Hold the results of one profile; yields "" or, if another process does, who that is."""
    from filelock import FileLock, Timeout

    # A file of its own: filelock before 3.20 empties the lock file of whoever holds it.
    holder = writable(results) / ".run.holder"
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


def report(results: Path) -> bool:
    """Judge the claims, build the pages and say where the results are, or why not; False if there is no headline."""
    from robustlib.course.site import build_site
    from robustlib.study.claims.scorecard import summary, write_scorecard

    made = {}
    for name, make in (
        ("headline numbers", lambda: summary(write_scorecard(results))),
        ("pages", lambda: build_site(results)),
    ):
        try:
            made[name] = make()
        except Exception as error:  # must not lose a run
            _say(f"No {name}: {type(error).__name__}: {error}")
    memory = max((entry.get("peak_memory_mb", 0) for entry in _read_state(results)["notebooks"].values()), default=0)
    _say(f"\nExecuted notebooks   {_short(results / 'notebooks')}   (peak memory {memory} MB)")
    for title, pattern in (("Figures", "figures"), ("Records", "records/*.csv"), ("Scorecard", "scorecard*")):
        if any(results.glob(pattern)):
            _say(f"{title:20} {_short(results / pattern)}")
    if "pages" in made:
        _say(f"{'Pages':20} {_short(made['pages'])}")
    if "headline numbers" in made:
        _say(f"\n{made['headline numbers']}")
    return "headline numbers" in made


_say = partial(print, flush=True)


def _short(path: Path) -> str:
    """A path as short as it can be from where the user stands."""
    return os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)
