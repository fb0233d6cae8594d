"""JupyterLab on one notebook, with settings and a kernel of its own, for a browser that a script drives."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from robustlib.data.folders import repository_root

SECOND = 1000  # Playwright counts in milliseconds
SETTINGS = {
    # Otherwise cells that are scrolled out of sight are not in the page at all.
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
# The prompt of a folded cell is empty. JupyterLab shows an exception as text on stderr.
RAN = """() => {
    const texts = query => [...document.querySelectorAll(query)].map(each => each.textContent);
    const failed = texts(".jp-OutputArea-output").filter(text => text.includes("Traceback (most recent call last)"));
    const prompts = texts(".jp-CodeCell .jp-InputPrompt");
    const all = prompts.length && prompts.every(text => text === "" || /[0-9]/.test(text));
    return failed.length || all ? failed : null;
}"""


@contextlib.contextmanager
def jupyterlab(notebook: str, folder: Path) -> Iterator[str]:
    """Start JupyterLab in a folder on a notebook, given as its file's text; yields the address where it is open.

    Raises:
        RuntimeError: JupyterLab ended at its start, or did not answer within a minute.
    """
    work = folder / "work"
    work.mkdir()
    (work / "lesson.ipynb").write_text(notebook, encoding="utf-8")
    for name, text in SETTINGS.items():
        path = folder / "user_settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    options = {"ip": "127.0.0.1", "port": port, "IdentityProvider.token": token, "ServerApp.root_dir": work}
    options |= {"ServerApp.port_retries": 0, "LabApp.extension_manager": "readonly"}
    options |= {f"LabApp.{kind}_dir": folder / kind for kind in ("workspaces", "user_settings")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    root = str(repository_root())
    folders = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    folders |= {"IPYTHONDIR": str(folder / "ipython"), "ROBUSTLIB_ROOT": root, "PYTHONPATH": root}
    environ = {**os.environ, **folders}
    environ.pop("MPLBACKEND", None)  # Agg would keep the figures out of the notebook
    log = folder / "jupyterlab.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environ, cwd=work)
    try:
        address = f"http://127.0.0.1:{port}"
        until(lambda: _answers(f"{address}/api/status?token={token}", server, log), "JupyterLab answers")
        yield f"{address}/lab/tree/lesson.ipynb?token={token}"
    finally:
        server.terminate()  # ends its kernels, too
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def run_all(page: Any, seconds: int = 240) -> None:
    """Run all cells of the notebook that a page (of Playwright) has open, and wait for them.

    Raises:
        RuntimeError: a cell failed; the message holds its traceback.
    """
    page.locator(".jp-NotebookPanel .jp-CodeCell").first.wait_for()
    until(lambda: _started(page), "the cells run")
    if failed := page.wait_for_function(RAN, timeout=seconds * SECOND).json_value():
        raise RuntimeError(failed[0])


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait for `condition()` and return what it returns.

    Raises:
        RuntimeError: it stayed false; the message names `what`.
    """
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds} s: {what}")
        time.sleep(0.2)
    return result


def _answers(address: str, server: subprocess.Popen, log: Path) -> bool:
    if server.poll() is not None:
        raise RuntimeError(f"JupyterLab ended at its start:\n{log.read_text()[-2000:]}")
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _started(page: Any) -> bool:
    """Run all cells; False if JupyterLab dropped that, as it does until the kernel is there."""
    page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_timeout(1 * SECOND)
    if dialogs := page.locator(".jp-Dialog").all_inner_texts():
        raise RuntimeError(f"JupyterLab asks: {dialogs[0]}")
    return page.locator(".jp-CodeCell .jp-InputPrompt", has_text=re.compile(r"[*0-9]")).count() > 0
