"""Where the course can be opened and read, made from one setting: the address in pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_FIRST = "notebooks/00_first_result.ipynb"


def links(pyproject: Path, notebook: str) -> dict[str, str]:
    """Addresses of a notebook (its path in the repository) on Colab, on Binder and as code; {} while there is none.

    From `[tool.robustlib]`: `repository` and `branch`. ValueError: no GitHub repository, which Colab needs.
    """
    settings = _settings(pyproject)
    if not settings["repository"]:
        return {}
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", settings["repository"])
    if not match:
        raise ValueError(
            f"repository = {settings['repository']!r} in {pyproject}: expected https://github.com/OWNER/NAME"
        )
    place, branch = match[1], settings["branch"]
    return {
        "Colab": f"https://colab.research.google.com/github/{place}/blob/{branch}/{notebook}",
        "Binder": f"https://mybinder.org/v2/gh/{place}/{branch}?urlpath=lab/tree/{notebook}",
        "code": f"https://github.com/{place}/blob/{branch}/{notebook}",
    }


def badges(pyproject: Path) -> str:
    """Two Markdown lines for README, from `links` of the first lesson; "" while there is no address."""
    where = links(pyproject, _FIRST)
    if not where:
        return ""
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({where['Colab']})\n"
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({where['Binder']})"
    )


def site_address(pyproject: Path) -> str:
    """The address under which the pages are published, with a slash at its end; "" while there is none."""
    address = _settings(pyproject).get("site", "")
    return f"{address.rstrip('/')}/" if address else ""


def _settings(pyproject: Path) -> dict[str, str]:
    if not pyproject.is_file():
        return {"repository": ""}
    return tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["robustlib"]
