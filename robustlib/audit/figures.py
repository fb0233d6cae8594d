"""The three figures of a report as inline SVG, a few lines of markup each: a report needs no drawing library."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

from robustlib.audit.findings import Audit, Rung

_WIDTH, _NARROW = 640, 480  # of a view box
COLOURS = {
    "served": "#0072b2",
    "scale": "#e69f00",
    "strength": "#cc79a7",
    "unmask": "#d55e00",
    "black box": "#009e73",
    "sanity": "#777777",
}


def by_adversary(audit: Audit) -> str:
    """Accuracy after each attack with its 95 % interval; the dashed line is the accuracy without an attack."""
    rungs = [rung for rung in audit.rungs if rung.accuracy is not None]
    left, row, top = 250, 24, 8
    height = top + row * len(rungs) + 42
    scale = (_WIDTH - left - 20) / 100
    lowest = audit.found_by
    ticks = {step / 4: f"{25 * step}" for step in range(5)}
    parts = [_axis_x(left, top, 100 * scale, row * len(rungs), "accuracy after the attack, percent", ticks)]
    if audit.clean is not None:
        parts.append(
            _line(
                left + scale * audit.clean.percent,
                top,
                left + scale * audit.clean.percent,
                top + row * len(rungs),
                "clean",
            )
        )
    for index, rung in enumerate(rungs):
        parts.append(_bar(rung, left, top + row * index + row / 2, scale, bold=rung.name == lowest))
    return _svg(height, "Accuracy after each attack", parts)


def by_radius(audit: Audit) -> str:
    """Accuracy against the radius of the attack, as served and at most; "" where it was not measured.

    The radii stand at equal distances: the last one, which allows anything, is many times the others.
    """
    curves = audit.curves.get("radius", {})
    radii = sorted({point[0] for curve in curves.values() for point in curve})
    if len(radii) < 2:
        return ""
    ticks = {index / (len(radii) - 1): f"{radius:.3g}" for index, radius in enumerate(radii)}
    parts, (left, top, width, height) = _frame("radius of the attack (not to scale)", "accuracy, percent", ticks)
    place = dict(zip(radii, ticks, strict=True))
    for index, (name, curve) in enumerate(curves.items()):
        colour = (COLOURS["served"], COLOURS["unmask"])[index % 2]
        points = [(left + width * place[radius], top + height * (1 - percent / 100)) for radius, percent in curve]
        parts.append(_path(points, colour, name))
        parts.append(_text(left + 110 * index, top - 9, f"● {name}", colour=colour, anchor="start"))
    return _svg(top + height + 44, "Accuracy against radius", parts, _NARROW)


def reliability(audit: Audit) -> str:
    """Accuracy against confidence on clean examples, in bins; "" where there is no confidence to speak of."""
    bins = audit.curves.get("reliability", [])
    if not bins:
        return ""
    parts, (left, top, width, height) = _frame(
        "confidence", "accuracy, percent", {step / 4: f"{step / 4:g}" for step in range(5)}
    )
    parts.append(_line(left, top + height, left + width, top, "diagonal"))
    largest = max(count for _, _, count in bins)
    for confidence, accuracy, count in bins:
        x, y = left + width * confidence, top + height * (1 - accuracy / 100)
        radius = 3 + 9 * math.sqrt(count / largest)
        title = f"<title>confidence {confidence:.3f}, accuracy {accuracy:.0f} %, {count:g} examples</title>"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{COLOURS["served"]}" fill-opacity=".75">'
            f"{title}</circle>"
        )
    return _svg(top + height + 44, "Reliability", parts, _NARROW)


def _bar(rung: Rung, left: float, y: float, scale: float, *, bold: bool) -> str:
    colour, accuracy = COLOURS[rung.family], rung.accuracy
    x, low, high = (left + scale * value for value in (accuracy.percent, accuracy.low, accuracy.high))
    title = f"<title>{html.escape(rung.name)}: {accuracy} %</title>"
    weight = ' font-weight="bold"' if bold else ""
    label = rung.name if len(rung.name) <= 34 else rung.name[:33] + "…"
    return (
        f'<g>{title}<text x="{left - 10}" y="{y + 4}" text-anchor="end"{weight}>{html.escape(label)}</text>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{x:.1f}" cy="{y}" r="4.5" fill="{colour}"/></g>'
    )


def _frame(
    x_label: str, y_label: str, ticks: Mapping[float, str]
) -> tuple[list[str], tuple[float, float, float, float]]:
    """Axes with ticks at shares of the width, and from 0 to 100 percent; also left, top, width and height."""
    left, top, width, height = 62, 26, 396, 220
    parts = [_axis_x(left, top, width, height, x_label, ticks)]
    for percent in (0, 25, 50, 75, 100):
        y = top + height * (1 - percent / 100)
        parts += [_line(left, y, left + width, y, "grid"), _text(left - 8, y + 4, str(percent), anchor="end")]
    middle = top + height / 2
    turned = f'transform="rotate(-90 16 {middle})"'
    parts.append(f'<text x="16" y="{middle}" text-anchor="middle" {turned}>{html.escape(y_label)}</text>')
    return parts, (left, top, width, height)


def _axis_x(left: float, top: float, width: float, height: float, label: str, ticks: Mapping[float, str]) -> str:
    parts = []
    for share, tick in ticks.items():
        x = left + width * share
        parts += [_line(x, top, x, top + height, "grid"), _text(x, top + height + 16, tick)]
    return "".join([*parts, _text(left + width / 2, top + height + 34, label)])


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "middle", colour: str = "") -> str:
    fill = f' style="fill:{colour}"' if colour else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{fill}>{html.escape(text)}</text>'


def _path(points: Sequence[tuple[float, float]], colour: str, name: str) -> str:
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points)
    drawn = f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return f"<g><title>{html.escape(name)}</title>{drawn}{dots}</g>"


def _svg(height: float, title: str, parts: Sequence[str], width: float = _WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{title}" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{title}</title>{''.join(parts)}</svg>"
    )
