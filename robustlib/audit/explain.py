"""What verdicts, kinds of attack and findings mean, and what to do about them: `explanations.md`, read offline."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Explanation:
    """One entry: its name (an anchor), a title, and paragraphs of Markdown."""

    name: str
    title: str
    paragraphs: tuple[str, ...]

    @property
    def anchor(self) -> str:
        """The name as an anchor of a page."""
        return self.name.replace(" ", "-")

    def __str__(self) -> str:
        return "\n\n".join([f"{self.name}: {self.title}", *(plain(paragraph) for paragraph in self.paragraphs)])

    @property
    def html(self) -> str:
        """The paragraphs as HTML."""
        return "".join(f"<p>{to_html(paragraph)}</p>" for paragraph in self.paragraphs)


@cache
def explanations() -> dict[str, Explanation]:
    """Every explanation by its name."""
    entries = {}
    text = files("robustlib.audit").joinpath("explanations.md").read_text(encoding="utf-8")
    for section in text.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        name, _, title = heading.partition(": ")
        entries[name] = Explanation(name, title, tuple(line for line in body.splitlines() if line.strip()))
    return entries


def explain(name: str) -> Explanation:
    """The explanation of a verdict, a family ("family.unmask") or a finding ("gradient.zero").

    Raises:
        ValueError: there is none; the message names those that come near.
    """
    entries = explanations()
    if name in entries:
        return entries[name]
    near = [other for other in entries if name.lower() in other.lower() or other.split(".")[0] == name.split(".")[0]]
    raise ValueError(f"nothing is called {name!r}: there is {', '.join(near or entries)}")


def to_html(markdown: str) -> str:
    """The Markdown of an explanation as HTML: bold, emphasis, code and numbers of arXiv."""
    text = html.escape(markdown.replace("\\*", "&ast;"), quote=False).replace("&amp;ast;", "&#42;")
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    text = re.sub(r"\*(.+?)\*", r"<i>\1</i>", text)
    return re.sub(r"arXiv (\d{4}\.\d{5})", r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', text)


def plain(markdown: str) -> str:
    """The Markdown of an explanation without its marks."""
    return re.sub(r"\*\*|`|(?<!\\)\*", "", markdown).replace("\\*", "*")
