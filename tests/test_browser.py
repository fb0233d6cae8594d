"""In a real browser: a notebook in JupyterLab, moved by keyboard as a reader would."""

from __future__ import annotations

import contextlib
import importlib
import re

import pytest

from robustlib.data.folders import repository_root

SECOND = 1000  # Playwright counts in milliseconds

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def lab():
    """The script that starts JupyterLab and runs the cells of a notebook there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository_root() / "benchmarks"))
        yield importlib.import_module("lab")


@pytest.fixture
def address(lab, tmp_path):
    """Address of a JupyterLab on a copy of notebook 00 in the smallest profile."""
    lesson = (repository_root() / "notebooks" / "00_first_result.ipynb").read_text(encoding="utf-8")
    with lab.jupyterlab(lesson.replace('profile = \\"quick\\"', 'profile = \\"smoke\\"'), tmp_path) as running:
        yield running


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


def test_a_slider_in_jupyterlab_moves_without_the_kernel_tells_it_and_survives_its_restart(browser, lab, address):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page, troubles = browser.new_page(viewport={"width": 1366, "height": 900}), []
    with contextlib.closing(page):
        page.set_default_timeout(60 * SECOND)
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("response", lambda got: troubles.append(f"{got.status} {got.url}") if got.status > 399 else None)
        page.goto(address)
        lab.run_all(page)

        slider = page.locator('.rl input[type="range"]').first
        slider.scroll_into_view_if_needed()
        area = page.locator(".rl").first
        assert [one["id"] for one in axe.run(page, context=".rl").response["violations"]] == []

        def moves(key: str) -> None:
            before = shown(area)
            slider.focus()
            page.keyboard.press(key)
            lab.until(
                lambda: all(new != old for new, old in zip(shown(area), before, strict=True)), "value and picture move"
            )

        for key in ("End", "ArrowLeft"):
            moves(key)
        value = float(shown(area)[0].removeprefix("Td = "))
        read = float(run_last_cell(page, "print(slider.temperature)"))
        assert read == pytest.approx(value, rel=0.01), "Python reads what was chosen"
        run_last_cell(page, "slider.temperature = 100.0; print('set')")
        lab.until(lambda: shown(area)[0] == "Td = 100", "the slider shows what Python has set")
        assert troubles == []

        page.get_by_role("menuitem", name="Kernel", exact=True).click()
        page.get_by_role("menuitem", name=re.compile("^Restart Kernel")).first.click()
        page.get_by_role("button", name="Confirm Kernel Restart").click()
        page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()
        page.wait_for_timeout(2 * SECOND)
        for key in ("ArrowLeft", "ArrowUp", "End"):
            moves(key)
