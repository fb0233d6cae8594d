"""Where things lie: repository, data, cache, results. Everything else asks here."""

from __future__ import annotations

import os
from pathlib import Path


def repository_root() -> Path:
    """Folder that holds `notebooks/`.

    The environment variable ROBUSTLIB_ROOT wins. Otherwise the current folder and its parents are
    searched first, so that an installed copy of the library works on the checkout one stands in; then
    the checkout this file belongs to.

    Raises:
        FileNotFoundError: no such folder; the message names what to set.
    """
    override = os.environ.get("ROBUSTLIB_ROOT")
    here = Path.cwd().resolve()
    candidates = [Path(override)] if override else [here, *here.parents, Path(__file__).resolve().parents[2]]
    for folder in candidates:
        if (folder / "notebooks").is_dir() and (folder / "run_all.sh").is_file():
            return folder.resolve()
    raise FileNotFoundError(
        f"no folder with notebooks/ and run_all.sh among {[str(folder) for folder in candidates]}; "
        "run from inside the checkout or set ROBUSTLIB_ROOT to it"
    )


def data_dirs() -> list[Path]:
    """Folders searched for data files, in order; downloads go to the first one that is writable.

    ROBUSTLIB_DATA may name several folders, separated as in PATH, and read-only ones are fine: the
    checkout's own `data/` always comes last.
    """
    named = [Path(part).expanduser() for part in os.environ.get("ROBUSTLIB_DATA", "").split(os.pathsep) if part]
    return [*named, repository_root() / "data"]


def cache_dir() -> Path:
    """Folder of the cache (trained weights, attack results): ROBUSTLIB_CACHE, else `.cache/` of the checkout."""
    override = os.environ.get("ROBUSTLIB_CACHE")
    return Path(override).expanduser() if override else repository_root() / ".cache"


def results_dir(profile: str) -> Path:
    """Folder of one profile's results; `ROBUSTLIB_RESULTS` moves the parent folder (default `results/`)."""
    override = os.environ.get("ROBUSTLIB_RESULTS")
    parent = Path(override).expanduser() if override else repository_root() / "results"
    return parent / profile
