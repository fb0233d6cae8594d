"""The picture that is shown where the address of the pages is shared."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from robustlib.course.plots import COLOURS

NAME, SIZE = "card.png", (1200, 630)  # pixels, what networks ask for
_KINDS = {"honest": COLOURS[2], "served": COLOURS[1], "pierced": COLOURS[0]}


def draw_card(path: Path, title: str, headline: list[dict[str, Any]]) -> str:
    """Draw the title and the first headline's bars; returns what the picture shows, in words.

    `headline`: as of `index_content`.
    """
    figure = Figure(figsize=(SIZE[0] / 100, SIZE[1] / 100), dpi=100, facecolor="white")
    figure.text(0.05, 0.93, title, fontsize=33, weight="bold", va="top")
    sentence = (
        "Divide a classifier's logits by a constant: not one prediction changes, and yet a standard attack fails."
    )
    figure.text(0.05, 0.79, textwrap.fill(sentence, 66), fontsize=19, va="top", color="#333333")
    words = [title, sentence]
    for card in headline[:1]:
        figure.text(0.05, 0.58, f"Accuracy under attack, {card['title']} ({card['detail']})", fontsize=15, va="top")
        ax = figure.add_axes((0.42, 0.07, 0.5, 0.44))
        rows = card["rows"][::-1]
        bars = ax.barh(
            range(len(rows)), [float(row["mean"]) for row in rows], color=[_KINDS[row["kind"]] for row in rows]
        )
        ax.bar_label(bars, [f"{row['mean']} %" for row in rows], padding=6, fontsize=17, weight="bold")
        ax.set_yticks(range(len(rows)), [row["words"].replace("T_d", "$T_d$") for row in rows], fontsize=16)
        ax.set(xlim=(0, 115), xticks=[])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        words.append(", ".join(f"{row['words']}: {row['mean']} %" for row in card["rows"]) + ".")
    figure.savefig(path)
    return " ".join(words)
