"""Figures of the study. They compute nothing: each draws what it is given and returns the Axes.

Colours are Okabe and Ito's, which people with any colour vision can tell apart; series differ in marker too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustlib.data.folders import results_dir

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def use_style() -> None:
    """Readable defaults for a notebook and for a projector."""
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "font.size": 10.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
            "axes.titlesize": 11,
            "axes.prop_cycle": plt.cycler(color=COLOURS),
        }
    )


def save_figure(axes: Axes | Figure, name: str, profile: str) -> Path:
    """Save as `figures/<name>.png` under the profile's results; returns the path."""
    path = results_dir(profile) / "figures" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    (axes if isinstance(axes, Figure) else axes.figure).savefig(path, dpi=150, bbox_inches="tight")
    return path


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return ax or plt.subplots(figsize=size)[1]


def plot_reliability(bins: Mapping[str, np.ndarray], *, title: str, ax: Axes | None = None) -> Axes:
    """Reliability diagram. `bins`: (n_bins,) arrays `confidence`, `accuracy`, `count`; empty bins are left out."""
    ax = _axes(ax, (4, 4))
    count = np.asarray(bins["count"])
    filled = count > 0
    confidence, accuracy = np.asarray(bins["confidence"])[filled], np.asarray(bins["accuracy"])[filled]
    ax.plot([0, 1], [0, 1], "--", color="grey", label="perfectly calibrated")
    ax.scatter(
        confidence,
        accuracy,
        s=20 + 180 * count[filled] / count.sum(),
        color=COLOURS[0],
        zorder=3,
        label="model (area: share of examples)",
    )
    ax.vlines(confidence, accuracy, confidence, color=COLOURS[1], lw=2, alpha=0.7, label="calibration gap")
    ax.set(
        xlabel="confidence (largest probability)",
        ylabel="accuracy (fraction correct)",
        xlim=(0, 1.02),
        ylim=(0, 1.02),
        aspect="equal",
        title=title,
    )
    ax.legend(loc="lower right", fontsize=8)
    return ax


def plot_probabilities(
    probs: np.ndarray, class_names: Sequence[str], label: int, *, title: str, ax: Axes | None = None
) -> Axes:
    """Bar chart of the probabilities of one example, (n_classes,), the true class in another colour."""
    ax = _axes(ax, (5, 3))
    ax.bar(range(len(probs)), probs, color=[COLOURS[2] if i == label else COLOURS[0] for i in range(len(probs))])
    ax.set(ylim=(0, 1.05), ylabel="probability", title=title)
    ax.set_xticks(range(len(probs)), class_names, rotation=45, ha="right")
    return ax


