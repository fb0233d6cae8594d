"""Find, verify and fetch the files of a data set. Nothing is used whose size and sha256 do not fit the registry."""

import gzip
import hashlib
import os
import shutil
import zlib
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from robustlib.data.folders import cache_dir, data_dirs, is_writable, replace_file
from robustlib.data.registry import DATASETS, Dataset, File

_CHUNK = 1 << 20


class FetchError(RuntimeError):
    """No source gave the right bytes; the message says what was tried and how to put the files there by hand."""


def fetch(name: str) -> dict[str, Path]:
    """Verified files of a data set, by bare file name; they are fetched where no data folder has them.

    What is fetched goes to the first writable one of `data_dirs()`, checked before it is moved into place. A path may
    end in `.gz` where the registry's name does not: read it with `content`.

    ValueError: unknown name (the message lists the known ones); FetchError: no folder and no source has the files, or
    no folder is writable.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    dataset = DATASETS[name]
    paths, troubles = find(dataset)
    if len(paths) == len(dataset.files):
        return paths
    target = next(filter(is_writable, data_dirs()), None)
    if target is None:
        folders = os.pathsep.join(map(str, data_dirs()))
        raise FetchError(f"no data folder can be written to ({folders}); name a writable folder in ROBUSTLIB_DATA")
    # A lock frees itself when its holder dies, also by kill -9.
    with FileLock(target / f".{name}.lock"):
        paths, troubles = find(dataset)
        if len(paths) < len(dataset.files):
            _obtain(dataset, target, troubles)
            paths, _ = find(dataset)
    return paths


def find(dataset: Dataset) -> tuple[dict[str, Path], list[str]]:
    """Files that lie verified in a data folder, by bare name, and what is wrong with those that do not fit."""
    paths: dict[str, Path] = {}
    troubles: list[str] = []
    for file in dataset.files:
        candidates = [folder / f"{file.name}{ending}" for folder in data_dirs() for ending in ("", ".gz")]
        for path in filter(Path.is_file, candidates):
            trouble = check(path, file)
            if trouble is None:
                paths[file.key] = path
                break
            troubles.append(trouble)
    return paths, troubles


def check(path: Path, file: File, *, remember: bool = True) -> str | None:
    """None where the content of `path` has the registry's size and sha256, else what is wrong with it.

    A right file is remembered by its size and time of change; `remember=False` hashes it in any case.
    """
    status = path.stat()
    stamp = cache_dir() / "verified" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]
    mark = f"{status.st_size} {status.st_mtime_ns} {file.sha256}"
    with suppress(OSError):
        if remember and stamp.read_text() == mark:
            return None
    try:
        size, sha256 = _size_and_sha256(path, file)
    except (OSError, EOFError, zlib.error) as error:
        return f"{path} cannot be read ({type(error).__name__}: {error})"
    if size != file.size:
        return f"{path} has {size:,} bytes or more, not {file.size:,}"
    if sha256 != file.sha256:
        return f"{path} has sha256 {sha256}, not {file.sha256}"
    with suppress(OSError):  # then the next start hashes it again
        replace_file(stamp, mark)
    return None


def _size_and_sha256(path: Path, file: File) -> tuple[int, str]:
    """Size and sum of the content; reading ends soon after the expected size, whatever a gzip file unfolds to."""
    digest, size = hashlib.sha256(), 0
    with _open(path, file.key) as content:
        while size <= file.size and (chunk := content.read(_CHUNK)):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _open(path: Path, key: str):
    return gzip.open(path) if path.name == f"{key}.gz" else path.open("rb")


def content(paths: dict[str, Path], key: str) -> bytes:
    """Content of the file with the bare name `key` among what `fetch` gave, unwrapped where it lies gzipped."""
    with _open(paths[key], key) as opened:
        return opened.read()


def _obtain(dataset: Dataset, target: Path, troubles: list[str]) -> None:
    work = target / f".fetching-{dataset.name}"
    failures = []
    try:
        for source in dataset.sources:
            shutil.rmtree(work, ignore_errors=True)  # also what a killed run left
            work.mkdir()
            try:
                source.obtain(work)
                wrong = [_wrong(work, file) for file in dataset.files]
            except Exception as error:
                wrong = [f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"]
            if not any(wrong):
                _install(work, target)
                return
            failures.append(f"{source.where}\n     {'; '.join(filter(None, wrong))}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    raise FetchError(_message(dataset, target, failures, troubles))


def _install(work: Path, target: Path) -> None:
    """Move every right file into place; one source may carry the files of several data sets."""
    for file in {file for dataset in DATASETS.values() for file in dataset.files}:
        if _wrong(work, file) is None:
            (target / file.name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(work / file.name, target / file.name)


def _wrong(work: Path, file: File) -> str | None:
    path = work / file.name
    return check(path, file, remember=False) if path.is_file() else f"gave no {file.key}"


def _message(dataset: Dataset, target: Path, failures: list[str], troubles: list[str]) -> str:
    lines = [f"could not get the data set {dataset.name!r} ({dataset.title})."]
    if failures:
        lines.append("Sources tried, in order:")
        lines += [f"  {position}. {failure}" for position, failure in enumerate(failures, 1)]
    else:
        lines.append("It has no source to download from: its files must be in a data folder.")
    if troubles:
        lines += ["Files found, but not used:", *(f"  {trouble}" for trouble in troubles)]
    lines.append(f"Folders searched: {os.pathsep.join(str(folder) for folder in data_dirs())}")
    lines.append("To put the files there by hand (as they are, or gzipped with .gz added to the name):")
    lines += [f"  {target / file.name}  {file.size:,} bytes, sha256 {file.sha256}" for file in dataset.files]
    lines.append(f"and check them by: python -m robustlib data verify {dataset.name}")
    lines.append("Another folder that holds them can be named in ROBUSTLIB_DATA.")
    return "\n".join(lines)


def resolve_dataset(preferred: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """The first data set of `preferred` that is available (it is fetched if need be), and why each before it is not.

    With ROBUSTLIB_FETCH=0 nothing is fetched: the first that lies here, or the first of all, for a forecast.

    ValueError: an unknown name, or none at all; FetchError: none is available.
    """
    if not preferred:
        raise ValueError("preferred must name at least one data set")
    if os.environ.get("ROBUSTLIB_FETCH") == "0":
        here = [name for name in preferred if len(find(DATASETS[name])[0]) == len(DATASETS[name].files)]
        return (here or preferred)[0], {}
    reasons: dict[str, str] = {}
    for name in preferred:
        try:
            fetch(name)
        except FetchError as error:
            reasons[name] = str(error)
        else:
            return name, reasons
    raise FetchError("\n\n".join(reasons.values()))
