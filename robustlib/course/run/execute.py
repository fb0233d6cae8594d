"""One notebook through papermill: in which kernel, how far it is, how much memory, what exactly failed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import robustlib
from robustlib.data.folders import repository_root, writable

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Execution:
    """What one execution took (memory of the kernel and its children), and why it failed ("" if it did not)."""

    seconds: float
    peak_memory_mb: float
    failure: str


class StatusLine:
    """A file for progress bars: on a terminal one moving line, in a log a line at most every `every` seconds."""

    def __init__(self, stream: TextIO | None = None, *, every: float = 15.0):
        self.stream, self.every, self.encoding = stream or sys.stderr, every, "utf-8"
        self._last = time.monotonic()

    def write(self, text: str) -> None:
        states = [_CONTROL.sub("", part).strip() for part in re.split(r"[\r\n]", text)]
        state = next(filter(None, reversed(states)), "")
        if self.stream.isatty():
            width = shutil.get_terminal_size().columns - 1
            self.stream.write(f"\r\033[K{state[:width]}")
        elif state and time.monotonic() - self._last >= self.every:
            self.stream.write(f"{state}\n")
            self._last = time.monotonic()

    def flush(self) -> None:
        self.stream.flush()


def execute(
    notebook: Path, output: Path, parameters: dict[str, object], *, title: str, expected: str, status: StatusLine
) -> Execution:
    """Run a notebook in a kernel of its own and write the executed copy; an error in it is returned, not raised.

    Needs `kernel_environment` around it. Papermill's bar over the cells, from `title` to the `expected` time, and the
    bars that cells draw share the status line.
    """
    import papermill

    started = time.monotonic()
    peak, reached, source, failure = 0.0, 0, "", ""

    def start_cell(cell: dict, **_: object) -> None:
        nonlocal reached, source
        reached, source = reached + 1, cell["source"]

    def sample(**_: object) -> None:
        nonlocal peak
        peak = max(peak, _kernel_memory_mb())

    bar = {
        "desc": title,
        "bar_format": f"{{desc}}: {{n_fmt}} of {{total_fmt}} cells |{{bar:20}}| {{elapsed}}{expected}",
        "file": status,
        "leave": False,
    }
    output.unlink(missing_ok=True)  # what an earlier run left must not pass for the copy of this one
    try:
        check_parameters(notebook, parameters)
        folder = notebook.parent.resolve()
        target = os.path.relpath(writable(output.parent).resolve() / output.name, folder)
        # Papermill writes both paths into the executed copy, which may be published: relative ones reveal nothing.
        with contextlib.chdir(folder):
            papermill.execute_notebook(
                notebook.name,
                target,
                parameters=parameters,
                kernel_name="python3",
                start_timeout=180,
                cwd=".",
                # leaves out what every kernel prints: that it runs over TCP, and an error about our request to stop
                extra_arguments=["--log-level=50"],
                progress_bar=bar,
                stderr_file=status,
                on_cell_execute=start_cell,
                on_cell_executed=sample,
            )
    except Exception as error:  # whatever a notebook does, the others still run
        failure = _failure(error, f"In [{reached}]", source)
    return Execution(time.monotonic() - started, peak, failure)


def check_parameters(notebook: Path, parameters: dict[str, object]) -> None:
    """Raise ValueError for a parameter that the notebook does not declare; papermill only logs a line and goes on."""
    import papermill

    declared = papermill.inspect_notebook(notebook)
    for name in parameters:
        if name not in declared:
            raise ValueError(
                f"{notebook.name} declares no parameter {name!r} in its cell tagged `parameters`; "
                f"it declares {', '.join(declared) or 'none'}"
            )


def _failure(error: Exception, cell: str, source: str) -> str:
    """The cell, its first line, and the error; without a cell where none was reached."""
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    name, message = type(error).__name__, str(error)
    if isinstance(error, PapermillExecutionError):
        cell, source, name, message = f"In [{error.exec_count}]", error.source, error.ename, error.evalue
    elif isinstance(error, DeadKernelError):
        name, message = "DeadKernel", "the kernel ended without a Python error; a system out of memory ends programs so"
    elif not source:
        cell = ""
    first_line = next((line.strip() for line in source.splitlines() if line.strip()), "")
    message = _CONTROL.sub("", message).strip()
    message = message if len(message) <= 600 else f"{message[:600]} ..."
    where = f"{cell}: {first_line}\n" if cell else ""
    return f"{where}{name}: {message}".replace("\n", "\n    ")


@contextlib.contextmanager
def kernel_environment(**variables: str) -> Iterator[None]:
    """Environment in which "python3" is a kernel of the Python that runs this, and robustlib and its folders are found.

    Raises:
        ValueError: "python3" still means another Python, in which robustlib may be missing or old.
    """
    from jupyter_client.kernelspec import KernelSpecManager

    package = str(Path(robustlib.__file__).resolve().parent.parent)
    settled = {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "ROBUSTLIB_ROOT": str(repository_root()),
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }
    for name in ("ROBUSTLIB_DATA", "ROBUSTLIB_CACHE", "ROBUSTLIB_RESULTS"):  # relative to here, not to the notebooks
        folders = [part for part in os.environ.get(name, "").split(os.pathsep) if part]
        if folders:
            settled[name] = os.pathsep.join(str(Path(folder).expanduser().resolve()) for folder in folders)
    before = dict(os.environ)
    os.environ.update(settled | variables)
    try:
        python = KernelSpecManager().get_kernel_spec("python3").argv[0]
        if os.path.isabs(python) and python != sys.executable:
            raise ValueError(f"the kernel python3 is {python}, not {sys.executable}; check JUPYTER_PATH")
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _kernel_memory_mb() -> float:
    """Memory of the processes below this one: what they hold together now, or the most that one ever held."""
    import psutil

    together, highest = 0, 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):
            together += process.memory_info().rss
            status = Path(f"/proc/{process.pid}/status")  # Linux keeps the peak, so none falls between two samples
            peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
            highest = max(highest, int(peak[1]) * 1024 if peak else 0)
    return max(together, highest) / 2**20


def end_kernels() -> None:
    """Kill the kernels of this process, for a run that is being stopped: asked politely, they die with a traceback."""
    import psutil

    children = psutil.Process().children(recursive=True)
    for process in children:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(children, timeout=5)
