"""What T(x) = gap / kappa shows for every kappa, from stored logits. Taught in: notebooks/04."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from torch import Tensor

from robustlib.calibration.disguises import TemperaturePerInput
from robustlib.calibration.metrics import calibration_report
from robustlib.course.plots import COLOURS
from robustlib.course.widgets.scene import Choice, Scene, Update, moving_line, moving_ring, nearest, plot_scene
from robustlib.course.widgets.shell import LiveScene

KAPPAS = tuple(float(f"{kappa:.3g}") for kappa in np.geomspace(0.05, 20, 53))


@dataclass(frozen=True)
class HiddenGap:
    """What the scene draws from.

    Attributes:
        title: data set and model.
        kappas: (k,) gaps to show, in logits, increasing.
        confidence, error: (k,) mean confidence and expected calibration error, percent.
        accuracy: percent, the same for every kappa.
        before: (n,) gaps of the model's own logits.
    """

    title: str
    kappas: np.ndarray
    confidence: np.ndarray
    error: np.ndarray
    accuracy: float
    before: np.ndarray

    @property
    def calibrated(self) -> float:
        """The stored kappa whose mean confidence is nearest to the accuracy."""
        return float(self.kappas[np.abs(self.confidence - self.accuracy).argmin()])


def hidden_gap_data(logits: Tensor, labels: Tensor, *, title: str) -> HiddenGap:
    """Gather once what the scene shows; logits (n, n_classes) on the CPU, no temperature applied, labels (n,)."""
    reports = [calibration_report(TemperaturePerInput(kappa)(logits), labels) for kappa in KAPPAS]
    top = logits.topk(2, dim=1).values
    return HiddenGap(
        title,
        np.array(KAPPAS),
        100 * np.array([report.mean_confidence for report in reports]),
        100 * np.array([report.expected_calibration_error for report in reports]),
        100 * reports[0].accuracy,
        (top[:, 0] - top[:, 1]).numpy(),
    )


def plot_hidden_gap(data: HiddenGap, kappa: float | None = None) -> Figure:
    """The figure at one kappa; default the calibrated one."""
    return plot_scene(hidden_gap_scene(data), kappa or data.calibrated)


def hidden_gap_widget(data: HiddenGap) -> LiveScene:
    """The figure with a slider for kappa, which begins at the calibrated one."""
    return LiveScene(hidden_gap_scene(data), data.calibrated)


def hidden_gap_scene(data: HiddenGap) -> Scene:
    """A scene of one value: the gap that every input is shown with."""
    choice = Choice("kappa (logits)", data.kappas.tolist())
    return Scene((11, 4), partial(_draw, data), partial(_describe, data), (choice,))


def _describe(data: HiddenGap, kappa: float) -> str:
    at = nearest(data.kappas, kappa)
    return (
        f"Every input is shown with a gap of {kappa:.3g} logits. Predictions stay, accuracy {data.accuracy:.1f} %; "
        f"mean confidence {data.confidence[at]:.1f} %, calibration error {data.error[at]:.1f} %."
    )


def _draw(data: HiddenGap, figure: Figure) -> Update:
    left, right = figure.subplots(1, 2)
    left.hist(data.before, bins=40, color=COLOURS[0], alpha=0.6, label="of the model's logits")
    shown = left.axvline(1, color=COLOURS[1], lw=3, label="shown, for every input")
    left.set(xlabel="gap of the two largest logits", ylabel="inputs", xlim=(0, None))
    left.legend()
    right.plot(data.kappas, data.confidence, color=COLOURS[0], label="mean confidence")
    right.plot(data.kappas, data.error, color=COLOURS[4], label="expected calibration error")
    right.axhline(data.accuracy, color="grey", ls="--", label="accuracy, for every kappa")
    right.set(xscale="log", xlabel="kappa (logits, log scale)", ylabel="percent", ylim=(-3, 103))
    right.legend(loc="center left")
    rings, line = [moving_ring(right), moving_ring(right)], moving_line(right, data.title)

    def update(kappa: float) -> list[Artist]:
        at = nearest(data.kappas, kappa)
        shown.set_xdata([kappa, kappa])
        for ring, curve in zip(rings, (data.confidence, data.error), strict=True):
            ring.set_data([kappa], [curve[at]])
        line.set_text(f"kappa = {kappa:.3g}: confidence {data.confidence[at]:.1f} %, ECE {data.error[at]:.1f} %")
        return [shown, *rings, line]

    return update
