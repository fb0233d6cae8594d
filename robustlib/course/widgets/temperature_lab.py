"""Temperature lab: everything that one temperature changes about a classifier, side by side, from stored logits.

Taught in: notebooks/01 (images) and notebooks/05 (text).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from robustlib.attacks.diagnostics import input_gradient, logit_gradient, masking
from robustlib.calibration.metrics import calibration_report, reliability_bins, top_label
from robustlib.calibration.temperature import scale_logits
from robustlib.course.plots import COLOURS, MARKERS, plot_curves, plot_picture, plot_probabilities, plot_reliability
from robustlib.course.widgets.scene import (
    Choice,
    Scene,
    Update,
    moving_line,
    moving_ring,
    nearest,
    plot_scene,
    together,
)
from robustlib.course.widgets.shell import LiveScene

TEMPERATURES = tuple(float(f"{t:.4g}") for t in np.logspace(-4, 4, 81))
SMALLEST = 1e-46  # below the smallest float32, 1.4e-45: what is drawn at the bottom is exactly 0


@dataclass(frozen=True)
class TemperatureLab:
    """What the lab draws from: k examples to choose from, and n examples in all.

    Attributes:
        logits, labels: (k, n_classes) float32 and (k,), no temperature applied.
        captions, pictures, jacobian: of the k examples: names in the list, (k, channels, height, width) in [0, 1], and
            (k, n_classes, n_pixels); the last two are None for text.
        reliability: by temperature, as from `robustlib.calibration.metrics.reliability_bins`, over all n.
        sweep: over all n: index the temperatures, increasing; columns `ece`, `accuracy`, `mean_confidence` (fractions),
            `nll` (nats), and the shares `probability_wall`, `gradient_wall`.
        adversarial: curves of adversarial accuracy (percent): columns `attack`, `temperature`, `mean`, `low`, `high`.
    """

    title: str
    logits: Tensor
    labels: Tensor
    captions: tuple[str, ...]
    class_names: tuple[str, ...]
    pictures: np.ndarray | None
    jacobian: Tensor | None
    reliability: list[dict[str, np.ndarray]]
    sweep: pd.DataFrame
    adversarial: pd.DataFrame

    @property
    def temperatures(self) -> np.ndarray:
        """(n_temperatures,), what the slider offers."""
        return self.sweep.index.to_numpy()

    @property
    def n(self) -> int:
        """How many examples the reliability and the sweep describe."""
        return int(self.reliability[0]["count"].sum())


def temperature_lab_data(
    logits: Tensor,
    labels: Tensor,
    *,
    class_names: Sequence[str],
    chosen: Sequence[int],
    records: pd.DataFrame,
    title: str,
    pictures: Tensor | None = None,
    jacobian: Tensor | None = None,
    sentences: Sequence[str] | None = None,
    temperatures: Sequence[float] = TEMPERATURES,
) -> TemperatureLab:
    """Gather once what the lab shows.

    Args:
        logits, labels: (n, n_classes) on the CPU, no temperature applied, and (n,).
        chosen: rows the reader may choose as the example.
        records: of which the naive adversary's accuracy is drawn, a curve for each attack.
        pictures, jacobian: of the chosen rows, (k, channels, height, width) and as `diagnostics.input_jacobian`.
        sentences: of the chosen rows, for text.

    Raises:
        ValueError, TypeError: logits or labels are unsound, or there is nothing to choose from.
    """
    chosen = list(chosen)
    if not chosen:
        raise ValueError("chosen is empty: name at least one row of the logits to show as the example")
    captions = [f"{k + 1}: {class_names[labels[row]]}" for k, row in enumerate(chosen)]
    if sentences is not None:
        captions = [f"{caption}: {sentence}" for caption, sentence in zip(captions, sentences, strict=True)]
    attacked = (records.metric == "accuracy") & (records.adversary == "none") & (records.attack != "clean")
    curves = records[attacked].rename(columns={"design_temperature": "temperature"})
    return TemperatureLab(
        title,
        logits[chosen],
        labels[chosen],
        tuple(captions),
        tuple(class_names),
        None if pictures is None else pictures.cpu().numpy(),
        jacobian,
        [_reliability(logits, labels, t) for t in temperatures],
        pd.DataFrame([_sweep_row(logits, labels, t) for t in temperatures], index=list(temperatures)),
        curves[["attack", "temperature", "mean", "low", "high"]].reset_index(drop=True),
    )


def _reliability(logits: Tensor, labels: Tensor, temperature: float) -> dict[str, np.ndarray]:
    return reliability_bins(*top_label(torch.softmax(scale_logits(logits.double(), temperature), dim=1), labels))


def _sweep_row(logits: Tensor, labels: Tensor, temperature: float) -> dict[str, float]:
    report = calibration_report(logits, labels, temperature=temperature)
    walls = masking(logits, labels, temperature=temperature)
    return {
        "accuracy": report.accuracy,
        "mean_confidence": report.mean_confidence,
        "ece": report.expected_calibration_error,
        "nll": report.negative_log_likelihood,
        "probability_wall": walls.beyond_probability_wall,
        "gradient_wall": walls.beyond_gradient_wall,
    }


def plot_temperature_lab(lab: TemperatureLab, temperature: float = 1.0, example: int = 0) -> Figure:
    """The six panels of the lab at one temperature, for one of the examples."""
    return plot_scene(temperature_lab_scene(lab), temperature, example)


def temperature_lab_widget(lab: TemperatureLab, *, start: float = 1.0) -> LiveScene:
    """The lab with a slider for the temperature and a list of examples."""
    return LiveScene(temperature_lab_scene(lab), start, 0)


def temperature_lab_scene(lab: TemperatureLab) -> Scene:
    """The lab as a scene of two values: temperature and number of the example."""
    captions = [textwrap.shorten(caption, 70) for caption in lab.captions]
    temperature = Choice("temperature T (no unit)", lab.temperatures.tolist())
    example = Choice("example", range(len(captions)), captions.__getitem__, slider=False)
    return Scene((12, 7.2), partial(_draw, lab), partial(_describe, lab), (temperature, example))


def _describe(lab: TemperatureLab, temperature: float, example: int) -> str:
    row = lab.sweep.iloc[nearest(lab.temperatures, temperature)]
    probs = torch.softmax(lab.logits[example].double() / temperature, dim=0)
    words = (
        f"T = {temperature:.3g}. Example {lab.captions[example]}: predicted {lab.class_names[int(probs.argmax())]} "
        f"with probability {probs.max():.3f}. Mean confidence {100 * row.mean_confidence:.1f} %, accuracy "
        f"{100 * row.accuracy:.1f} %, ECE {100 * row.ece:.1f} %, NLL {row.nll:.3g} nats. Behind the float32 walls: "
        f"{100 * row.probability_wall:.0f} % (1 - p is exactly 0) and {100 * row.gradient_wall:.0f} % (gradient is)."
    )
    records = [_nearest_record(rows, temperature) for _, rows in lab.adversarial.groupby("attack", sort=False)]
    measured = [f"{r['attack']} {r['mean']:.1f} % at T_d = {r['temperature']:.3g}" for r in records]
    return f"{words} Adversarial accuracy at the nearest measured T: {', '.join(measured) or 'none measured'}."


def _nearest_record(rows: pd.DataFrame, temperature: float) -> pd.Series:
    return rows.iloc[nearest(rows["temperature"].to_numpy(float), temperature)]


def _draw(lab: TemperatureLab, figure: Figure) -> Update:
    """Six panels; each gives its own update."""
    with_pictures = lab.pictures is not None
    grid = figure.add_gridspec(2, 3, width_ratios=(1.35 if with_pictures else 1, 1, 1))
    left = [grid[row, 0].subgridspec(1, 2, width_ratios=(1, 2.6)) if with_pictures else None for row in (0, 1)]
    bars, signal = (figure.add_subplot(cell[0, 1] if cell else grid[row, 0]) for row, cell in enumerate(left))
    parts = [
        _draw_probabilities(lab, bars),
        _draw_gradient(lab, signal),
        _draw_reliability(lab, figure.add_subplot(grid[0, 1])),
        _draw_confidences(lab, figure.add_subplot(grid[0, 2])),
        _draw_walls(lab, figure.add_subplot(grid[1, 1])),
        _draw_adversarial(lab, figure.add_subplot(grid[1, 2])),
    ]
    if with_pictures:
        parts.append(_draw_pictures(lab, *(figure.add_subplot(cell[0, 0]) for cell in left)))
        figure.suptitle(lab.title, fontsize=11)
    else:
        parts.append(_draw_sentence(lab, figure))
    return together(parts)


def _draw_sentence(lab: TemperatureLab, figure: Figure) -> Update:
    heading = figure.suptitle("\n", fontsize=11)

    def update(temperature: float, example: int) -> list[Artist]:
        heading.set_text("\n".join((*textwrap.wrap(lab.captions[example], 120, max_lines=2), "")[:2]))
        return [heading]

    return update


def _draw_probabilities(lab: TemperatureLab, ax: Axes) -> Update:
    plot_probabilities(np.zeros(len(lab.class_names)), lab.class_names, -1, title="", ax=ax)
    line = moving_line(ax, "softmax of the example (green: true class)")

    def update(temperature: float, example: int) -> list[Artist]:
        probs = torch.softmax(lab.logits[example].double() / temperature, dim=0).tolist()
        for k, (bar, height) in enumerate(zip(ax.patches, probs, strict=True)):
            bar.set_height(height)
            bar.set_facecolor(COLOURS[2] if k == lab.labels[example] else COLOURS[0])
        line.set_text(f"T = {temperature:.3g}: largest {max(probs):.3f}")
        return [*ax.patches, line]

    return update


def _draw_gradient(lab: TemperatureLab, ax: Axes) -> Update:
    n_classes = len(lab.class_names)
    bars = ax.bar(range(n_classes), [SMALLEST] * n_classes)
    (zeros,) = ax.plot([], [], "x", color="black", ms=8, mew=2, label="exactly 0")
    ax.set_yscale("log")
    ax.set(ylim=(SMALLEST, 1e5), ylabel="|p - onehot| in float32", yticks=[1e-40, 1e-30, 1e-20, 1e-10, 1.0])
    ax.set_xticks(range(n_classes), lab.class_names, rotation=45, ha="right")
    ax.legend(fontsize=8, loc="upper right")
    line = moving_line(ax, "gradient by each logit")

    def update(temperature: float, example: int) -> list[Artist]:
        one = slice(example, example + 1)
        values = logit_gradient(lab.logits[one], lab.labels[one], temperature)[0].abs().tolist()
        for k, (bar, value) in enumerate(zip(bars, values, strict=True)):
            bar.set_height(max(value, SMALLEST))
            bar.set_facecolor(COLOURS[2] if k == lab.labels[example] else COLOURS[1])
        vanished = [k for k, value in enumerate(values) if value == 0]
        zeros.set_data(vanished, [1e-44] * len(vanished))
        line.set_text(f"{len(vanished)} of {n_classes} exactly 0")
        return [*bars, zeros, line]

    return update


def _draw_pictures(lab: TemperatureLab, top: Axes, bottom: Axes) -> Update:
    plot_picture(lab.pictures[0], title="example", ax=top)
    shape = lab.pictures.shape[1:]
    gradient_image = bottom.imshow(np.zeros(shape[1:]), cmap="PuOr", vmin=-1, vmax=1)
    bottom.axis("off")
    line = moving_line(bottom, "by each pixel")

    def update(temperature: float, example: int) -> list[Artist]:
        picture = lab.pictures[example]
        top.images[0].set_data(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0))
        one = slice(example, example + 1)
        gradient = input_gradient(lab.logits[one], lab.jacobian[one], lab.labels[one], temperature)[0]
        by_pixel = gradient.reshape(shape).sum(0).numpy()
        largest = np.abs(by_pixel).max()
        gradient_image.set_data(by_pixel / (largest or 1.0))
        line.set_text(f"up to {largest:.1e}" if largest else "exactly 0")
        return [top.images[0], gradient_image, line]

    return update


def _draw_reliability(lab: TemperatureLab, ax: Axes) -> Update:
    plot_reliability(lab.reliability[0], title="", ax=ax)
    ax.set_aspect("auto")
    ax.legend(loc="upper left", fontsize=8)
    line = moving_line(ax, f"reliability, n = {lab.n}")
    dots, gaps = ax.collections

    def update(temperature: float, example: int) -> list[Artist]:
        index = nearest(lab.temperatures, temperature)
        bins, row = lab.reliability[index], lab.sweep.iloc[index]
        filled = bins["count"] > 0
        x, y = bins["confidence"][filled], bins["accuracy"][filled]
        dots.set_offsets(np.column_stack([x, y]))
        dots.set_sizes(20 + 180 * bins["count"][filled] / lab.n)
        gaps.set_segments([[(a, b), (a, a)] for a, b in zip(x, y, strict=True)])
        line.set_text(f"ECE {100 * row.ece:.1f} %, NLL {row.nll:.3g} nats")
        return [gaps, dots, line]

    return update


def _draw_confidences(lab: TemperatureLab, ax: Axes) -> Update:
    bars = ax.stairs(lab.reliability[0]["count"] / lab.n, lab.reliability[0]["edges"], fill=True, color=COLOURS[0])
    mean = ax.axvline(0.5, color=COLOURS[1], ls="--", lw=1.8, label="mean confidence")
    ax.axvline(lab.sweep["accuracy"].iloc[0], color="black", ls=":", lw=1.8, label="accuracy", zorder=3)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="confidence (largest probability)", ylabel="share of examples")
    ax.legend(fontsize=8, loc="upper left")
    line = moving_line(ax, "confidences")

    def update(temperature: float, example: int) -> list[Artist]:
        index = nearest(lab.temperatures, temperature)
        bars.set_data(lab.reliability[index]["count"] / lab.n)
        confidence = lab.sweep["mean_confidence"].iloc[index]
        mean.set_xdata([confidence, confidence])
        line.set_text(f"mean {100 * confidence:.1f} %")
        return [bars, mean, line]

    return update


def _draw_walls(lab: TemperatureLab, ax: Axes) -> Update:
    curves = {"probability_wall": "1 - p is 0 (gap > 16.6 T)", "gradient_wall": "gradient is 0 (gap > 104 T)"}
    for index, (column, label) in enumerate(curves.items()):
        ax.plot(lab.temperatures, 100 * lab.sweep[column], color=COLOURS[index], ls=("-", "--")[index], label=label)
    dots = [ax.plot([], [], MARKERS[k], color=COLOURS[k], ms=9, mec="black")[0] for k in range(2)]
    ax.set_xscale("log")
    ax.set(xlabel="temperature T (log scale)", ylabel="share of examples (%)", ylim=(-3, 103))
    ax.legend(fontsize=8, loc="center right", frameon=True, framealpha=0.85)
    line = moving_line(ax, "behind the float32 walls")

    def update(temperature: float, example: int) -> list[Artist]:
        index = nearest(lab.temperatures, temperature)
        shares = [100 * lab.sweep[column].iloc[index] for column in curves]
        for dot, share in zip(dots, shares, strict=True):
            dot.set_data([lab.temperatures[index]], [share])
        line.set_text(f"{shares[0]:.0f} % and {shares[1]:.0f} %")
        return [*dots, line]

    return update


def _draw_adversarial(lab: TemperatureLab, ax: Axes) -> Update:
    attacks = [rows for _, rows in lab.adversarial.groupby("attack", sort=False)]
    plot_curves(
        lab.adversarial,
        x="temperature",
        y="mean",
        by="attack",
        xlabel="design temperature T_d (log scale)",
        ylabel="adversarial accuracy (%)",
        title="",
        reference=100 * lab.sweep["accuracy"].iloc[0],
        ax=ax,
    )
    ax.set_ylim(-3, 103)
    ax.legend(fontsize=8)
    rings = [moving_ring(ax) for _ in attacks]
    line = moving_line(ax, "adversarial accuracy, naive attacker")

    def update(temperature: float, example: int) -> list[Artist]:
        records = [_nearest_record(rows, temperature) for rows in attacks]
        for ring, row in zip(rings, records, strict=True):
            ring.set_data([row["temperature"]], [row["mean"]])
        accuracies = ", ".join(f"{row['attack']} {row['mean']:.1f} %" for row in records)
        line.set_text(f"{accuracies} at T_d = {records[0]['temperature']:.3g}" if records else "not measured")
        return [*rings, line]

    return update
