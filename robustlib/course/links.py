"""Colab and Binder links of the course, built from one setting: the repository's address in pyproject.toml."""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path
from urllib.parse import quote, urlsplit

from robustlib.data.folders import repository_root

BEGIN, END = "<!-- links:begin -->", "<!-- links:end -->"
_COMMAND = "python -m robustlib links"
_NO_ADDRESS = f"""This copy does not say where it is published, so there is nothing for Colab and Binder to open. Once
it has a public address, write it into `pyproject.toml` and run `{_COMMAND}`; the links then stand here.

```toml
[tool.robustlib]
repository = "https://github.com/OWNER/NAME"
```"""
_COLAB_NOTE = """Colab opens the lesson alone. Put this into a cell above all others and run it first (a few minutes;
if Colab then asks for a restart, restart and run only `%cd study/notebooks`):"""


def repository_address(root: Path) -> tuple[str, str]:
    """Public address and branch from `[tool.robustlib]` in `pyproject.toml`; the address is "" where none is set.

    Raises:
        ValueError: the address is not that of a repository (https://host/owner/name).
    """
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")).get("tool", {}).get("robustlib", {})
    address = settings.get("repository", "").strip().removesuffix("/").removesuffix(".git")
    if address and not re.fullmatch(r"https://[\w.-]+(/[\w.-]+){2,}", address):
        raise ValueError(
            f"pyproject.toml, [tool.robustlib] repository = {address!r}: expected https://host/owner/name, "
            "or nothing while there is no public address"
        )
    return address, settings.get("branch", "main")


def colab_link(address: str, branch: str, notebook: str) -> str:
    """Link that opens `notebooks/<notebook>` on Colab; "" where the host is not GitHub, the only one it opens."""
    host, owner_and_name = urlsplit(address).netloc, urlsplit(address).path
    if host != "github.com":
        return ""
    return f"https://colab.research.google.com/github{owner_and_name}/blob/{quote(branch)}/notebooks/{notebook}"


def binder_link(address: str, branch: str, notebook: str) -> str:
    """Link that starts JupyterLab on Binder with `notebooks/<notebook>` open."""
    path = urlsplit(address).path.strip("/")
    source = {"github.com": f"gh/{path}", "gitlab.com": f"gl/{quote(path, safe='')}"}.get(
        urlsplit(address).netloc, f"git/{quote(address, safe='')}"
    )
    opened = quote(f"lab/tree/notebooks/{notebook}", safe="")
    return f"https://mybinder.org/v2/{source}/{quote(branch, safe='')}?urlpath={opened}"


def colab_cell(address: str) -> str:
    """What a lesson opened on Colab needs first, in a cell of its own: Colab opens the file without the rest."""
    return f"!git clone --quiet --depth 1 {address} study\n%cd study/notebooks\n%pip install --quiet .."


def links_section(root: Path) -> str:
    """A row of links for each notebook and the cell Colab needs, or what to set while there is no address.

    Raises:
        ValueError: as `repository_address`.
    """
    address, branch = repository_address(root)
    if not address:
        return _NO_ADDRESS
    lines = ["| lesson | Colab | Binder |", "|---|---|---|"]
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        colab, binder = (link(address, branch, path.name) for link in (colab_link, binder_link))
        opened = f"[open]({colab})" if colab else "paste the cell below"
        lines.append(f"| {path.stem[:2]} {path.stem[3:].replace('_', ' ')} | {opened} | [open]({binder}) |")
    return "\n".join([*lines, "", _COLAB_NOTE, "", "```python", colab_cell(address), "```"])


def write_links(root: Path) -> list[Path]:
    """Put `links_section` between the markers of README.md and notebooks/README.md, where they have them.

    Returns:
        The files that have markers.

    Raises:
        ValueError: as `repository_address`; or neither file has both markers, once and in order.
    """
    section, found = links_section(root), []
    for path in (root / "README.md", root / "notebooks" / "README.md"):
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text.count(BEGIN) == text.count(END) == 1 and text.index(BEGIN) < text.index(END):
            before, after = text.split(BEGIN)[0], text.split(END)[1]
            path.write_text(f"{before}{BEGIN}\n{section}\n{END}{after}", encoding="utf-8")
            found.append(path)
    if not found:
        raise ValueError(f"neither README.md nor notebooks/README.md in {root} has the lines {BEGIN} and {END}")
    return found


def main(argv: list[str] | None = None) -> int:
    """`python -m robustlib links`: write the Colab and Binder links into the READMEs, from pyproject.toml's address."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description=main.__doc__)
    parser.parse_args(argv)
    root = repository_root()
    try:
        address, _ = repository_address(root)
        written = write_links(root)
    except (OSError, ValueError) as error:
        print(f"{_COMMAND}: {error}", file=sys.stderr)
        return 2
    print(f"Links to {address}, in" if address else "No address is set: a note instead of links, in")
    print(*(path.relative_to(root) for path in written), sep="\n")
    return 0
