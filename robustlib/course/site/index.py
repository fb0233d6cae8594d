"""What the index shows of the records: the illusion in a few numbers, and every claim with its verdict."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pandas as pd

from robustlib.study.claims.findings import (
    BASELINE,
    EQUIVALENCE_MARGIN,
    MAIN_ATTACK,
    OVER,
    VERDICTS,
    evidence,
    interval_text,
)
from robustlib.study.records import load_records

_KIND = dict(zip(VERDICTS, (("reproduced", "✓"), ("partly", "◐"), ("not", "✗"), ("untested", "–")), strict=True))
_FIRST = 160  # characters of a claim's numbers before the rest folds away


def index_content(results: Path) -> dict[str, Any]:
    """What `templates/index.html` asks for, from a results folder with records, a scorecard.csv, or neither."""
    records = load_records(results)
    csv = results / "scorecard.csv"
    if csv.exists():
        frame = pd.read_csv(csv, keep_default_na=False)
    elif len(records):
        from robustlib.study.claims.scorecard import scorecard

        frame = scorecard(records)
    else:
        frame = pd.DataFrame()
    content = {"headline": _headline(records), "has_csv": csv.exists(), "scorecard": [], "untested": []}
    if frame.empty:
        return content
    untested = frame[frame.verdict == VERDICTS[3]]
    groups = untested.groupby(["modality", "reason"], sort=False)
    return content | {
        "scorecard": [_row(row) for row in frame[frame.verdict != VERDICTS[3]].to_dict("records")],
        "counts": ", ".join(f"{(frame.verdict == name).sum()} {name}" for name in VERDICTS),
        "rules": (
            "Paper: percent, in the order bae/tf/pwws/dg. Ours: paired differences in percentage points with their "
            f"95 % intervals; equal or removed: the whole interval is within {EQUIVALENCE_MARGIN:g} points."
        ),
        "n_untested": len(untested),
        "untested": [
            {"reason": f"{modality}, {reason}", "claims": ", ".join(group.claim)}
            for (modality, reason), group in groups
        ],
    }


def origin(results: Path) -> str:
    """Profile, device, date and commit of the records in words."""
    records = load_records(results)
    if records.empty:
        return f"the results of {results.name}"
    facts = {name: sorted(records[name].dropna().astype(str).unique()) for name in ("profile", "device", "commit")}
    words = f"profile {', '.join(facts['profile'])}, device {', '.join(facts['device'])}"
    commit = f", commit {', '.join(facts['commit'])}" if facts["commit"] else ""
    return f"{words}, measured {max(records.date.astype(str))}{commit}"


def _row(row: dict[str, str]) -> dict[str, Any]:
    kind, sign = _KIND[row["verdict"]]
    shown = {name: text.replace(" -> ", " → ") for name, text in row.items()} | {"kind": kind, "sign": sign, "more": []}
    shown["statement"] = re.sub("`(.+?)`", r"<code>\1</code>", html.escape(shown["statement"]))
    parts = shown["ours"].split("; ")
    if len(row["ours"]) > _FIRST and len(parts) > 2:
        shown |= {"ours": f"{parts[0]}; {len(parts) - 1} more", "more": parts[1:]}
    return shown


def _headline(records: pd.DataFrame) -> list[dict[str, Any]]:
    """A card for each data set and model: honest, as served overconfident, and after each adversary."""
    cards = []
    for modality in MAIN_ATTACK:
        for name, data in evidence(records, modality).items():
            pierced = data.rows.query("method == @OVER and adversary == 'cal-exact' and attack == @data.attack")
            if pierced.empty:
                continue
            extreme = float(pierced.design_temperature.min())
            rows = [
                ("as trained", "honest", data.accuracy(BASELINE, 1.0)),
                (f"served at T_d = {extreme:g}", "served", data.accuracy(OVER, extreme)),
                ("the same, attacker calibrates", "pierced", data.accuracy(OVER, extreme, "cal-exact")),
                ("the same, attacker climbs the margin", "pierced", data.accuracy(OVER, extreme, "margin")),
            ]
            measured = [(words, kind, row) for words, kind, row in rows if row is not None]
            bars = [
                {"words": words, "kind": kind, "mean": f"{row['mean']:.1f}", "text": interval_text(row)}
                for words, kind, row in measured
            ]
            attacked = f"{data.attack}, n = {measured[0][2]['n']:.0f}"
            cards.append({"title": f"{modality.capitalize()}: {name}", "detail": attacked, "rows": bars})
    return cards
