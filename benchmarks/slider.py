"""Milliseconds from a key to the picture of the sliders, against 30 (median) and 50 (95th percentile).

    python benchmarks/slider.py [results/quick/site] [--lab 00 01 03] [--keys 60] [--out results/benchmarks]

A real key press in Chromium, on each slider page of a site and in JupyterLab on the lessons named; the time runs from
the key's own time stamp to the first task after the frame that was drawn for it. Prints a table, writes slider.csv.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from lab import SECOND, jupyterlab, run_all
from playwright.sync_api import Browser, Page, sync_playwright

from robustlib.data.folders import repository_root, results_dir, writable
from robustlib.study.records import newest_results

MEDIAN_TARGET, P95_TARGET = 30.0, 50.0
WARM_UP = 5
SLIDER = '.rl input[type="range"]'
# After the frame's callbacks, in which a slider draws, comes the paint, and then this message.
LISTEN = """() => {
    window.measured = [];
    addEventListener("keydown", (key) => requestAnimationFrame(() => {
        const after = new MessageChannel();
        after.port1.onmessage = () =>
            window.measured.push([performance.now() - key.timeStamp, document.querySelector(".rl output").textContent]);
        after.port2.postMessage(null);
    }), true);
}"""


def key_to_picture(page: Page, keys: int) -> np.ndarray:
    """(keys,) milliseconds of the first slider on a page, moved one step at a time to its end and back."""
    slider = page.locator(SLIDER).first
    slider.focus()
    page.evaluate(LISTEN)
    for index in range(WARM_UP + keys):
        low, high, now = (int(slider.evaluate(f"slider => slider.{name}")) for name in ("min", "max", "value"))
        rising = now == low or (now != high and (index // max(high - low, 1)) % 2 == 0)
        page.keyboard.press("ArrowRight" if rising else "ArrowLeft")
        page.wait_for_function(f"window.measured.length > {index}")
    times, values = zip(*page.evaluate("window.measured"), strict=True)
    if any(value == before for before, value in itertools.pairwise(values)):
        raise RuntimeError(f"{page.url}: a picture was not drawn when its time was taken")
    return np.array(times[WARM_UP:])


def measured(name: str, page: Page, keys: int) -> dict[str, str | float]:
    """A row of the table: the first slider of the page that is open."""
    times = key_to_picture(page, keys)
    median, high = np.percentile(times, [50, 95])
    load = os.getloadavg()[0]
    return {"page": name, "median": median, "p95": high, "max": times.max(), "n": len(times), "load": load}


def in_jupyterlab(browser: Browser, number: str, profile: str, keys: int) -> dict[str, str | float]:
    """The first slider of a lesson, in JupyterLab after all cells have run."""
    lesson = next((repository_root() / "notebooks").glob(f"{number}_*.ipynb"))
    source = lesson.read_text(encoding="utf-8").replace('profile = \\"quick\\"', f'profile = \\"{profile}\\"')
    with tempfile.TemporaryDirectory() as folder, jupyterlab(source, Path(folder)) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60 * SECOND)
        page.goto(address)
        run_all(page, seconds=600)
        page.locator(SLIDER).first.scroll_into_view_if_needed()
        row = measured(f"JupyterLab, lesson {number}, {profile}", page, keys)
        page.close()
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("site", type=Path, nargs="?", help="default: the site of the newest results")
    parser.add_argument("--lab", nargs="*", default=[], metavar="LESSON", help="numbers of lessons with a slider")
    parser.add_argument("--profile", default="quick", help="of the lessons in JupyterLab")
    parser.add_argument("--keys", type=int, default=60, help="keys pressed on each page")
    parser.add_argument("--out", type=Path, help="folder for slider.csv; default: results/benchmarks")
    chosen = parser.parse_args(arguments)
    site = chosen.site or newest_results() / "site"
    rows = []
    with sync_playwright() as engine:
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = engine.chromium.launch(executable_path=chromium, args=options)
        for path in sorted(site.glob("*-[0-9][0-9]*.html")):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(path.resolve().as_uri())
            rows.append(measured(path.name, page, chosen.keys))
            page.close()
        rows += [in_jupyterlab(browser, number, chosen.profile, chosen.keys) for number in chosen.lab]
        browser.close()
    table = pd.DataFrame(rows).assign(cores=os.cpu_count())
    table["reached"] = (table["median"] <= MEDIAN_TARGET) & (table["p95"] <= P95_TARGET)
    print(table.round(1).to_string(index=False))
    table.to_csv(writable(chosen.out or results_dir("benchmarks")) / "slider.csv", index=False)


if __name__ == "__main__":
    main()
