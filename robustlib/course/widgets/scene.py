"""Figures that are drawn once and then only changed: fast enough for a slider, and complete without one."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

Update = Callable[..., Sequence[Artist]]


@dataclass(frozen=True)
class Choice:
    """What one value of a scene may be, and how it is chosen: with a slider, or from a list; `label` words a value."""

    name: str
    values: Sequence[Any]
    label: Callable[[Any], str] = "{:.3g}".format
    slider: bool = True

    def stored(self, value: Any) -> Any:
        """The stored value that equals this one, up to rounding; ValueError where there is none."""
        for candidate in self.values:
            if candidate == value or (isinstance(candidate, float) and math.isclose(candidate, value)):
                return candidate
        raise ValueError(f"{self.name} {value!r} is not stored: choose from {', '.join(map(repr, self.values))}")


@dataclass(frozen=True)
class Scene:
    """A figure that can show many values.

    Attributes:
        size: in inches.
        draw: draws on an empty figure and returns `update(*values)`, which shows other values, without a model, and
            returns all artists that a change of values may touch.
        describe: the values shown, in words, for a reader who cannot see the figure.
        choices: one for each value, in order; empty: any values.
    """

    size: tuple[float, float]
    draw: Callable[[Figure], Update]
    describe: Callable[..., str]
    choices: tuple[Choice, ...] = ()

    def stored(self, values: Sequence[Any]) -> list[Any]:
        return [choice.stored(v) for choice, v in zip(self.choices, values, strict=True)] if self.choices else [*values]


def plot_scene(scene: Scene, *values: Any) -> Figure:
    """The figure at one choice of values, which a page without a kernel shows; ValueError for others."""
    values = scene.stored(values)
    figure = plt.figure(figsize=scene.size, layout="constrained")
    scene.draw(figure)(*values)
    return figure


class LiveFigure:
    """A scene kept as pixels: `picture` redraws only what moves, over a stored background.

    The layout is settled once, for the first values, so update functions keep what takes room (the number of lines of
    a title, tick labels) as it is.
    """

    def __init__(self, scene: Scene, *values: Any) -> None:
        figure = Figure(figsize=scene.size, dpi=80, layout="constrained")
        self._canvas = FigureCanvasAgg(figure)
        self._update = scene.draw(figure)
        moving = self._update(*values)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for artist in moving:
            artist.set_animated(True)
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(figure.bbox)

    def picture(self, *values: Any) -> bytes:
        """The scene at these values as PNG."""
        self._canvas.restore_region(self._background)
        for artist in self._update(*values):
            (artist.axes or self._canvas.figure).draw_artist(artist)
        picture = io.BytesIO()
        pixels = np.asarray(self._canvas.buffer_rgba())[..., :3]
        Image.fromarray(np.ascontiguousarray(pixels)).save(picture, "png", compress_level=1)
        return picture.getvalue()


def moving_line(ax: Axes, heading: str) -> Text:
    """A heading that stays over a line that may change: of text, only what changes is drawn again."""
    ax.set_title(f"{heading}\n", fontsize=11)
    place = {"xycoords": "axes fraction", "xytext": (0, 5), "textcoords": "offset points", "annotation_clip": False}
    return ax.annotate("", (0.5, 1), ha="center", va="baseline", fontsize=10, **place)


def moving_ring(ax: Axes) -> Line2D:
    """A ring to be moved over a curve, at the value shown."""
    return ax.plot([], [], "o", ms=14, mfc="none", mec="black", mew=2)[0]


def together(parts: Sequence[Update]) -> Update:
    """One update of several panels that show the same values."""
    return lambda *values: [artist for part in parts for artist in part(*values)]


def two_halves(figure: Figure, title: str, draw_half: Callable[[Figure, Any], Update]) -> Update:
    """Draw a replay at two temperatures next to each other; `draw_half` draws into one cell of the figure's grid."""
    halves = [draw_half(figure, cell) for cell in figure.add_gridspec(1, 2, wspace=0.06)]
    figure.suptitle(title, fontsize=11)

    def update(step: int, left: float, right: float) -> list[Artist]:
        return [artist for half, t in zip(halves, (left, right), strict=True) for artist in half(step, t)]

    return update


def nearest(values: np.ndarray, value: float) -> int:
    """Index of the entry nearest to a positive value on a log axis."""
    return int(np.abs(np.log(values) - np.log(value)).argmin())
