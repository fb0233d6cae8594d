"""What a figure shows, in words computed from what is drawn: a caption, and an alternative text with the numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

LONGEST = 1000  # characters of an alternative text


class Words(NamedTuple):
    """`caption`: what the figure is about; `alt`: the same with the numbers, for those who cannot see it."""

    caption: str
    alt: str


def describe(figure: Figure) -> Words:
    """The words of a figure, from its titles, axes, legends and data."""
    panels = [ax for ax in figure.axes if (ax.get_label() != "<colorbar>" and ax.axison) or ax.images]
    names = [_flat(figure.get_suptitle()), *(_name(ax) for ax in panels)]
    caption = "; ".join(dict.fromkeys(filter(None, names)))
    sides = dict.fromkeys(filter(None, (_sides(ax) for ax in panels)))
    caption = ". ".join(filter(None, (caption, *(side[:1].upper() + side[1:] for side in list(sides)[:1]))))
    told = []
    for ax in panels:
        said = "; ".join(_told(ax))
        if said:
            told.append(f"{_name(ax)}: {said}" if len(panels) > 1 and _name(ax) else said)
    alt = ". ".join(filter(None, (caption, *told)))
    return Words(caption, alt if len(alt) <= LONGEST else f"{alt[: LONGEST - 3]}...")


def _flat(text: str) -> str:
    return " ".join(text.split())


def _name(ax: Axes) -> str:
    return _flat(ax.get_title())


def _sides(ax: Axes) -> str:
    across, up = _flat(ax.get_xlabel()), _flat(ax.get_ylabel())
    return f"{up} against {across}" if across and up else across or up


def _told(ax: Axes) -> Iterator[str]:
    """One phrase for each thing drawn that holds numbers."""
    yield from (text for line in ax.lines if (text := _line(ax, line)))
    for drawn in ax.collections:
        if isinstance(drawn, QuadMesh):
            yield from _cells(ax)
        elif isinstance(drawn, PathCollection) and len(drawn.get_offsets()):
            x, y = np.ma.getdata(drawn.get_offsets()).T
            ends = f"from ({_n(x[0])}, {_n(y[0])}) to ({_n(x[-1])}, {_n(y[-1])})"
            yield f"{len(x)} dots{_labelled(drawn.get_label())} {ends}"
    for bars in ax.containers:
        if isinstance(bars, BarContainer):
            yield _bars(ax, bars)


def _line(ax: Axes, line: Line2D) -> str:
    x, y = (np.asarray(side, float) for side in line.get_data())
    label = _label(ax, line)
    if len(x) == 0 or line.get_transform() != ax.transData or not np.isfinite(y).any():
        if len(x) == 2 and label and len(set(y)) == 1:  # a level over the whole width
            return f"{label}: {_n(y[0])}"
        return ""
    if _n(y[0]) == "nan":
        x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    rows = [text.get_text() for text in ax.get_yticklabels()]
    if line.get_linestyle() == "None" and any(rows) and not _is_number(rows[0]):  # a dot for each row
        where = [(rows[round(at)], value) for at, value in zip(y, x, strict=True) if 0 <= round(at) < len(rows)]
        return f"{label}: {', '.join(f'{_n(value)} ({_flat(row)})' for row, value in where)}" if where else ""
    if len(x) < 2:
        return f"{label}: {_n(y[0])} at {_n(x[0])}" if label else ""
    low, high = int(np.nanargmin(y)), int(np.nanargmax(y))
    turning = [index for index in sorted({low, high}) if index not in (0, len(x) - 1)]
    points = [0, *turning, len(x) - 1]
    return f"{label or 'a line'}: {', '.join(f'{_n(y[i])} at {_n(x[i])}' for i in points)}"


def _label(ax: Axes, line: Line2D) -> str:
    """The line's label, or that of the legend's entry of the same colour (seaborn labels only the legend)."""
    label = str(line.get_label())
    if label and not label.startswith("_"):
        return label
    handles, labels = ax.get_legend_handles_labels()
    for handle, name in zip(handles, labels, strict=True):
        if isinstance(handle, Line2D) and to_hex(handle.get_color()) == to_hex(line.get_color()):
            return name
    return ""


def _labelled(label: object) -> str:
    return "" if str(label).startswith("_") else f" ({label})"


def _cells(ax: Axes) -> Iterator[str]:
    """The rows of a heatmap with what is written in its cells."""
    columns, rows = ([t.get_text() for t in side] for side in (ax.get_xticklabels(), ax.get_yticklabels()))
    for number, row in enumerate(rows):
        texts = {int(t.get_position()[0]): _flat(t.get_text()) for t in ax.texts if int(t.get_position()[1]) == number}
        written = [f"{columns[at]} {text}" for at, text in sorted(texts.items()) if text and at < len(columns)]
        if written:
            yield f"{row}: {', '.join(written)}"


def _bars(ax: Axes, bars: BarContainer) -> str:
    names = [text.get_text() for text in ax.get_xticklabels()]
    heights = [float(bar.get_height()) for bar in bars]
    tallest = sorted(range(len(heights)), key=lambda index: -heights[index])[:3]
    named = (f"{names[index] if index < len(names) else index + 1} {_n(heights[index])}" for index in tallest)
    return f"{len(heights)} bars, the tallest: {', '.join(named)}"


def _n(value: float) -> str:
    """Three significant digits, without an exponent where that is readable."""
    return f"{float(f'{float(value):.3g}'):g}"


def _is_number(text: str) -> bool:
    try:
        float(text.replace("−", "-"))
    except ValueError:
        return not text or "$" in text
    return True
