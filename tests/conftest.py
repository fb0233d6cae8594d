"""What all tests share: folders of their own, and notebooks made on the spot."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory):
    """No test reads the cache or writes the results of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CACHE", "RESULTS"):
            patch.setenv(f"ROBUSTLIB_{name}", str(tmp_path_factory.mktemp(name.lower())))
        patch.setenv("MPLBACKEND", os.environ.get("MPLBACKEND", "Agg"))
        yield


@pytest.fixture(scope="session")
def write_notebook():
    """`write_notebook(path, *code, parameters=..., **metadata)`: those code cells after a cell of parameters."""

    def write(path: Path, *code: str, parameters: str = 'profile = "quick"\nseed = 7', **metadata: dict) -> Path:
        first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
        cells = [nbformat.v4.new_markdown_cell("# A test"), first, *map(nbformat.v4.new_code_cell, code)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, **metadata}), path)
        return path

    return write
