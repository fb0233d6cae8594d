"""Loss landscape: one grid of logits, every loss at every temperature, and the path that PGD takes on it.

Taught in: notebooks/03.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from contourpy import contour_generator
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from torch import Tensor, nn

from robustlib.attacks.landscape import Landscape, exactly_flat, input_landscape, random_landscape
from robustlib.attacks.scores import DLR, CrossEntropy, Margin, Score
from robustlib.course.plots import COLOURS
from robustlib.course.widgets.paths import pgd_path, pgd_paths
from robustlib.course.widgets.scene import Choice, Scene, Update, moving_line, nearest, plot_scene, together
from robustlib.course.widgets.shell import LiveScene
from robustlib.models.forward import logits_of

TEMPERATURES = tuple(float(f"{t:.4g}") for t in np.logspace(-3, 4, 57))
LOSSES = {"cross-entropy": "nats", "margin": "logits", "DLR": "no unit"}
SCORES: dict[str, Score] = {"cross-entropy": CrossEntropy(), "margin": Margin(), "DLR": DLR()}
PATCHES = 20  # of the drawn surface along each axis: more cost time and show no more


@dataclass(frozen=True)
class View:
    """One pair of directions.

    Attributes:
        surfaces: by loss, (n_temperatures, side, side) in float32; (1, side, side) where no temperature touches it.
        paths: by loss, (n_temperatures or 1, steps + 1, 2), where PGD went, projected on the two directions, in their
            units; empty for weights, which PGD does not move.
    """

    landscape: Landscape
    surfaces: dict[str, np.ndarray]
    paths: dict[str, np.ndarray]


@dataclass(frozen=True)
class LossLandscape:
    """What the widget draws from.

    Attributes:
        temperatures: (n_temperatures,), increasing.
        views: by the name of the directions.
        margins: by loss, (n_temperatures or 1, steps + 1): the margin (logits, T = 1) along PGD's path on that loss;
            above 0 the model is fooled.
    """

    title: str
    temperatures: np.ndarray
    views: dict[str, View]
    margins: dict[str, np.ndarray]


def loss_landscape_data(
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    *,
    epsilon: float,
    side: int,
    steps: int,
    title: str,
    weights: Landscape | None = None,
    temperatures: Sequence[float] = TEMPERATURES,
    seed: int = 0,
) -> LossLandscape:
    """Run the model on the grids and PGD at every temperature, once.

    Args:
        image, label: (1, channels, height, width) and (1,), the example in the middle.
        epsilon: radius of PGD and unit of the input directions, Linf, pixel units.
        side: grid points along each axis, odd.
        weights: a landscape around the weights, to be offered too.
    """
    n_classes = logits_of(model, image).shape[1]
    losses = {name: score for name, score in SCORES.items() if n_classes >= score.minimum_classes}
    iterates, margins = {}, {}
    for name, score in losses.items():
        if name == "cross-entropy":
            path = pgd_paths(model, image, label, temperatures, epsilon=epsilon, steps=steps)
        else:
            path = pgd_path(model, image, label, score, epsilon=epsilon, steps=steps)[None]
        iterates[name] = (path - image).flatten(2).cpu() / epsilon
        flat = logits_of(model, path.flatten(0, 1))
        margins[name] = Margin()(flat, label.cpu().expand(len(flat))).reshape(path.shape[:2]).numpy()
    around = {"epsilon": epsilon, "side": side}
    views = {
        "towards the attack": input_landscape(model, image, label, seed=seed, **around),
        "two random directions": random_landscape(model, image, label, seed=seed + 1, **around),
    }
    if weights is not None:
        views["weights, two random directions"] = weights
    views = {name: _view(landscape, losses, temperatures, iterates) for name, landscape in views.items()}
    return LossLandscape(title, np.asarray(temperatures), views, margins)


def _view(
    landscape: Landscape, losses: dict[str, Score], temperatures: Sequence[float], iterates: dict[str, Tensor]
) -> View:
    surfaces = {
        name: np.stack([landscape.surface(CrossEntropy(t)) for t in temperatures])
        if name == "cross-entropy"
        else landscape.surface(score)[None]
        for name, score in losses.items()
    }
    paths = {}
    if landscape.directions is not None:
        for name, steps in iterates.items():
            # least squares: two random sign patterns are only nearly orthogonal
            along = torch.linalg.lstsq(landscape.directions.T.to(steps), steps.flatten(0, 1).T).solution
            paths[name] = along.T.reshape(*steps.shape[:2], 2).numpy()
    return View(landscape, surfaces, paths)


def plot_loss_landscape(data: LossLandscape, temperature: float, loss: str = "cross-entropy") -> Figure:
    """Contours, surface and PGD's margin at one temperature, along the first pair of directions in `data.views`."""
    return plot_scene(loss_landscape_scene(data), temperature, loss, next(iter(data.views)))


