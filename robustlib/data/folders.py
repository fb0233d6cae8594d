"""Where things lie: repository, data, cache, results; and how they are written. Everything else asks here."""

import os
import threading
from contextlib import suppress
from pathlib import Path


class NoCheckoutError(FileNotFoundError):
    """What was asked for needs the notebooks; the message says where to run."""


class ReadOnlyFolderError(PermissionError):
    """A folder that cannot be written to; the message names it and the variable that moves it elsewhere."""


def repository_root() -> Path:
    """The checkout: ROBUSTLIB_ROOT, else that around the current folder, else this file's; else NoCheckoutError."""
    override = os.environ.get("ROBUSTLIB_ROOT")
    here = Path.cwd().resolve()
    candidates = [Path(override)] if override else [here, *here.parents, Path(__file__).resolve().parents[2]]
    for folder in candidates:
        if (folder / "notebooks").is_dir() and (folder / "run_all.sh").is_file():
            return folder.resolve()
    raise NoCheckoutError(
        f"no folder with notebooks/ and run_all.sh at or above {candidates[0]}; "
        "run from inside a checkout or set ROBUSTLIB_ROOT to one"
    )


def data_dirs() -> list[Path]:
    """Folders searched for data files: those in ROBUSTLIB_DATA (separated as in PATH), then `data/` of the checkout."""
    return _dirs("ROBUSTLIB_DATA", "data", always=True)


def cache_dirs() -> list[Path]:
    """Folders searched for cached results: those in ROBUSTLIB_CACHE (separated as in PATH), else the checkout's."""
    return _dirs("ROBUSTLIB_CACHE", ".cache")


def cache_dir() -> Path:
    """The folder of `cache_dirs()` that is written to: the first writable one (the first, where none is)."""
    folders = cache_dirs()
    return next(filter(is_writable, folders), folders[0])


def results_dir(profile: str) -> Path:
    """Folder of one profile's results, in ROBUSTLIB_RESULTS, `results/` of the checkout or of the current folder."""
    override = os.environ.get("ROBUSTLIB_RESULTS")
    return (Path(override).expanduser() if override else (_checkout() or Path.cwd()) / "results") / profile


def folder_variables() -> dict[str, str]:
    """The variables by which another process finds these folders, wherever it stands; needs a checkout."""
    folders = {"ROOT": [repository_root()], "DATA": data_dirs(), "CACHE": cache_dirs()}
    if os.environ.get("ROBUSTLIB_RESULTS"):  # else a student's copy names its own
        folders["RESULTS"] = [results_dir("")]
    return {f"ROBUSTLIB_{name}": os.pathsep.join(str(path.resolve()) for path in of) for name, of in folders.items()}


def is_writable(folder: Path) -> bool:
    """Whether one may write to a folder; it is created where it is missing."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    # root may write anywhere: a folder without any write bit is meant to be left alone
    if not os.access(existing, os.W_OK) or not existing.stat().st_mode & 0o222:
        return False
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder.is_dir()


def writable(folder: Path) -> Path:
    """The folder itself, created where it is missing; ReadOnlyFolderError where it cannot be written to."""
    if not is_writable(folder):
        raise ReadOnlyFolderError(f"{folder} cannot be written to; {_way_out(folder)}")
    return folder


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file (text as UTF-8) so that readers see the old content or the new; raises like `writable`."""
    raw = content.encode() if isinstance(content, str) else content
    temporary = writable(path.parent) / f".{path.name}.{os.getpid()}-{threading.get_ident()}.part"
    try:
        with temporary.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _checkout() -> Path | None:
    try:
        return repository_root()
    except NoCheckoutError:
        return None


def _dirs(variable: str, name: str, *, always: bool = False) -> list[Path]:
    named = [Path(part).expanduser() for part in os.environ.get(variable, "").split(os.pathsep) if part]
    root = _checkout()
    if root and (always or not named):
        return [*named, root / name]
    return named or [Path("~/.cache/robustlib").expanduser() / name.removeprefix(".")]


def _way_out(folder: Path) -> str:
    for variable, folders in (
        ("ROBUSTLIB_CACHE", cache_dirs()),
        ("ROBUSTLIB_DATA", data_dirs()),
        ("ROBUSTLIB_RESULTS", [results_dir("")]),
    ):
        if any(folder.absolute().is_relative_to(other.absolute()) for other in folders):
            return f"name a writable folder in {variable}"
    return "choose another folder"
