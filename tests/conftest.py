"""What all tests share: folders of their own, notebooks made on the spot, and a browser where there is one."""

import os
import shutil
from pathlib import Path

import nbformat
import pytest
from data_fixtures import data  # noqa: F401
from hypothesis import settings

# No test fails because the machine is busy.
settings.register_profile("robustlib", deadline=None)
settings.load_profile("robustlib")


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory):
    """No test reads the cache or writes the results of whoever runs the tests, or starts workers unasked."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CACHE", "RESULTS"):
            patch.setenv(f"ROBUSTLIB_{name}", str(tmp_path_factory.mktemp(name.lower())))
        patch.setenv("ROBUSTLIB_WORKERS", "1")  # a notebook's units are computed by its cells
        patch.setenv("MPLBACKEND", os.environ.get("MPLBACKEND", "Agg"))
        patch.setenv("ROBUSTLIB_PROGRESS", "0")
        yield


@pytest.fixture(scope="session")
def write_notebook():
    """`write_notebook(path, *code, parameters=..., **metadata)`: those code cells after a cell of parameters."""

    def write(
        path: Path, *code: str, parameters: str = 'profile = "quick"\nseed = 7\nsolutions = False', **metadata: dict
    ) -> Path:
        first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
        cells = [nbformat.v4.new_markdown_cell("# A test"), first, *map(nbformat.v4.new_code_cell, code)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, **metadata}), path)
        return path

    return write


@pytest.fixture(scope="session")
def playwright_engine():
    """Playwright, which drives the browsers; one for all of them."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    with playwright.sync_playwright() as engine:
        yield engine


@pytest.fixture(scope="session")
def browser(playwright_engine):
    """Chromium; a test that needs it is skipped where there is none."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("needs Chromium (Debian and Ubuntu: apt-get install chromium)")
    # As root Chromium has no sandbox, and a container's /dev/shm is too small for it.
    options = {"executable_path": chromium, "args": ["--no-sandbox", "--disable-dev-shm-usage"]}
    with playwright_engine.chromium.launch(**options) as launched:
        yield launched
