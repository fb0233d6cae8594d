"""What has to run: notebooks by number, what each depends on, and what earlier runs left in a results folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import robustlib
from robustlib.data.folders import replace_file, repository_root
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
        return self.notebook.stem


def read(results: Path) -> dict[str, dict]:
    """What run.json says of each notebook: status, fingerprint, seconds, peak_memory_mb, finished."""
    try:
        return json.loads((results / "run.json").read_text(encoding="utf-8"))["notebooks"]
    except (FileNotFoundError, ValueError, KeyError):  # none, or damaged: everything runs again
        return {}


def record(results: Path, entries: dict[str, dict]) -> None:
    """Note entries in run.json, and drop what notebooks that are gone have left."""
    notebooks = read(results) | entries
    for name in notebooks.keys() - {path.stem for path in (repository_root() / "notebooks").glob("*.ipynb")}:
        (results / "notebooks" / f"{name}.ipynb").unlink(missing_ok=True)
        del notebooks[name]
    replace_file(results / "run.json", json.dumps({"notebooks": notebooks}, indent=1, sort_keys=True))


def steps_of(
    notebooks: Sequence[Path], results: Path, parameters: dict[str, object], data: Sequence[str], *, refresh: bool
) -> list[Step]:
    """The notebooks, each with why it has to run; `data`: names of the sets in use; `refresh`: run all the same."""
    library, earlier = library_digest(Path(robustlib.__file__).resolve().parent), read(results)
    published = read(repository_root() / "results" / "published" / results.name)  # so that the longest can come first
    newest_record = max((path.stat().st_mtime_ns for path in results.glob("records/*.csv")), default=0)
    steps: list[Step] = []
    for notebook in notebooks:
        output, entry = results / "notebooks" / notebook.name, earlier.get(notebook.stem, {})
        copied = output.stat().st_mtime_ns if output.exists() else 0
        try:
            content = json.loads(notebook.read_text(encoding="utf-8"))
            current = fingerprint(content["cells"], parameters, library, data)
            reads_records = content["metadata"].get("robustlib", {}).get("reads_records", False)
        except (ValueError, KeyError):  # papermill will say what is wrong with it when its turn comes
            current, reads_records = "", False
        reasons = {
            "never run": not entry,
            f"{entry.get('status')} last time": entry.get("status") != "done",
            "its copy is gone": not copied,
            "changed": entry.get("fingerprint") != current,
            "refresh": refresh,
            # what other notebooks have recorded is no part of a fingerprint
            "new records": reads_records and (newest_record > copied or any(step.reason for step in steps)),
        }
        reason = next((reason for reason, holds in reasons.items() if holds), "")
        seconds = (entry or published.get(notebook.stem, {})).get("seconds")
        steps.append(Step(notebook, output, current, reason, seconds, reads_records))
    return steps


def select_notebooks(folder: Path, only: str | None = None) -> list[Path]:
    """The numbered notebooks in order, or those of them whose numbers `only` names ("02,04" or "2,4").

    ValueError: a number without a notebook; the message lists those there are.
    """
    numbered = {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    wanted = list(numbered) if only is None else [part.strip() for part in only.split(",")]
    unknown = [part for part in wanted if not part or part.zfill(2) not in numbered]
    if unknown or not numbered:
        there = ", ".join(numbered) or f"none in {folder}"
        raise ValueError(f"no notebook with number {', '.join(unknown) or 'NN_'}; there are {there}")
    return [numbered[number] for number in sorted({part.zfill(2) for part in wanted})]


def library_digest(package: Path) -> str:
    """Hash of the library's source and tables, and of the versions of what computes the numbers."""
    digest = hashlib.sha256(source_digest(("",), package).encode())
    for path in sorted(path for kind in ("*.csv", "*.toml") for path in package.rglob(kind)):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes())
    for name in ("torch", "numpy"):
        digest.update(f"{name} {installed_version(name)}\0".encode())
    return digest.hexdigest()


def fingerprint(cells: list[dict], parameters: dict[str, object], library: str, data: Sequence[str]) -> str:
    """What an executed copy depends on: source (prose too), parameters, library, and the data sets in use."""
    source = [[cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", [])] for cell in cells]
    text = json.dumps([source, parameters, library, list(data)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
