"""Badges that open the course on Colab and Binder, made from one setting: the address in pyproject.toml."""

import re
import tomllib
from pathlib import Path

_LESSON = "notebooks/00_first_result.ipynb"


def badges(pyproject: Path) -> str:
    """Two Markdown lines for README, from `[tool.robustlib]`; "" while `repository` is empty.

    ValueError: the address is not that of a GitHub repository, the only ones that Colab opens.
    """
    settings = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["robustlib"]
    if not settings["repository"]:
        return ""
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", settings["repository"])
    if not match:
        raise ValueError(
            f"repository = {settings['repository']!r} in {pyproject}: expected https://github.com/OWNER/NAME"
        )
    colab = f"https://colab.research.google.com/github/{match[1]}/blob/{settings['branch']}/{_LESSON}"
    binder = f"https://mybinder.org/v2/gh/{match[1]}/{settings['branch']}?urlpath=lab/tree/{_LESSON}"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})\n"
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    )
