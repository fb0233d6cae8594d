"""The files of all data sets, read from files.csv: path below a data folder, size, and sha256 of the content."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class File:
    """A file by its path below a data folder, with the size in bytes and the sha256 of its content."""

    name: str
    size: int
    sha256: str

    @property
    def key(self) -> str:
        """The bare file name, by which loaders ask for it."""
        return PurePosixPath(self.name).name


def _read() -> dict[str, tuple[File, ...]]:
    files = defaultdict(tuple)
    with (Path(__file__).parent / "files.csv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            files[row["dataset"]] += (File(row["path"], int(row["bytes"]), row["sha256"]),)
    return dict(files)


FILES = _read()
