"""How a run speaks: one line that moves on a terminal, a line now and then in a log file."""

from __future__ import annotations

import re
import shutil
import sys
import threading
import time
from typing import TextIO

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def clock(seconds: float) -> str:
    """Seconds as "0:41" or "1:02:03"."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class Console:
    """Writes lines that stay, and a passing state: one moving line on a terminal, in a log a line every `every` s."""

    def __init__(self, stream: TextIO | None = None, *, every: float = 15.0):
        self.stream = stream or sys.stdout
        self.every = every
        self._moving = False
        self._last = time.monotonic()
        self._lock = threading.Lock()

    def say(self, text: str = "") -> None:
        """Write a line that stays."""
        with self._lock:
            self._write(f"{self._clear()}{text}\n")
            self._moving = False

    def update(self, text: str) -> None:
        """Show a passing state."""
        with self._lock:
            if self.stream.isatty():
                width = shutil.get_terminal_size().columns - 1
                self._write(f"{self._clear()}{text[:width]}")
                self._moving = True
            elif time.monotonic() - self._last >= self.every:
                self._write(f"{text}\n")

    def _clear(self) -> str:
        return "\r\033[K" if self._moving else ""

    def _write(self, text: str) -> None:
        encoding = getattr(self.stream, "encoding", None) or "utf-8"  # a bar must not end a run in an ASCII locale
        self.stream.write(text.encode(encoding, "replace").decode(encoding))
        self.stream.flush()
        self._last = time.monotonic()


class NotebookProgress:
    """The state of one running notebook: which cell, time used, time left, and the bar that the cell draws.

    Papermill writes the kernel's stderr to it as to a file, so a bar inside a long cell is seen while it moves.

    Args:
        head: what stands first, as "[2/5] 01_confidence".
        n_cells: code cells of the notebook.
        expected: seconds this notebook is expected to take, None if nobody knows.
        afterwards: seconds that the notebooks after it are expected to take, None if nobody knows.
    """

    def __init__(self, console: Console, head: str, n_cells: int, expected: float | None, afterwards: float | None):
        self.console, self.head, self.n_cells = console, head, n_cells
        self.expected, self.afterwards = expected, afterwards
        self.cell = 0
        self._started = time.monotonic()
        self._bar = ""

    def start_cell(self) -> None:
        """Another code cell begins."""
        self.cell += 1
        self._bar = ""
        self.tick()

    def write(self, text: str) -> None:
        """Take what the kernel wrote to stderr; the last line of it is shown."""
        pieces = [_CONTROL.sub("", piece).strip() for piece in re.split(r"[\r\n]", text)]
        self._bar = next((piece for piece in reversed(pieces) if piece), self._bar)
        self.tick()

    def flush(self) -> None:
        """Nothing is held back; here because papermill calls it."""

    def tick(self) -> None:
        """Show the present state."""
        used = time.monotonic() - self._started
        bar = f" | {self._bar}" if self._bar else ""
        self.console.update(
            f"{self.head}: cell {self.cell} of {self.n_cells}, {clock(used)} used, {self._left(used)}{bar}"
        )

    def _left(self, used: float) -> str:
        if self.expected is None:
            return "time left unknown"
        left = max(0.0, self.expected - used)
        here = (
            f"about {clock(left)} left" if used <= self.expected else f"longer than the {clock(self.expected)} expected"
        )
        return f"{here} (whole run: {clock(left + self.afterwards)})" if self.afterwards else here
