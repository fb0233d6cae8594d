"""In a real browser: a notebook in JupyterLab, moved by keyboard as a reader would."""

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
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
SECOND = 1000  # Playwright counts in milliseconds

pytestmark = pytest.mark.browser


def until(condition, what, seconds=60):
    """Wait for `condition()` and return what it returns."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)
    return result


@pytest.fixture
def lab(tmp_path):
    """Address of a JupyterLab on a copy of notebook 00 in the smallest profile, with settings of its own."""
    notebook = nbformat.read(ROOT / "notebooks" / "00_first_result.ipynb", as_version=4)
    (parameters,) = (cell for cell in notebook.cells if "parameters" in (cell.metadata.get("tags") or []))
    parameters.source = parameters.source.replace('"quick"', '"smoke"')
    work = tmp_path / "work"
    work.mkdir()
    nbformat.write(notebook, work / "lesson.ipynb")
    settings = {
        # Otherwise cells that are scrolled out of sight are not in the page at all.
        "notebook-extension/tracker": '{"windowingMode": "none"}',
        "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    }
    for name, text in settings.items():
        path = tmp_path / "user_settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    options = {"ip": "127.0.0.1", "port": port, "IdentityProvider.token": token, "ServerApp.root_dir": work}
    options |= {"ServerApp.port_retries": 0, "LabApp.extension_manager": "readonly"}
    options |= {f"LabApp.{kind}_dir": tmp_path / kind for kind in ("workspaces", "user_settings")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    folders |= {"IPYTHONDIR": str(tmp_path / "ipython"), "ROBUSTLIB_ROOT": str(ROOT), "PYTHONPATH": str(ROOT)}
    environ = {**os.environ, **folders}
    environ.pop("MPLBACKEND", None)  # Agg, set for the tests, would keep the figures out of the notebook
    log = tmp_path / "jupyterlab.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environ, cwd=work)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/api/status?token={token}", server, log), "JupyterLab answers")
        yield f"http://127.0.0.1:{port}/lab/tree/lesson.ipynb?token={token}"
    finally:
        server.terminate()  # ends its kernels, too
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def answers(address: str, server: subprocess.Popen, log: Path) -> bool:
    assert server.poll() is None, f"JupyterLab ended at its start:\n{log.read_text()[-2000:]}"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


# The prompt of a folded cell, a solution, is empty. JupyterLab shows an exception as text on stderr.
RAN = """() => {
    const texts = query => [...document.querySelectorAll(query)].map(each => each.textContent);
    const failed = texts(".jp-OutputArea-output").filter(text => text.includes("Traceback (most recent call last)"));
    const prompts = texts(".jp-CodeCell .jp-InputPrompt");
    const all = prompts.length && prompts.every(text => text === "" || /[0-9]/.test(text));
    return failed.length || all ? failed : null;
}"""


def started(page) -> bool:
    """Run all cells; False if JupyterLab dropped that, as it does until the kernel is there."""
    page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_timeout(1 * SECOND)
    assert page.locator(".jp-Dialog").all_inner_texts() == [], "JupyterLab asks something"
    return page.locator(".jp-CodeCell .jp-InputPrompt", has_text=re.compile(r"[*0-9]")).count() > 0


def test_a_notebook_runs_in_jupyterlab_and_its_slider_moves_the_figure(browser, lab):
    page, troubles = browser.new_page(viewport={"width": 1366, "height": 900}), []
    with contextlib.closing(page):
        page.set_default_timeout(60 * SECOND)
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("response", lambda got: troubles.append(f"{got.status} {got.url}") if got.status > 399 else None)
        page.goto(lab)
        page.locator(".jp-NotebookPanel .jp-CodeCell").first.wait_for()
        until(lambda: started(page), "the cells run")
        assert page.wait_for_function(RAN, timeout=240 * SECOND).json_value() == []

        slider = page.locator('.jp-OutputArea [role="slider"]').first
        slider.scroll_into_view_if_needed()
        area = page.locator(".jp-OutputArea", has=page.locator('[role="slider"]')).first
        picture = area.locator("img").first
        picture.wait_for()
        before, value = picture.get_attribute("src"), slider.get_attribute("aria-valuenow")
        seen = picture.screenshot()
        slider.focus()
        page.keyboard.press("ArrowRight")
        until(lambda: slider.get_attribute("aria-valuenow") != value, "the slider moves on an arrow key")
        until(lambda: picture.get_attribute("src") != before, "the picture is another one")
        until(lambda: picture.screenshot() != seen, "the picture looks different")
        assert troubles == []