def loss_landscape_widget(data: LossLandscape, *, start: float = 1.0) -> LiveScene:
    """The landscape with controls for temperature, loss and directions."""
    return LiveScene(loss_landscape_scene(data), start, "cross-entropy", next(iter(data.views)))


def loss_landscape_scene(data: LossLandscape) -> Scene:
    """The landscape as a scene of three values: temperature, loss, directions."""
    temperature = Choice("temperature T (no unit)", data.temperatures.tolist())
    lists = {"loss": data.margins, "directions": data.views}
    choices = temperature, *(Choice(name, tuple(names), str, slider=False) for name, names in lists.items())
    return Scene((12.5, 4.6), partial(_draw, data), partial(_describe, data), choices)


def _at(data: LossLandscape, table: np.ndarray, temperature: float) -> np.ndarray:
    """The entry of a table by temperature; its only one for a loss that no temperature touches."""
    return table[nearest(data.temperatures, temperature) if len(table) > 1 else 0]


def _describe(data: LossLandscape, temperature: float, loss: str, view: str) -> str:
    surface = _at(data, data.views[view].surfaces[loss], temperature)
    margin = _at(data, data.margins[loss], temperature)
    fooled = np.flatnonzero(margin > 0)
    return (
        f"{loss} at T = {temperature:.3g}, {view}: from {surface.min():.3g} to {surface.max():.3g} {LOSSES[loss]}, "
        f"{100 * exactly_flat(surface).mean():.0f} % of the grid exactly flat. PGD on it takes the margin from "
        f"{margin[0]:.3g} to {margin[-1]:.3g} logits"
        + (f" and fools the model at step {fooled[0]}." if len(fooled) else ": not fooled.")
    )


def _draw(data: LossLandscape, figure: Figure) -> Update:
    grid = figure.add_gridspec(1, 3, width_ratios=(1.15, 1, 0.9))
    parts = [
        _draw_contours(data, figure.add_subplot(grid[0, 0])),
        _draw_surface(data, figure.add_subplot(grid[0, 1], projection="3d")),
        _draw_margin(data, figure.add_subplot(grid[0, 2])),
    ]
    figure.suptitle(data.title, fontsize=11)
    return together(parts)


