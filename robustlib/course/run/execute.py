"""One notebook through papermill: in which kernel, which cell is running, how much memory, what exactly failed."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import robustlib
from robustlib.course.run.console import NotebookProgress
from robustlib.data.folders import repository_root

if TYPE_CHECKING:
    from nbformat import NotebookNode


_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Failure:
    """Why a notebook failed. `cell` ("In [5]") and `line` (its first line) are empty where no cell was reached."""

    error: str
    message: str
    cell: str = ""
    line: str = ""

    def __str__(self) -> str:
        where = f"{self.cell}: {self.line}\n    " if self.cell else ""
        message = self.message.replace("\n", "\n    ")
        return f"{where}{self.error}: {message}"


@dataclass(frozen=True)
class Execution:
    """What one execution took, and why it failed if it did. Memory is that of the kernel and its children."""

    seconds: float
    peak_memory_mb: float
    failure: Failure | None


def execute(notebook: Path, output: Path, parameters: dict[str, object], progress: NotebookProgress) -> Execution:
    """Run a notebook in a kernel of its own and write the executed copy; an error in it is returned, not raised.

    Needs `kernel_search_path` around it. The kernel runs in the notebook's folder, as it does in JupyterLab.
    """
    started = time.monotonic()
    peak = 0.0
    source = ""
    failure = None

    def start_cell(cell: NotebookNode, **_: object) -> None:
        nonlocal source
        source = cell.source
        progress.start_cell()

    def sample(**_: object) -> None:
        nonlocal peak
        peak = max(peak, _kernel_memory_mb())

    def beat() -> None:
        sample()
        progress.tick()

    output.unlink(missing_ok=True)  # what an earlier run left must not pass for the copy of this one
    try:
        check_parameters(notebook, parameters)
        with _every_second(beat):
            hooks = {"stderr_file": progress, "on_cell_execute": start_cell, "on_cell_executed": sample}
            _papermill(notebook, output, parameters, **hooks)
    except Exception as error:  # whatever a notebook does, the next one gets its turn
        failure = _describe(error, progress.cell, source, peak)
    return Execution(time.monotonic() - started, peak, failure)


def check_parameters(notebook: Path, parameters: dict[str, object]) -> None:
    """Refuse a parameter that the notebook does not declare; papermill only logs a line and goes on.

    Raises:
        ValueError: names the missing parameter and those there are.
    """
    import papermill

    declared = papermill.inspect_notebook(notebook)
    for name in parameters:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            raise ValueError(
                f"{notebook.name} declares no parameter {name!r} in its cell tagged `parameters`; "
                f"it declares {', '.join(declared) or 'none'}" + (f" (is {near[0]!r} a slip?)" if near else "")
            )


def _papermill(notebook: Path, output: Path, parameters: dict[str, object], **hooks: object) -> None:
    import papermill

    output.parent.mkdir(parents=True, exist_ok=True)
    folder = notebook.parent.resolve()
    target = os.path.relpath(output.resolve(), folder)
    # Papermill writes both paths into the executed copy, which may be published: relative ones tell nothing.
    with contextlib.chdir(folder):
        papermill.execute_notebook(
            notebook.name,
            target,
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            start_timeout=180,
            cwd=".",
            **hooks,
        )


def _describe(error: Exception, n_reached: int, source: str, peak_memory_mb: float) -> Failure:
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        message = _COLOUR.sub("", error.evalue).strip()
        return Failure(error.ename, _shorten(message), f"In [{error.exec_count}]", _first_line(error.source))
    if isinstance(error, DeadKernelError):
        message = (
            f"the kernel ended without a Python error (peak memory {peak_memory_mb:.0f} MB); "
            "an operating system that runs out of memory ends programs like that"
        )
        return Failure("DeadKernel", message, f"In [{n_reached}]", _first_line(source))
    return Failure(type(error).__name__, _shorten(str(error)))


def _shorten(text: str, limit: int = 600) -> str:
    return text if len(text) <= limit else f"{text[:limit]} ..."


def _first_line(source: str) -> str:
    return next((line.strip() for line in source.splitlines() if line.strip()), "")


@contextlib.contextmanager
def kernel_search_path(folder: Path, **variables: str) -> Iterator[None]:
    """Make "python3" mean a kernel of the Python that runs this, for as long as the context lasts.

    A kernel of that name in the user's home or in a notebook's metadata may belong to another Python, in
    which robustlib is missing or old. The description is written to `folder` and registered nowhere.

    Args:
        folder: where to write it.
        variables: environment of the kernel, beyond that of this process.

    Raises:
        RuntimeError: "python3" still means another Python.
    """
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpecManager

    # Level 50 leaves out what every kernel prints: "running over TCP without encryption", and at its end an
    # "ERROR | KeyboardInterrupt" about our own request to stop.
    description = get_kernel_dict(extra_arguments=["--log-level=50"])
    description["env"] = {**_settled_environment(), "PYDEVD_DISABLE_FILE_VALIDATION": "1", **variables}
    spec = folder / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True, exist_ok=True)
    spec.write_text(json.dumps(description, indent=1), encoding="utf-8")

    before = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(folder.resolve()), before]))
    try:
        found = KernelSpecManager().get_kernel_spec("python3").argv[0]
        if found != sys.executable:
            raise RuntimeError(f"the kernel python3 is {found}, not {sys.executable}; check JUPYTER_PATH")
        yield
    finally:
        if before is None:
            del os.environ["JUPYTER_PATH"]
        else:
            os.environ["JUPYTER_PATH"] = before


def _settled_environment() -> dict[str, str]:
    """Where robustlib and its folders are, said so that it also holds in the notebooks' folder."""
    package = str(Path(robustlib.__file__).resolve().parent.parent)
    settled = {
        "ROBUSTLIB_ROOT": str(repository_root()),
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }
    for name in ("ROBUSTLIB_DATA", "ROBUSTLIB_CACHE", "ROBUSTLIB_RESULTS"):
        folders = [part for part in os.environ.get(name, "").split(os.pathsep) if part]
        if folders:
            settled[name] = os.pathsep.join(str(Path(folder).expanduser().resolve()) for folder in folders)
    return settled


@contextlib.contextmanager
def _every_second(call: Callable[[], None]) -> Iterator[None]:
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(1.0):
            call()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


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
