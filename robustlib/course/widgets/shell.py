"""The ipywidgets around a scene: core controls, which the keyboard reaches, a picture, and its content in words."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ipywidgets

from robustlib.course.widgets.scene import Choice, LiveFigure, Scene


class LiveScene(ipywidgets.VBox):
    """A scene with a control for each of its choices; `below` are further widgets, between controls and picture."""

    def __init__(self, scene: Scene, *start: Any, below: Sequence[Any] = ()) -> None:
        start = scene.stored(start)
        self._scene, self._figure = scene, LiveFigure(scene, *start)
        self._controls = [_control(choice, value) for choice, value in zip(scene.choices, start, strict=True)]
        width = f"{scene.size[0] * 80:.0f}px"
        self._image = ipywidgets.Image(format="png", layout={"width": width, "max_width": "100%"})
        self._words = ipywidgets.HTML()
        row = ipywidgets.HBox(self._controls, layout={"flex_flow": "row wrap"})
        super().__init__([row, *below, self._image, self._words])
        for control in self._controls:
            control.observe(lambda _change: self.refresh(), names="value")
        self.refresh()

    @property
    def values(self) -> list[Any]:
        return [control.value for control in self._controls]

    def refresh(self) -> None:
        """Draw again, as needed when something other than a control has changed."""
        self._image.value = self._figure.picture(*self.values)
        # not as the picture's tooltip: JupyterLab cannot show an Image that has one (ipywidgets 8.1)
        words = html.escape(self._scene.describe(*self.values))
        self._words.value = f'<div role="status" aria-live="polite">{words}</div>'


def _control(choice: Choice, start: Any) -> ipywidgets.SelectionSlider | ipywidgets.Dropdown:
    kind, width = (ipywidgets.SelectionSlider, "480px") if choice.slider else (ipywidgets.Dropdown, "auto")
    return kind(
        options=[(choice.label(value), value) for value in choice.values],
        value=start,
        description=choice.name,
        style={"description_width": "initial"},
        layout={"width": width, "max_width": "98%"},
    )


def figure_slider(
    scene: Scene, values: Sequence[Any], *, description: str, start: Any, label: Callable[[Any], str] = "{:.3g}".format
) -> LiveScene:
    """One slider over a scene of one value, whose name with its unit is `description`."""
    return LiveScene(replace(scene, choices=(Choice(description, values, label),)), start)