def plot_curves(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str,
    xlabel: str,
    ylabel: str,
    title: str,
    reference: float | None = None,
    reference_label: str = "clean accuracy",
    log_x: bool = True,
    marker: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One curve per value of column `by`, with a band where it has `low` and `high`; marker "" draws lines only."""
    ax = _axes(ax, (7, 4))
    for index, (name, rows) in enumerate(frame.groupby(by, sort=False)):
        rows = rows.sort_values(x)
        colour, shape = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        ax.plot(rows[x], rows[y], marker=shape if marker is None else marker, ms=5, color=colour, label=str(name))
        if {"low", "high"} <= set(rows.columns) and rows["low"].notna().all():
            ax.fill_between(rows[x].astype(float), rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
    if reference is not None:
        ax.axhline(reference, color="grey", ls="--", lw=1.2, label=reference_label)
    if log_x:
        ax.set_xscale("log")
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.legend(fontsize=9)
    return ax


def plot_bowl(frame: pd.DataFrame, *, title: str, ax: Axes | None = None) -> Axes:
    """Adversarial accuracy against mean confidence, as the paper's figure 1; one curve per attack.

    Args:
        frame: columns `confidence` (percent), `mean` (percent), `attack`, `temperature`.
    """
    ax = _axes(ax, (6, 4))
    for index, (attack, rows) in enumerate(frame.groupby("attack", sort=False)):
        rows = rows.sort_values("temperature", ascending=False)
        ax.plot(
            rows["confidence"], rows["mean"], marker=MARKERS[index % 7], ms=5, color=COLOURS[index % 7], label=attack
        )
    ax.set(xlabel="mean confidence in the predicted class (%)", ylabel="adversarial accuracy (%)", title=title)
    ax.legend(fontsize=9)
    return ax


def plot_adversaries(
    frame: pd.DataFrame, *, row: str, by: str, title: str, clean: float | None = None, ax: Axes | None = None
) -> Axes:
    """Dot plot with intervals (`mean`, `low`, `high` in percent): a line per `row`, a colour per `by`.

    `clean`: clean accuracy in percent, drawn as a dashed line.
    """
    rows = list(dict.fromkeys(frame[row]))
    series = list(dict.fromkeys(frame[by]))
    ax = _axes(ax, (7, 0.55 * len(rows) + 1.4))
    offsets = np.linspace(-0.28, 0.28, len(series)) if len(series) > 1 else [0.0]
    for index, (name, offset) in enumerate(zip(series, offsets, strict=True)):
        part = frame[frame[by] == name]
        height = np.array([rows.index(value) for value in part[row]]) + offset
        ax.hlines(height, part["low"], part["high"], color=COLOURS[index % 7], lw=2, alpha=0.6)
        ax.scatter(part["mean"], height, color=COLOURS[index % 7], marker=MARKERS[index % 7], zorder=3, label=name)
    if clean is not None:
        ax.axvline(clean, color="grey", ls="--", lw=1.2, label="clean accuracy")
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set(xlabel="adversarial accuracy (%), 95 % interval", title=title, xlim=(-2, 102))
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return ax


def plot_landscape(
    surface: np.ndarray,
    coordinates: np.ndarray,
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    unit: str,
    ax: Axes | None = None,
) -> Axes:
    """Contours of a (side, side) surface; first axis drawn along x. The point the grid is built around is marked.

    Hatched where a grid point equals all its neighbours to the last bit: in colour, small differences look like none.
    """
    ax = _axes(ax, (4.6, 3.9))
    flat = float(np.ptp(surface)) == 0
    levels = 1 if flat else 14
    drawn = ax.contourf(coordinates, coordinates, surface.T, levels=levels, cmap="viridis")
    ax.figure.colorbar(drawn, ax=ax, label=unit)
    if flat:
        ax.text(0.5, 0.92, "exactly flat", transform=ax.transAxes, ha="center", color="white", weight="bold")
    still = np.ones(surface.shape, dtype=bool)  # equal to every neighbour: there is no direction to climb
    for axis in (0, 1):
        equal = np.diff(surface, axis=axis) == 0
        first, last = [(slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None))]
        still[first] &= equal
        still[last] &= equal
    if still.any() and not flat:
        ax.contourf(coordinates, coordinates, still.T, levels=[0.5, 1.5], colors="none", hatches=["//"])
        ax.text(0.03, 0.95, "hatched: exactly flat", transform=ax.transAxes, color="white", va="top", fontsize=9)
    ax.plot(0, 0, "o", color="white", mec="black", ms=7)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.grid(False)
    return ax


def plot_picture(picture: np.ndarray, *, title: str, ax: Axes | None = None) -> Axes:
    """One image, (channels, height, width) in [0, 1]; grey for one channel."""
    ax = _axes(ax, (2.6, 2.6))
    grey = picture.shape[0] == 1
    ax.imshow(picture[0] if grey else picture.transpose(1, 2, 0), cmap="gray" if grey else None, vmin=0, vmax=1)
    ax.set_title(title, fontsize=10)
    ax.axis("off")
    return ax


def plot_attack(
    image: np.ndarray, adversarial: np.ndarray, titles: Sequence[str], *, axes: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Image, perturbation (stretched to its range), adversarial image; inputs (channels, height, width) in [0, 1]."""
    axes = axes if axes is not None else plt.subplots(1, 3, figsize=(7.5, 2.8))[1]
    change = adversarial - image
    largest = np.abs(change).max() or 1.0
    for ax, picture, title in zip(axes, (image, change / largest / 2 + 0.5, adversarial), titles, strict=True):
        plot_picture(picture, title=title, ax=ax)
    return axes


def plot_steps(frame: pd.DataFrame, *, title: str, walls: Mapping[str, float], ax: Axes | None = None) -> Axes:
    """Shares (0 to 1) against temperature; `frame`: index temperature, a column per share; walls: label to T."""
    ax = _axes(ax, (8.5, 4))
    for index, name in enumerate(frame.columns):
        ax.plot(frame.index, frame[name], marker=MARKERS[index % 7], ms=4, color=COLOURS[index % 7], label=name)
    for (label, temperature), style in zip(walls.items(), (":", "--", "-."), strict=False):
        ax.axvline(temperature, color="grey", ls=style, lw=1.4, label=label)
    ax.set_xscale("log")
    ax.set(xlabel="temperature T (no unit, log scale)", ylabel="share of examples", ylim=(-0.03, 1.05), title=title)
    ax.legend(fontsize=9)
    return ax
