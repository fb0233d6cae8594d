"""The kernels of a run: forked from one process that has imported what every notebook imports.

Sixteen kernels that each import torch, transformers and matplotlib spend more time on that than on a small profile.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import uuid
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

# ipykernel first: it says how widgets reach their page. matplotlib_inline only in the kernel, where there is a shell.
PRELOADED = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "matplotlib.pyplot",
    "seaborn",
    "transformers.models.bert.modeling_bert",
    "robustlib.audit",
    "robustlib.course.exercises",
    "robustlib.course.lesson",
    "robustlib.course.plots",
    "robustlib.study.texts",
)
# Windows has no fork, and on macOS system libraries may not survive one.
_forks = multiprocessing.get_context("forkserver") if sys.platform == "linux" else None


def import_early() -> None:
    """Begin, in the background, to import what the kernels will need."""
    if _forks is not None:
        _forks.set_forkserver_preload(list(PRELOADED))
        forkserver.ensure_running()


class KernelManager(AsyncKernelManager):
    """Jupyter's own, with kernels started by `ForkingProvisioner`; `pids` of those started, by each of their arguments.

    A run finds its kernel there by a mark that it gave it.
    """

    pids: ClassVar[dict[str, int]] = {}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.kernel_id = str(uuid.uuid4())
        self.provisioner = ForkingProvisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)


class ForkingProvisioner(LocalProvisioner):
    """Starts a kernel as a fork; where the system cannot, as the local provisioner does."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> KernelConnectionInfo:
        if _forks is None:
            about = await super().launch_kernel(cmd, **options)
        else:
            self.cwd = Path(options.get("cwd") or Path.cwd())
            import_early()
            self.process = _Fork(cmd, dict(options["env"]), str(self.cwd))
            # its own group, so that Ctrl-C in a terminal reaches the run alone; a signal sent before there is one
            # goes to the process
            self.pid = self.pgid = self.process.pid
            about = self.connection_info
        KernelManager.pids |= dict.fromkeys(cmd, self.pid)
        return about


class _Fork:
    """A forked kernel as `LocalProvisioner` handles one: with the methods of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, cmd: list[str], env: dict[str, str], cwd: str) -> None:
        # [python, "-m", "ipykernel_launcher", "-f", file, ...]
        self._process = _forks.Process(target=_serve, args=(cmd[cmd.index("-f") :], env, cwd))
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self.poll()

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _serve(arguments: list[str], env: dict[str, str], cwd: str) -> None:
    """The kernel, in its process."""
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    np.random.seed()
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    IPKernelApp.launch_instance(arguments)


def _end_with_the_run() -> None:
    """ipykernel watches the process that forked it, which waits for its forks; the run itself may have been killed."""
    multiprocessing.parent_process().join()
    os._exit(1)