def _draw_contours(data: LossLandscape, ax: Axes) -> Update:
    extent = (-1, 1, -1, 1)
    picture = ax.imshow([[0.0, 1.0]], origin="lower", extent=extent, cmap="viridis", interpolation="bilinear")
    lines = ax.add_collection(LineCollection([], colors="white", linewidths=0.8, alpha=0.8), autolim=False)
    flat = ax.imshow(np.zeros((1, 1, 4)), origin="lower", extent=extent, interpolation="nearest")
    (path,) = ax.plot([], [], ".-", color=COLOURS[1], lw=2.4, ms=8, mec="white", mew=0.7, label="PGD at this T")
    (end,) = ax.plot([], [], "*", color=COLOURS[4], mec="black", ms=15, ls="", label="where it ends")
    (middle,) = ax.plot([0], [0], "o", color="white", mec="black", ms=7)
    bar = ax.figure.colorbar(picture, ax=ax, ticks=[0, 1])
    bar.ax.set_yticklabels(["lowest", "highest"], fontsize=9)
    ax.grid(False)
    # the unit of the axes changes with the directions: as words it costs less than as tick labels
    ticks = [-1, -0.5, 0, 0.5, 1]
    ax.set(xlim=(-1, 1), ylim=(-1, 1), aspect="auto", xlabel=" ", ylabel=" ", xticks=ticks, yticks=ticks)
    ax.legend(fontsize=8, loc="lower left", frameon=True, framealpha=0.85)
    line = moving_line(ax, "from above (grey: exactly flat)")

    def update(temperature: float, loss: str, view: str) -> list[Artist]:
        chosen = data.views[view]
        reach = chosen.landscape.coordinates[-1]
        surface = _at(data, chosen.surfaces[loss], temperature).T.astype(np.float64)
        low, high = surface.min(), surface.max()
        scaled = (surface - low) / (high - low or 1.0)
        picture.set_data(scaled)
        flat.set_data(np.where(exactly_flat(surface)[:, :, None], (0.5, 0.5, 0.5, 0.85), 0.0))
        along = np.linspace(-1, 1, len(surface))
        drawn = contour_generator(along, along, scaled)
        lines.set_segments([part for level in np.linspace(0.1, 0.9, 9) for part in drawn.lines(level)])
        steps = _at(data, chosen.paths[loss], temperature) / reach if chosen.paths else np.zeros((0, 2))
        path.set_data(steps[:, 0], steps[:, 1])
        end.set_data(steps[-1:, 0], steps[-1:, 1])
        unit = f"{reach:g} {'epsilon' if chosen.paths else 'filter norms'}"
        ax.set_xlabel(f"{chosen.landscape.first} (1 is {unit})")
        ax.set_ylabel(chosen.landscape.second)
        line.set_text(f"{loss}, T = {temperature:.3g}: {low:.3g} to {high:.3g} {LOSSES[loss]}")
        return [picture, lines, flat, path, end, middle, ax.xaxis.label, ax.yaxis.label, line]

    return update


def _draw_surface(data: LossLandscape, ax: Axes) -> Update:
    surface = ax.add_collection3d(
        Poly3DCollection([np.zeros((4, 3))], cmap="viridis", edgecolor="white", linewidth=0.2)
    )
    surface.set_clim(0, 1)
    ax.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(0, 1), xlabel="first direction", ylabel="second")
    ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1], zticks=[0, 0.5, 1])
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_ticklabels([])
        axis.labelpad = -10
    ax.view_init(elev=32, azim=-125)
    line = moving_line(ax, "as a surface")

    def update(temperature: float, loss: str, view: str) -> list[Artist]:
        values = _at(data, data.views[view].surfaces[loss], temperature).astype(np.float64)
        span = np.ptp(values)
        some = np.linspace(0, len(values) - 1, min(len(values), PATCHES + 1)).round().astype(int)
        height = ((values - values.min()) / (span or 1.0))[np.ix_(some, some)]
        along = np.linspace(-1, 1, len(some))
        points = np.stack([*np.meshgrid(along, along, indexing="ij"), height], axis=-1)
        corners = [points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]]
        quads = np.stack(corners, axis=2).reshape(-1, 4, 3)
        surface.set_verts(quads)
        surface.set_array(quads[:, :, 2].mean(axis=1))
        if ax.M is not None:  # drawn alone, it would keep the projection of the points before
            surface.do_3d_projection()
        line.set_text(f"height: {span:.3g} {LOSSES[loss]}")
        return [surface, line]

    return update


def _draw_margin(data: LossLandscape, ax: Axes) -> Update:
    every = np.concatenate(list(data.margins.values()))
    (path,) = ax.plot([], [], ".-", color=COLOURS[0], lw=1.8)
    ax.axhline(0, color=COLOURS[1], ls="--", lw=1.4, label="above: the model is fooled")
    room = 0.08 * np.ptp(every) + 1e-6
    ax.set(xlim=(-0.5, every.shape[1] - 0.5), ylim=(every.min() - room, every.max() + 3 * room))
    ax.set(xlabel="PGD step", ylabel="margin (logits)")
    ax.legend(fontsize=8, loc="upper left")
    line = moving_line(ax, "what PGD reaches on this loss")

    def update(temperature: float, loss: str, view: str) -> list[Artist]:
        margin = _at(data, data.margins[loss], temperature)
        path.set_data(np.arange(len(margin)), margin)
        fooled = np.flatnonzero(margin > 0)
        line.set_text(f"fooled from step {fooled[0]} on" if len(fooled) else "never fooled")
        return [path, line]

    return update
