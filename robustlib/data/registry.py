"""The data sets by name, read from datasets.toml and files.csv: what each is, its files and their sums, its sources.

A name always denotes the same bytes. A file may lie gzip-wrapped (its name plus `.gz`): size and sum are the content's.
"""

import csv
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from robustlib.data.sources import Archive, DebianPackage, Download, InstalledFiles, Source, SourceDistribution, Wheels


@dataclass(frozen=True)
class File:
    """A file by its path below a data folder, with the size in bytes and the sha256 of its content."""

    name: str
    size: int
    sha256: str

    @property
    def key(self) -> str:
        return PurePosixPath(self.name).name


@dataclass(frozen=True)
class Dataset:
    """A registry entry; `note` says what a reader of results must know about this copy."""

    name: str
    title: str
    files: tuple[File, ...]
    sources: tuple[Source, ...]
    licence: str
    citation: str
    note: str = ""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def _read() -> dict[str, Dataset]:
    folder = Path(__file__).parent
    files: dict[str, list[File]] = defaultdict(list)
    with (folder / "files.csv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            files[row["dataset"]].append(File(row["path"], int(row["bytes"]), row["sha256"]))
    datasets = {}
    for name, entry in tomllib.loads((folder / "datasets.toml").read_text(encoding="utf-8")).items():
        if shared := entry.pop("sources_of", None):
            sources = datasets[shared].sources
        else:
            sources = tuple(_source(row, name, files) for row in entry.pop("sources", []))
        datasets[name] = Dataset(name=name, files=tuple(files[name]), sources=sources, **entry)
    return datasets


def _source(row: dict[str, Any], name: str, files: dict[str, list[File]]) -> Source:
    held = [file for other in row.pop("holds", [name]) for file in files[other]]
    return _KINDS[row.pop("kind")](held, **row)


def _at(files: list[File], template: str) -> tuple[tuple[str, str], ...]:
    return tuple((file.name, template.format(file.key)) for file in files)


def _download(files: list[File], urls: list[str], sha256: list[str] | None = None) -> Download:
    sums = sha256 or [file.sha256 for file in files]
    templates = urls if len(urls) == len(files) else urls * len(files)
    rows = zip(files, templates, sums, strict=True)
    return Download(tuple((file.name, url.format(file.key), value) for file, url, value in rows))


_KINDS = {
    "download": _download,
    "archive": lambda files, url, members, sha256=None: Archive(url, sha256, _at(files, members)),
    "source distribution": lambda files, members, **row: SourceDistribution(members=_at(files, members), **row),
    "wheels": lambda files, members, wheels, **row: Wheels(
        members=_at(files, members), wheels=tuple(tuple(wheel) for wheel in wheels), **row
    ),
    "installed": lambda files, path: InstalledFiles(_at(files, path)),
    "debian": lambda files, package, path: DebianPackage(package, _at(files, path)),
}
DATASETS = _read()
