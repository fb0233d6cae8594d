"""One notebook through papermill: in which kernel, how much memory, what exactly failed."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import psutil

import robustlib
from robustlib.course.run.kernels import KernelManager
from robustlib.data.folders import folder_variables, writable


@dataclass(frozen=True)
class Execution:
    """What one execution took (memory of its kernel, at its highest), and why it failed ("" if it did not)."""

    seconds: float
    peak_memory_mb: float
    failure: str


def execute(notebook: Path, output: Path, parameters: dict[str, object]) -> Execution:
    """Run a notebook in a kernel of its own and write the executed copy; an error in it is returned, not raised.

    Needs `kernel_environment` around it, and the notebook's folder as the current one.
    """
    import papermill

    started, mark = time.monotonic(), f"--Robustlib.notebook={notebook.stem}"
    cells: list[str] = []
    peaks, failure = [0.0], ""
    output.unlink(missing_ok=True)  # what an earlier run left must not pass for the copy of this one
    try:
        declared = papermill.inspect_notebook(notebook)
        for name in parameters.keys() - declared.keys():  # papermill only logs a line and goes on
            names = ", ".join(declared) or "none"
            raise ValueError(f"declares no parameter {name!r} in its cell tagged `parameters`; it declares {names}")
        # Papermill writes both paths into the executed copy, which may be published: relative ones reveal nothing.
        papermill.execute_notebook(
            notebook.name,
            os.path.relpath(writable(output.parent).resolve() / output.name),
            parameters=parameters,
            request_save_on_cell_execute=False,  # by default it writes all of the copy before and after every cell
            kernel_name="python3",
            kernel_manager_class=KernelManager,
            start_timeout=180,
            cwd=".",
            # leaves out what every kernel prints: that it runs over TCP, and an error about our request to stop
            extra_arguments=["--log-level=50", mark],
            progress_bar=False,
            on_cell_execute=lambda cell, **_: cells.append(cell["source"]),
            on_cell_executed=lambda **_: peaks.append(_peak_memory_mb(mark)),
        )
    except Exception as error:  # whatever a notebook does, the others still run
        failure = _failure(error, cells)
    return Execution(time.monotonic() - started, max(peaks), failure)


def _failure(error: Exception, cells: list[str]) -> str:
    """The cell that was reached, its first line, and the error; without a cell where none was reached."""
    from nbclient.exceptions import DeadKernelError
    from nbconvert.filters import strip_ansi

    message = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
    if isinstance(error, DeadKernelError):
        message = "DeadKernel: the kernel ended without a Python error; a system out of memory ends programs so"
    first_line = cells[-1].strip().splitlines()[:1] if cells else []
    cell = f"In [{len(cells)}]: {first_line[0]}\n" if first_line else ""
    return (cell + strip_ansi(message)[:600]).replace("\n", "\n    ")


def _peak_memory_mb(mark: str) -> float:
    """Peak memory of the kernel with a mark among its arguments; what it holds now where the system keeps no peak."""
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(KernelManager.pids[mark])
        status = Path(f"/proc/{process.pid}/status")
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
        return int(peak[1]) / 1024 if peak else process.memory_info().rss / 2**20
    return 0.0


# glibc gives large blocks back to the system and asks for them again at every layer of a network: a quarter of the time
# of an attack on a small one goes into that. Read when a process starts, and by glibc alone.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}


@contextlib.contextmanager
def kernel_environment(**variables: str) -> Iterator[None]:
    """Environment of kernels and workers: "python3" is a kernel of this Python that finds robustlib and its folders."""
    package = str(Path(robustlib.__file__).resolve().parent.parent)
    settled = {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # else chosen at an import that has no shell yet
        "JUPYTER_PATH": "",  # comes before the environment, and may hold the kernel of another Python
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }
    keep = {name: os.environ.get(name, value) for name, value in KEEP_MEMORY.items()}
    with patch.dict(os.environ, keep | settled | folder_variables() | variables):
        yield


def end_kernels() -> None:
    """Kill kernels and workers of a run that is stopped: asked politely, they die with a traceback."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if not any("resource_tracker" in word for word in process.cmdline()):  # it clears up and ends by itself
                process.kill()
