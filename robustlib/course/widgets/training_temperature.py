"""Training temperature: margins, logit ranges and the trade-off of accuracies over the T of the training loss.

Draws from records alone. Taught in: notebooks/09.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustlib.course.plots import COLOURS, MARKERS
from robustlib.course.widgets.scene import Choice, Scene, Update, moving_line, moving_ring, plot_scene, together
from robustlib.course.widgets.shell import LiveScene

METRICS = {"logit_range": "logit range (logits)", "margin": "margin (logits)"}


@dataclass(frozen=True)
class TrainingTemperature:
    """What the widget draws from.

    Attributes:
        temperatures: training temperatures, increasing.
        series: by panel ("accuracy", "logit_range", "margin") and name of a curve: frame with index temperature and
            columns `mean`, `low`, `high`; NaN where nothing was measured. Accuracies in percent, "clean" among them.
    """

    temperatures: tuple[float, ...]
    series: dict[str, dict[str, pd.DataFrame]]


def training_temperature_data(frame: pd.DataFrame) -> TrainingTemperature:
    """Arrange records by panel and curve.

    Args:
        frame: records with metrics "accuracy" (percent), "logit_range" and "margin" (logits), one row a setting (see
            `robustlib.study.records.over_seeds`); other metrics are passed over.

    Raises:
        ValueError: there is no clean accuracy, or a setting has two rows.
    """
    rows = frame[frame["metric"].isin(["accuracy", *METRICS])]
    if rows.duplicated(["training_temperature", "metric", "attack", "adversary"]).any():
        raise ValueError("two rows for one training temperature, metric, attack and adversary: pass over_seeds(frame)")
    temperatures = tuple(sorted(float(t) for t in rows["training_temperature"].unique()))
    series: dict[str, dict[str, pd.DataFrame]] = {"accuracy": {}, **{metric: {} for metric in METRICS}}
    for (metric, attack, adversary), part in rows.groupby(["metric", "attack", "adversary"], sort=False):
        name = attack if attack == "clean" else f"{attack}, {adversary}"
        curve = part.set_index("training_temperature")[["mean", "low", "high"]].astype(float)
        series[metric][name] = curve.reindex(temperatures)
    if "clean" not in series["accuracy"]:
        raise ValueError('the records hold no accuracy with attack "clean": the trade-off needs it')
    # First, so that the other curves have the same colours in both panels of accuracies.
    series["accuracy"] = {"clean": series["accuracy"].pop("clean"), **series["accuracy"]}
    return TrainingTemperature(temperatures, series)


def plot_training_temperature(data: TrainingTemperature, temperature: float) -> Figure:
    """All panels, with one training temperature marked."""
    return plot_scene(training_temperature_scene(data), temperature)


def training_temperature_widget(frame: pd.DataFrame, *, start: float | None = None) -> LiveScene:
    """A slider over the training temperatures of the records (see `training_temperature_data`)."""
    data = training_temperature_data(frame)
    return LiveScene(training_temperature_scene(data), data.temperatures[0] if start is None else start)


def training_temperature_scene(data: TrainingTemperature) -> Scene:
    """The panels as a scene of one value: the training temperature."""
    choice = Choice("training temperature T (no unit)", data.temperatures)
    return Scene((12, 4.4), partial(_draw, data), partial(_describe, data), (choice,))


def _describe(data: TrainingTemperature, temperature: float) -> str:
    parts = []
    for panel, curves in data.series.items():
        unit = "%" if panel == "accuracy" else "logits"
        for name, curve in curves.items():
            row = curve.loc[temperature]
            if not np.isnan(row["mean"]):
                parts.append(f"{panel.replace('_', ' ')} ({name}) {_with_interval(row)} {unit}")
    return f"Trained at T = {temperature:g}: " + "; ".join(parts) + "."


def _with_interval(row: pd.Series) -> str:
    bounded = not np.isnan([row["low"], row["high"]]).any()
    return f"{row['mean']:.3g}" + (f" [{row['low']:.3g}, {row['high']:.3g}]" if bounded else "")


def _draw(data: TrainingTemperature, figure: Figure) -> Update:
    metrics = [metric for metric in METRICS if data.series[metric]]
    axes = figure.subplots(1, 2 + len(metrics))
    parts = [_draw_trade_off(data, axes[0]), _draw_curves(data, "accuracy", "accuracy (%)", axes[1])]
    parts += [_draw_curves(data, metric, METRICS[metric], ax) for metric, ax in zip(metrics, axes[2:], strict=True)]
    return together(parts)


def _draw_trade_off(data: TrainingTemperature, ax: Axes) -> Update:
    clean = data.series["accuracy"]["clean"]["mean"]
    attacked = {name: curve["mean"] for name, curve in data.series["accuracy"].items() if name != "clean"}
    rings = []
    for index, (name, mean) in enumerate(attacked.items(), start=1):
        colour, marker = COLOURS[index % 10], MARKERS[index % 10]
        ax.plot(clean, mean, marker=marker, ms=5, lw=1, color=colour, label=name)
        rings.append(moving_ring(ax))
    ax.set(xlabel="clean accuracy (%)", ylabel="adversarial accuracy (%)")
    line = moving_line(ax, "trade-off")

    def update(temperature: float) -> list[Artist]:
        for ring, mean in zip(rings, attacked.values(), strict=True):
            ring.set_data([clean[temperature]], [mean[temperature]])
        line.set_text(f"trained at T = {temperature:g}")
        return [*rings, line]

    return update


def _draw_curves(data: TrainingTemperature, panel: str, ylabel: str, ax: Axes) -> Update:
    curves, rings = data.series[panel], []
    for index, (name, curve) in enumerate(curves.items()):
        colour, marker = COLOURS[index % 10], MARKERS[index % 10]
        ax.plot(curve.index, curve["mean"], marker=marker, ms=5, color=colour, label=name)
        ax.fill_between(curve.index, curve["low"], curve["high"], color=colour, alpha=0.15, lw=0)
        rings.append(moving_ring(ax))
    ax.set_xscale("log")
    if panel != "accuracy" and all(curve["low"].min() > 0 for curve in curves.values()):  # they span decades
        ax.set_yscale("log")
    ax.set(xlabel="training T (log scale)", ylabel=ylabel)
    if len(curves) > 1 or panel == "accuracy":
        ax.legend(fontsize=8)
    line = moving_line(ax, panel.replace("_", " "))

    def update(temperature: float) -> list[Artist]:
        rows = [curve.loc[temperature] for curve in curves.values()]
        for ring, row in zip(rings, rows, strict=True):
            ring.set_data([temperature], [row["mean"]])
        line.set_text(", ".join(f"{row['mean']:.3g}" for row in rows if not np.isnan(row["mean"])) or "not measured")
        return [*rings, line]

    return update
