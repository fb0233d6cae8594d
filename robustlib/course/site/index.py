"""What the index shows of the records: the illusion in a few numbers, and every claim with its verdict."""

from __future__ import annotations

import html
import re
from typing import Any

from markupsafe import Markup

from robustlib.course.site.markdown import subscripts
from robustlib.course.words import plain
from robustlib.study.claims.findings import BASELINE, OVER
from robustlib.study.claims.judge import Judgement, Scorecard
from robustlib.study.claims.rules import VERDICTS, interval_text
from robustlib.study.claims.scorecard import RULES

_KINDS = (("reproduced", "✓"), ("partly", "◐"), ("not", "✗"), ("open", "?"), ("void", "∅"), ("untested", "–"))
_KIND = dict(zip(VERDICTS, _KINDS, strict=True))
_FIRST = 160  # characters of a claim's numbers before the rest folds away


def index_content(card: Scorecard) -> dict[str, Any]:
    """What `templates/index.html` asks for, but `has_csv`; no table where there are no records."""
    content = {"headline": _headline(card), "scorecard": [], "untested": []}
    if card.records.empty:
        return content
    return content | {
        "scorecard": [_row(judgement) for judgement in card.tested],
        "counts": card.counts,
        "rules": RULES,
        "n_untested": sum(map(len, card.untested.values())),
        "untested": [
            {"reason": f"{modality}, {reason}", "claims": ", ".join(claims)}
            for (modality, reason), claims in card.untested.items()
        ],
    }


def _row(judgement: Judgement) -> dict[str, Any]:
    kind, sign = _KIND[judgement.verdict]
    line, first, *others = judgement.ours(), *(f"{f.where}: {f.measured}" for f in judgement.measured), judgement.sample
    folded = len(line) > _FIRST and len(others) > 1
    texts = {name: getattr(judgement, name) for name in ("statement", "paper", "reason")}
    texts |= {"ours": f"{judgement.measure}: {first}; {len(others) - 1} more" if folded else line}
    row: dict[str, Any] = {name: _inline(text) for name, text in texts.items()}
    row |= {name: getattr(judgement, name) for name in ("claim", "modality", "verdict")}
    return row | {"kind": kind, "sign": sign, "more": [_inline(text) for text in others] if folded else []}


def _inline(text: str) -> Markup:
    """Plain text as HTML: code between backticks, T_d with a subscript, arrows."""
    escaped = html.escape(text.replace(" -> ", " → "))
    return Markup(subscripts(re.sub("`(.+?)`", r"<code>\1</code>", escaped)))


def _headline(card: Scorecard) -> list[dict[str, Any]]:
    cards = []
    for modality, settings in card.sides.items():
        for name, data in settings.items():
            extreme = data.most_overconfident
            if extreme is None:
                continue
            rows = [
                ("as trained", "honest", data.accuracy(BASELINE, 1.0)),
                (f"served at T_d = {extreme:g}", "served", data.accuracy(OVER, extreme)),
                ("the same, attacker calibrates", "pierced", data.accuracy(OVER, extreme, "cal-exact")),
                ("the same, attacker climbs the margin", "pierced", data.accuracy(OVER, extreme, "margin")),
            ]
            measured = [(words, kind, row) for words, kind, row in rows if row is not None]
            bars = [
                {
                    "words": words,
                    "html": _inline(words),
                    "kind": kind,
                    "mean": f"{row['mean']:.1f}",
                    "text": interval_text(row),
                }
                for words, kind, row in measured
            ]
            attacked = f"{plain(data.attack)}, n = {measured[0][2]['n']:.0f}"
            cards.append({"title": f"{modality.capitalize()}: {plain(name)}", "detail": attacked, "rows": bars})
    return cards
