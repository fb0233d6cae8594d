"""The ipywidgets around a scene: core controls and a picture, alike in JupyterLab, VS Code and Colab.

Every control is ipywidgets' own, so the keyboard reaches it (Tab, then the arrow keys). A sentence below the picture
says in words what it shows.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

from robustlib.course.widgets.scene import LiveFigure, Scene


def live(scene: Scene, controls: Sequence[Any], *, below: Sequence[Any] = ()):
    """Show a scene at the values of the controls, and again whenever one of them changes.

    Args:
        scene: takes one value for each control, in order.
        controls: ipywidgets with a `value`.
        below: further widgets, between controls and picture.

    Returns:
        An ipywidgets.VBox whose `refresh()` draws again what depends on more than the controls.
    """
    import ipywidgets

    def chosen() -> list[Any]:
        return [control.value for control in controls]

    figure = LiveFigure(scene, *chosen())
    image = ipywidgets.Image(format="png", layout={"width": f"{scene.size[0] * 80:.0f}px", "max_width": "100%"})
    said = ipywidgets.HTML()
    box = ipywidgets.VBox([ipywidgets.HBox(list(controls), layout={"flex_flow": "row wrap"}), *below, image, said])

    def refresh(_change: dict | None = None) -> None:
        image.value = figure.picture(*chosen())
        # not as the picture's tooltip: JupyterLab cannot show an Image that has one (ipywidgets 8.1)
        said.value = f'<div role="status" aria-live="polite">{html.escape(scene.describe(*chosen()))}</div>'

    for control in controls:
        control.observe(refresh, names="value")
    refresh()
    box.refresh = refresh
    return box


def slider(values: Sequence[Any], *, description: str, start: Any, shown: Callable[[Any], str] = "{:.3g}".format):
    """A slider over given values, which need not be evenly spaced. `start` is one of them."""
    import ipywidgets

    return ipywidgets.SelectionSlider(
        options=[(shown(value), value) for value in values],
        value=start,
        description=description,
        style={"description_width": "initial"},
        layout={"width": "480px", "max_width": "98%"},
        continuous_update=True,
    )


def dropdown(options: Sequence[tuple[str, Any]], *, description: str, start: Any):
    """A list to choose from: (label, value) pairs."""
    import ipywidgets

    return ipywidgets.Dropdown(
        options=options,
        value=start,
        description=description,
        style={"description_width": "initial"},
        layout={"width": "auto", "max_width": "98%"},
    )


def figure_slider(
    scene: Scene, values: Sequence[Any], *, description: str, start: Any, shown: Callable[[Any], str] = "{:.3g}".format
):
    """One slider over a scene of one value; place it after the cell that shows the same scene without a kernel.

    Args:
        scene: takes what it shows from stored results.
        values: what the slider chooses from, in order.
        description: name of the value, with its unit.
        start: initial value, one of `values`.
        shown: text beside the slider.
    """
    return live(scene, [slider(values, description=description, start=start, shown=shown)])
