"""Markdown to self-contained HTML: formulas become MathML, which browsers draw without a library."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

# Letter by letter, as the converter would set it, a word in roman type is not one word.
_WORDS = re.compile(r"\\(?:mathrm|operatorname)\{")
_SUBSCRIPT_WORD = re.compile(r"_\{([a-z]{2,})\}")
# HTML needs none, and a page names no address it has no link to.
_NAMESPACE = ' xmlns="http://www.w3.org/1998/Math/MathML"'
_EMPTY_HEAD = re.compile(r"<thead>\s*<tr>\s*(?:<th[^>]*></th>\s*)+</tr>\s*</thead>")
_NO_PROSE = re.compile(r"(<(code|pre|math|script|style)\b.*?</\2>|<[^>]+>)", re.DOTALL)


def formula(latex: str, *, block: bool = False) -> str:
    """LaTeX to MathML; what cannot be converted is shown as it is written."""
    words = _SUBSCRIPT_WORD.sub(r"_{\\text{\1}}", _WORDS.sub(r"\\text{", latex.strip()))
    try:
        mathml = convert(words, display="block" if block else "inline")
    except Exception:  # the converter raises bare errors of many types
        return f"<code>{html.escape(latex.strip())}</code>"
    return mathml.replace(_NAMESPACE, "")


def to_html(source: str, *, pages: dict[str, str]) -> str:
    """One Markdown cell (LaTeX and HTML in it) as HTML; `pages` says where links to other notebooks lead."""
    body = MarkdownWithMath(renderer=_Renderer(pages)).render(source)
    return scrolling_tables(_EMPTY_HEAD.sub("", body)).replace("<pre>", '<pre tabindex="0">')


def scrolling_tables(body: str) -> str:
    """Put each table into a box that scrolls by finger or keyboard, so that the page need not."""
    box = '<div class="scroll" tabindex="0" role="group" aria-label="table"><table'
    body = re.sub(r"<th[^>]*>\s*</th>", "<td></td>", body)  # an empty heading is none
    return body.replace("<table", box).replace("</table>", "</table></div>")


def subscripts(body: str) -> str:
    """HTML in which T_d and T_a are written as in print, except in code, formulas and scripts."""
    parts = _NO_PROSE.split(body)
    parts[::3] = [re.sub(r"\bT_([ad])\b", r"T<sub>\1</sub>", text) for text in parts[::3]]
    return "".join(part for index, part in enumerate(parts) if index % 3 != 2)


def anchor(text: str) -> str:
    """A heading as the part of an address after "#"."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"


class _Renderer(IPythonRenderer):
    def __init__(self, pages: dict[str, str]) -> None:
        super().__init__(escape=False, exclude_anchor_links=True)
        self.pages = pages

    def inline_math(self, body: str) -> str:
        return formula(body)

    def block_math(self, body: str) -> str:
        return f'<div class="scroll" tabindex="0" role="group" aria-label="formula">{formula(body, block=True)}</div>'

    def heading(self, text: str, level: int, **attributes: object) -> str:
        name = anchor(html.unescape(re.sub(r"<[^>]+>", "", text)))
        return f'<h{level} id="{name}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        file, _, section = url.partition("#")
        page = self.pages.get(file.rsplit("/", 1)[-1])
        return super().link(text, f"{page}#{section}".rstrip("#") if page else url, title)
