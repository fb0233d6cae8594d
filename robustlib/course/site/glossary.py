"""The glossary as a page, and its words explained where a lesson first uses them."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

from robustlib.course.site.markdown import anchor, to_html

PAGE = "glossary.html"
# Nothing is explained inside these: it would be no prose, or a link within a link.
_LEFT = re.compile(r"(<(a|code|pre|math|script|style|summary|h[1-6])\b.*?</\2>|<[^>]+>)", re.DOTALL)


@dataclass(frozen=True)
class Term:
    """One row of the glossary: its words, its meaning in HTML, and the lessons that use it first."""

    words: tuple[str, ...]
    meaning: str
    first: str

    @property
    def anchor(self) -> str:
        return anchor(self.words[0])

    @property
    def plain(self) -> str:
        """The meaning without marks, for a tooltip."""
        return html.unescape(re.sub(r"<[^>]+>", "", self.meaning))


def read_terms(markdown: str) -> tuple[Term, ...]:
    """The rows of `notebooks/glossary.md`."""
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("| ")]
    return tuple(Term(_words(word), _inline(meaning), first) for word, meaning, first in rows[1:])


def _words(cell: str) -> tuple[str, ...]:
    return tuple(word.replace("\\", "") for word in cell.split(", "))


def _inline(cell: str) -> str:
    return to_html(cell, pages={}).strip().removeprefix("<p>").removesuffix("</p>")


@dataclass
class Explainer:
    """Turns the first use of each word on a page into a link to the glossary that shows the meaning."""

    terms: tuple[Term, ...]
    explained: set[str] = field(default_factory=set)

    def explain(self, body: str) -> str:
        """HTML of one Markdown cell, with words explained that no earlier cell of the page has used."""
        parts, end = [], 0
        for left in _LEFT.finditer(body):
            parts += [self._explained(body[end : left.start()]), left[0]]
            end = left.end()
        return "".join([*parts, self._explained(body[end:])])

    def _explained(self, text: str) -> str:
        return self._pattern.sub(self._link, text) if text.strip() and self.terms else text

    @property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, self._known))})s?(?![\w-])", re.IGNORECASE)

    @property
    def _known(self) -> dict[str, Term]:
        """Terms by word, the longest words first: "adversarial accuracy" is not an "adversary"."""
        words = {word.lower(): term for term in self.terms for word in term.words if re.fullmatch(r"[\w -]+", word)}
        return dict(sorted(words.items(), key=lambda item: -len(item[0])))

    def _link(self, used: re.Match[str]) -> str:
        known, word = self._known, used[0].lower()
        term = known.get(word) or known[word.removesuffix("s")]
        if term.anchor in self.explained:
            return used[0]
        self.explained.add(term.anchor)
        meaning = html.escape(term.plain, quote=True)
        return f'<a class="term" href="{PAGE}#{term.anchor}" data-meaning="{meaning}">{used[0]}</a>'
