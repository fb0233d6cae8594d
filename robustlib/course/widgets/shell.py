"""The ipywidgets around a scene: core controls and a picture, alike in JupyterLab, VS Code and Colab.

Every control is ipywidgets' own, so the keyboard reaches it (Tab, then the arrow keys). A sentence below the picture
says in words what it shows.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets

from robustlib.course.widgets.scene import LiveFigure, Scene


class LiveScene(ipywidgets.VBox):
    """A scene at the values of its controls, drawn again whenever one of them changes.

    Args:
        scene: takes one value for each control, in order.
        controls: ipywidgets with a `value`.
        below: further widgets, between controls and picture.
    """

    def __init__(self, scene: Scene, controls: Sequence[Any], *, below: Sequence[Any] = ()) -> None:
        self._scene, self._controls = scene, controls
        self._figure = LiveFigure(scene, *self._values())
        self._image = ipywidgets.Image(
            format="png", layout={"width": f"{scene.size[0] * 80:.0f}px", "max_width": "100%"}
        )
        self._words = ipywidgets.HTML()
        row = ipywidgets.HBox(list(controls), layout={"flex_flow": "row wrap"})
        super().__init__([row, *below, self._image, self._words])
        for control in controls:
            control.observe(lambda _change: self.refresh(), names="value")
        self.refresh()

    def refresh(self) -> None:
        """Draw again, as needed when something other than a control has changed."""
        self._image.value = self._figure.picture(*self._values())
        # not as the picture's tooltip: JupyterLab cannot show an Image that has one (ipywidgets 8.1)
        words = html.escape(self._scene.describe(*self._values()))
        self._words.value = f'<div role="status" aria-live="polite">{words}</div>'

    def _values(self) -> list[Any]:
        return [control.value for control in self._controls]


def slider(
    values: Sequence[Any], *, description: str, start: Any, label: Callable[[Any], str] = "{:.3g}".format
) -> ipywidgets.SelectionSlider:
    """A slider over given values, which need not be evenly spaced; `label` words each, `start` is one of them.

    Raises:
        ValueError: `start` is none of them.
    """
    return _selection(
        ipywidgets.SelectionSlider, [(label(value), value) for value in values], description, start, width="480px"
    )


def dropdown(options: Sequence[tuple[str, Any]], *, description: str, start: Any) -> ipywidgets.Dropdown:
    """A list of (label, value) pairs to choose from; `start` is one of the values.

    Raises:
        ValueError: `start` is none of them.
    """
    return _selection(ipywidgets.Dropdown, options, description, start, width="auto")


def temperature_lists(offered: Sequence[float], start: tuple[float, float]) -> list[Any]:
    """Two dropdowns of design temperatures, for the left and the right half of a replay."""
    options = [(f"T_d = {t:g}", t) for t in offered]
    return [dropdown(options, description=side, start=t) for side, t in zip(("left", "right"), start, strict=True)]


def _selection(kind: type, options: Sequence[tuple[str, Any]], description: str, start: Any, *, width: str) -> Any:
    values = [value for _, value in options]
    if start not in values:
        raise ValueError(f"{description} cannot start at {start!r}: choose from {', '.join(map(repr, values))}")
    return kind(
        options=options,
        value=start,
        description=description,
        style={"description_width": "initial"},
        layout={"width": width, "max_width": "98%"},
    )


def figure_slider(
    scene: Scene, values: Sequence[Any], *, description: str, start: Any, label: Callable[[Any], str] = "{:.3g}".format
) -> LiveScene:
    """One slider over a scene of one value; place it after the cell that shows the same scene without a kernel.

    Args:
        scene: takes what it shows from stored results.
        values: what the slider chooses from, in order.
        description: name of the value, with its unit.
        start: initial value, one of `values`.
        label: text beside the slider.
    """
    return LiveScene(scene, [slider(values, description=description, start=start, label=label)])
