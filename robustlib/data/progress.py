"""One progress bar for everything that takes long, readable on a terminal, in a notebook and in a log file."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(iterable: Iterable[Item], *, description: str, total: int | None = None) -> Iterator[Item]:
    """Iterate with a text bar: done of total, time used, time left; ROBUSTLIB_PROGRESS=0 switches it off.

    Plain text: tqdm.auto's widget is blank in exported pages (papermill issue 400).
    """
    quiet = os.environ.get("ROBUSTLIB_PROGRESS", "1") == "0"
    interval = 0.5 if sys.stderr.isatty() else 5.0
    return iter(tqdm(iterable, desc=description, total=total, mininterval=interval, disable=quiet, ncols=90, nrows=20))
