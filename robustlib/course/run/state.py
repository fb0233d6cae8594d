"""What has to run: notebooks by number, what each depends on, and what earlier runs left in a results folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import robustlib
from robustlib.data.folders import replace_file, repository_root, writable
from robustlib.data.source import source_digest
from robustlib.study.environment import installed_version


@dataclass(frozen=True)
class Step:
    """One notebook. `reason` says why it has to run; empty: nothing has changed. `seconds`: what it took last time."""

    notebook: Path
    output: Path
    fingerprint: str
    reason: str
    seconds: float | None
    reads_records: bool

    @property
    def name(self) -> str:
        """Number and name of the notebook."""
        return self.notebook.stem


class State:
    """What runs of one profile left in its results folder: run.json and a lock."""

    def __init__(self, results: Path) -> None:
        self.results = results

    def read(self) -> dict[str, dict]:
        """`notebooks` (an entry by name) and `data` (which data sets they had)."""
        try:
            state = json.loads((self.results / "run.json").read_text(encoding="utf-8"))
            return {"notebooks": state["notebooks"], "data": state["data"]}
        except (FileNotFoundError, ValueError, KeyError):  # none, or damaged: everything runs again
            return {"notebooks": {}, "data": {}}

    def record(self, entries: dict[str, dict], data: dict[str, bool] | None = None) -> None:
        """Note entries and what data there is, and drop what notebooks that are gone have left."""
        before = self.read()
        notebooks = before["notebooks"] | entries
        for name in list(notebooks):
            if not (repository_root() / "notebooks" / f"{name}.ipynb").exists():
                (self.results / "notebooks" / f"{name}.ipynb").unlink(missing_ok=True)
                del notebooks[name]
        state = {"notebooks": notebooks, "data": before["data"] if data is None else data}
        replace_file(self.results / "run.json", json.dumps(state, indent=1, sort_keys=True))

    @contextlib.contextmanager
    def lock(self) -> Iterator[str]:
        """Hold the results; yields "" or, if another process does, who that is."""
        from filelock import FileLock, Timeout

        # A file of its own: filelock before 3.20 empties the lock file of whoever holds it.
        holder = writable(self.results) / ".run.holder"
        lock = FileLock(self.results / ".run.lock")
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

    def steps(self, notebooks: list[Path], parameters: dict[str, object], *, refresh: bool = False) -> list[Step]:
        """The notebooks, each with why it has to run."""
        library, state = library_digest(Path(robustlib.__file__).resolve().parent), self.read()
        steps: list[Step] = []
        for notebook in notebooks:
            try:
                content = json.loads(notebook.read_text(encoding="utf-8"))
                current = fingerprint(content["cells"], parameters, library, state["data"])
                reads_records = content["metadata"].get("robustlib", {}).get("reads_records", False)
            except (ValueError, KeyError):  # papermill will say what is wrong with it when its turn comes
                current, reads_records = "", False
            output, earlier = self.results / "notebooks" / notebook.name, state["notebooks"].get(notebook.stem, {})
            reason = _reason(earlier, output, current) or ("refresh" if refresh else "")
            step = Step(notebook, output, current, reason, earlier.get("seconds"), reads_records)
            # What other notebooks have recorded is no part of a fingerprint.
            if reads_records and not reason and (any(s.reason for s in steps) or self._has_newer_records(output)):
                step = replace(step, reason="new records")
            steps.append(step)
        return steps

    def _has_newer_records(self, output: Path) -> bool:
        copied = output.stat().st_mtime_ns
        return any(path.stat().st_mtime_ns > copied for path in self.results.glob("records/*.csv"))


def _reason(earlier: dict, output: Path, current: str) -> str:
    if not earlier:
        return "never run"
    if earlier["status"] != "done":
        return f"{earlier['status']} last time"
    if not output.exists():
        return "its copy is gone"
    return "" if earlier["fingerprint"] == current else "changed"


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
