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
    lesson = (ROOT / "notebooks" / "00_first_result.ipynb").read_text(encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    (work / "lesson.ipynb").write_text(
        lesson.replace('profile = \\"quick\\"', 'profile = \\"smoke\\"'), encoding="utf-8"
    )
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


def shown(area) -> tuple[str, str]:
    return area.locator("output").first.text_content(), area.locator(".rl-panels").inner_html()


def run_last_cell(page, source: str) -> str:
    """Run one more cell, at the end of the notebook, and return what it prints."""
    page.locator(".jp-Notebook-footer").click()
    cell = page.locator(".jp-CodeCell").last
    cell.locator(".cm-content").click()
    page.keyboard.insert_text(source)
    page.keyboard.press("Control+Enter")
    cell.locator(".jp-OutputArea-output").wait_for()
    return cell.locator(".jp-OutputArea-output").inner_text()


def test_a_slider_in_jupyterlab_moves_without_the_kernel_tells_it_and_survives_its_restart(browser, lab):
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

        slider = page.locator('.rl input[type="range"]').first
        slider.scroll_into_view_if_needed()
        area = page.locator(".rl").first

        def moves(key: str) -> None:
            before = shown(area)
            slider.focus()
            page.keyboard.press(key)
            until(
                lambda: all(new != old for new, old in zip(shown(area), before, strict=True)), "value and picture move"
            )

        for key in ("End", "ArrowLeft"):
            moves(key)
        value = float(shown(area)[0].removeprefix("Td = "))
        read = float(run_last_cell(page, "print(slider.temperature)"))
        assert read == pytest.approx(value, rel=0.01), "Python reads what was chosen"
        run_last_cell(page, "slider.temperature = 100.0; print('set')")
        until(lambda: shown(area)[0] == "Td = 100", "the slider shows what Python has set")
        assert troubles == []

        page.get_by_role("menuitem", name="Kernel", exact=True).click()
        page.get_by_role("menuitem", name=re.compile("^Restart Kernel")).first.click()
        page.get_by_role("button", name="Confirm Kernel Restart").click()
        page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()
        page.wait_for_timeout(2 * SECOND)
        for key in ("ArrowLeft", "ArrowUp", "End"):
            moves(key)
