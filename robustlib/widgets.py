"""A slider over figures: core ipywidgets only, so that it works in JupyterLab, VS Code and Colab alike."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def figure_slider(
    draw: Callable[[Figure, Any], None],
    values: Sequence[Any],
    *,
    description: str,
    start: Any,
    size: tuple[float, float],
    shown: Callable[[Any], str] = "{:.3g}".format,
):
    """A slider that redraws one figure; place it after the cell that shows the same figure without a kernel.

    One figure is reused and sent as a picture: no flicker, and faster than an output area.

    Args:
        draw: draws value `v` on the (cleared) figure; must take what it shows from stored results.
        values: what the slider chooses from, in order.
        description: name of the value, with its unit.
        start: initial value, one of `values`.
        size: of the figure, in inches.
        shown: text beside the slider.

    Returns:
        An ipywidgets.VBox.
    """
    import ipywidgets

    figure = Figure(figsize=size, dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)

    def picture(value: Any) -> bytes:
        figure.clear()
        draw(figure, value)
        buffer = io.BytesIO()
        canvas.print_png(buffer)
        return buffer.getvalue()

    slider = ipywidgets.SelectionSlider(
        options=[(shown(value), value) for value in values], value=start, description=description,
        style={"description_width": "initial"}, layout={"width": "90%"}, continuous_update=True,
    )  # fmt: skip
    image = ipywidgets.Image(value=picture(start), format="png", layout={"width": f"{size[0] * 80:.0f}px"})

    def update(change: dict) -> None:
        image.value = picture(change["new"])

    slider.observe(update, names="value")
    return ipywidgets.VBox([slider, image])
