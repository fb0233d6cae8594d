"""Figures that are drawn once and then only changed: fast enough for a slider, and complete without one."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

Update = Callable[..., Sequence[Artist]]


@dataclass(frozen=True)
class Scene:
    """A figure that can show many values.

    Attributes:
        size: of the figure, in inches.
        draw: draws on an empty figure and returns `update(*values)`, which shows other values and returns the artists
            that a change of values may touch, the same ones each time. `update` must not call a model.
        describe: the values shown, in words: what a reader who cannot see the figure gets.
    """

    size: tuple[float, float]
    draw: Callable[[Figure], Update]
    describe: Callable[..., str]


def plot_scene(scene: Scene, *values: Any, figure: Figure | None = None) -> Figure:
    """The figure at one choice of values: what a page without a kernel shows."""
    figure = figure or plt.figure(figsize=scene.size, layout="constrained")
    scene.draw(figure)(*values)
    return figure


class LiveFigure:
    """A scene kept as pixels: `picture` redraws only what moves, over a stored background.

    The layout is settled once, for the first values, so update functions keep what takes room (the number of lines of
    a title, tick labels) as it is.

    Args:
        scene: what to draw.
        values: shown first.
        dpi: pixels per inch.
    """

    def __init__(self, scene: Scene, *values: Any, dpi: int = 80) -> None:
        figure = Figure(figsize=scene.size, dpi=dpi, layout="constrained")
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
        return _png(np.asarray(self._canvas.buffer_rgba()))


def moving_line(ax: Axes, heading: str, *, fontsize: float = 10) -> Text:
    """A heading that stays over a line that may change: of text, only what changes is drawn again."""
    ax.set_title(f"{heading}\n", fontsize=11)
    return ax.annotate(
        "",
        (0.5, 1),
        xytext=(0, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        va="baseline",
        fontsize=fontsize,
        annotation_clip=False,
    )


def nearest(values: np.ndarray, value: float) -> int:
    """Index of the entry nearest to a positive value on a log axis."""
    return int(np.abs(np.log(values) - np.log(value)).argmin())


def _png(pixels: np.ndarray) -> bytes:
    """PNG of (height, width, 4) bytes, weakly compressed and without filters: a third of an image library's time."""
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)
    rows[:, 1:] = pixels[..., :3].reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
