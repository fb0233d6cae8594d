"""One notebook through papermill: in which kernel, how much memory, what exactly failed."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import robustlib
from robustlib.data.folders import repository_root, writable

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Execution:
    """What one execution took (memory of the kernel and its children), and why it failed ("" if it did not)."""

    seconds: float
    peak_memory_mb: float
    failure: str


def execute(notebook: Path, output: Path, parameters: dict[str, object]) -> Execution:
    """Run a notebook in a kernel of its own and write the executed copy; an error in it is returned, not raised.

    Needs `kernel_environment` around it, and the notebook's folder as the current one.
    """
    import papermill

    started = time.monotonic()
    peak, reached, source, failure, mark = 0.0, 0, "", "", f"--Robustlib.notebook={notebook.stem}"

    def start_cell(cell: dict, **_: object) -> None:
        nonlocal reached, source
        reached, source = reached + 1, cell["source"]

    def sample(**_: object) -> None:
        nonlocal peak
        peak = max(peak, _kernel_memory_mb(mark))

    output.unlink(missing_ok=True)  # what an earlier run left must not pass for the copy of this one
    try:
        check_parameters(notebook, parameters)
        # Papermill writes both paths into the executed copy, which may be published: relative ones reveal nothing.
        papermill.execute_notebook(
            notebook.name,
            os.path.relpath(writable(output.parent).resolve() / output.name),
            parameters=parameters,
            kernel_name="python3",
            start_timeout=180,
            cwd=".",
            # leaves out what every kernel prints: that it runs over TCP, and an error about our request to stop
            extra_arguments=["--log-level=50", mark],
            progress_bar=False,
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


def _kernel_memory_mb(mark: str) -> float:
    """Memory of the kernel with a mark among its arguments and of the processes below it, now or at its highest."""
    import psutil

    together, highest = 0, 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):
            if not any(mark in ancestor.cmdline() for ancestor in (process, *process.parents())):
                continue
            together += process.memory_info().rss
            status = Path(f"/proc/{process.pid}/status")  # Linux keeps the peak, so none falls between two samples
            peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
            highest = max(highest, int(peak[1]) * 1024 if peak else 0)
    return max(together, highest) / 2**20


def end_kernels() -> None:
    """Kill kernels and workers of a run that is stopped: asked politely, they die with a traceback."""
    import psutil

    killed = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if not any("resource_tracker" in word for word in process.cmdline()):  # it clears up and ends by itself
                process.kill()
                killed.append(process)
    psutil.wait_procs(killed, timeout=5)
