"""In a real browser: a notebook in JupyterLab and the static pages, moved by keyboard as a reader would."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest

from robustlib.course.site import build_site, interactive

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECOND = 1000  # Playwright counts in milliseconds

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian and Ubuntu: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    with playwright.sync_playwright() as engine:
        # As root Chromium has no sandbox, and a container's /dev/shm is too small for it.
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@contextlib.contextmanager
def watched(browser, **options):
    """A page, and the list of what went wrong in it: console errors, exceptions, failed answers."""
    page = browser.new_page(**options)
    page.set_default_timeout(60 * SECOND)
    troubles = []
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "response", lambda answer: troubles.append(f"{answer.status} {answer.url}") if answer.status > 399 else None
    )
    try:
        yield page, troubles
    finally:
        page.close()


def until(condition, what, seconds=60):
    """Wait for `condition()` and return what it returns."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)
    return found


# --- JupyterLab ------------------------------------------------------------------------------------------------


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
        path = tmp_path / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={work}",
        "--ServerApp.port_retries=0",
        f"--LabApp.user_settings_dir={tmp_path / 'settings'}",
        f"--LabApp.workspaces_dir={tmp_path / 'workspaces'}",
        "--LabApp.extension_manager=readonly",
    ]
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
    with watched(browser, viewport={"width": 1366, "height": 900}) as (page, troubles):
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


# --- the static site -------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Index of a site with the published scorecard, two lessons with a figure, and a page for each kind of slider."""
    monkeypatch.setenv("ROBUSTLIB_RESULTS", str(tmp_path))
    results = tmp_path / "smoke"
    published = ROOT / "results" / "published" / "quick"
    shutil.copytree(published / "records", results / "records")
    shutil.copy(published / "scorecard.csv", results)
    for name, other in (("00_first", "01_second"), ("01_second", "00_first")):
        write_executed(results / "notebooks" / f"{name}.ipynb", other, published / "figures" / "00_first_result.png")

    generator = np.random.default_rng(0)
    about = {"profile": "smoke", "class_names": ["cat", "dog", "hen"], "title": "made up", "notebook": "01"}
    logits, labels = generator.normal(0, 3, (60, 3)), generator.integers(0, 3, 60)
    interactive.save_temperature(
        "image",
        examples=range(8),
        logits=logits,
        labels=labels,
        pictures=generator.random((8, 1, 8, 8)),
        adversarial_accuracy={"PGD": [(1e-3, 80.0), (1.0, 10.0), (1e3, 20.0)]},
        **about,
    )
    x = np.linspace(-1, 1, 15)
    across, along = np.meshgrid(x, x)
    surface = np.stack([2 + along + across, along - across, np.ones_like(along)], axis=-1)
    interactive.save_landscape(
        "input",
        logits=surface[:, :, None],
        labels=[0],
        coordinates=x,
        axes=("towards the attack", "random"),
        paths=[(1.0, [(0, 0), (0.5, 0.2)])],
        **about,
    )
    return build_site(results)


def write_executed(path: Path, other: str, figure: Path) -> None:
    """A notebook as a run leaves it: prose with a link, a formula, a wide table, and a cell with a figure."""
    text = (
        f"# A lesson\n\nSee [the other]({other}.ipynb). $P = e^{{l/T}}$\n\n| a | b |\n|---|---|\n"
        + "| word " * 40
        + "|\n"
    )
    picture = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(figure.read_bytes()).decode()})
    long = "plot(" + ", ".join(f"argument_{i}={i}" for i in range(20)) + ")"
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell(long, outputs=[picture], execution_count=1)]
    path.parent.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


PHONE = {"width": 390, "height": 844}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_of_the_site_is_reached_fits_a_phone_and_asks_nobody(browser, site, scheme):
    home = site.parent.as_uri()
    with watched(browser, viewport=PHONE, color_scheme=scheme) as (page, troubles):
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        waiting, seen = [site.as_uri()], set()
        while waiting:
            address = waiting.pop()
            seen.add(address)
            page.goto(address)
            file, _, fragment = address.partition("#")
            assert not fragment or page.locator(f'[id="{fragment}"]').count() == 1, f"{address} leads nowhere"
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= PHONE["width"], f"{file} is {width} px wide"
            links = page.eval_on_selector_all("a[href]", "all => all.map(each => each.href)")
            inside = {link for link in links if link.startswith(home)}
            gone = [link for link in inside if not (site.parent / link.partition("#")[0].rpartition("/")[2]).is_file()]
            assert gone == [], f"{address} has links to nothing"
            pages = {link for link in inside if link.partition("#")[0].endswith(".html")}
            waiting += sorted(pages - seen - set(waiting))
        reached = {Path(address.partition("#")[0]).name for address in seen}
        assert reached == {path.name for path in site.parent.glob("*.html")}
        assert [url for url in asked if not url.startswith((home, "data:", "blob:"))] == []
        assert troubles == []


@pytest.mark.parametrize(
    ("name", "slider", "drawn"),
    [
        ("temperature-image", "temperature", "document.querySelector('#softmax').innerHTML"),
        ("temperature-image", "temperature", "document.querySelector('#reliability').innerHTML"),
        ("landscape-input", "landscape-temperature", "document.querySelector('#landscape-surface').toDataURL()"),
    ],
)
def test_a_slider_of_the_site_redraws_on_an_arrow_key(browser, site, name, slider, drawn):
    with watched(browser, viewport=PHONE) as (page, troubles):
        page.goto((site.parent / f"{name}.html").as_uri())
        page.locator(f"#{slider}").focus()
        before, value = page.evaluate(drawn), page.locator("#temperature-value").inner_text()
        assert value
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        until(lambda: page.locator("#temperature-value").inner_text() != value, "the temperature changes", 10)
        until(lambda: page.evaluate(drawn) != before, "the drawing changes", 10)
        assert troubles == []
