"""Figures of the study. They compute nothing: each draws what it is given and returns the Axes.

Colours are Okabe and Ito's, which people with any colour vision can tell apart; series differ in marker too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustlib.attacks.landscape import exactly_flat
from robustlib.course.captions import describe
from robustlib.course.words import plain
from robustlib.data.folders import results_dir, writable
from robustlib.study.hiding import keeps_predictions

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8B4513", "#6A3D9A", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
LABELS = {
    "T": "temperature T (log scale)",
    "T_d": "design temperature T_d (log scale)",
    "T_a": "adversary temperature T_a (log scale)",
    "mean": "adversarial accuracy (%)",
}


def use_style() -> None:
    """Readable defaults for a notebook and for a projector."""
    sizes = {"font.size": 10.5, "axes.titlesize": 11, "legend.fontsize": 9, "legend.title_fontsize": 9}
    sizes |= dict.fromkeys(("axes.labelsize", "xtick.labelsize", "ytick.labelsize"), 10.5)
    spines = {"axes.spines.top": False, "axes.spines.right": False}
    grid = {"axes.grid": True, "grid.alpha": 0.25, "grid.color": "#b0b0b0"}
    rest = {"figure.dpi": 110, "figure.constrained_layout.use": True, "legend.frameon": False, "hatch.color": "black"}
    sns.set_theme(style="ticks", palette=COLOURS, rc={**sizes, **spines, **grid, **rest})


def show(axes: Axes | Figure, name: str = "", profile: str = "") -> None:
    """Show a figure below the cell, its words beside it, and if it has a name save it in `figures/` of the results.

    The words are computed from what is drawn: `image/png` gets `alt` and `caption` in the output's metadata.
    """
    from IPython.display import display

    figure = axes if isinstance(axes, Figure) else axes.figure
    if name:
        path = writable(results_dir(profile) / "figures") / f"{name}.png"
        figure.savefig(path, dpi=150, bbox_inches="tight")
    display(figure, metadata={"image/png": describe(figure)._asdict()})
    plt.close(figure)


def side_by_side(
    panels: Mapping[str, pd.DataFrame],
    plot: Callable[..., Axes],
    *,
    by: str,
    size: tuple[float, float] = (13, 4),
    sharey: bool = False,
    **options: Any,
) -> Figure:
    """One panel for each frame, with its key as title, all drawn by `plot(frame, by=by, **options)`.

    A value of column `by` has the same colour in every panel, and the figure one legend, on the right.
    `size`: width and height of a row in inches. More than three panels stand in two rows, no wider than 13: a page
    would shrink their letters until nobody can read them.
    """
    rows = 1 if len(panels) <= 3 else 2
    columns, width = -(-len(panels) // rows), size[0] if rows == 1 else min(size[0], 13)
    figure, axes = plt.subplots(rows, columns, figsize=(width, rows * size[1]), sharey=sharey, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    levels = list(dict.fromkeys(pd.concat([frame[by] for frame in panels.values()])))
    entries = {}
    for ax, (title, frame) in zip(axes.flat, panels.items(), strict=False):
        plot(frame, by=by, levels=levels, title=title, ax=ax, **options)
        handles, labels = ax.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
        ax.get_legend().remove()
    axes[0, -1].legend(
        entries.values(), entries.keys(), title=_heading(by), loc="center left", bbox_to_anchor=(1.01, 0.5)
    )
    return figure


def _heading(by: str) -> str | None:
    """The title of a legend over the values of a column; none where the column only collects."""
    return None if by in ("series", "state", "who") else by.replace("_", " ")


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return ax or plt.subplots(figsize=size)[1]


def _by(frame: pd.DataFrame, by: str, levels: Sequence[Any] | None) -> dict[str, Any]:
    """seaborn's arguments for a colour and a marker for each level of a column, in order of appearance."""
    levels = list(dict.fromkeys(frame[by])) if levels is None else list(levels)
    colours = [COLOURS[index % len(COLOURS)] for index in range(len(levels))]
    markers = [MARKERS[index % len(MARKERS)] for index in range(len(levels))]
    return {"hue": by, "hue_order": levels, "palette": colours, "markers": markers, "markeredgewidth": 0}


def _stored_interval(frame: pd.DataFrame, value: str) -> dict[str, Any]:
    """seaborn's arguments to draw `value` between `low` and `high`: as the median and range of three rows for each."""
    numbers = [column for column in (value, "low", "high") if column in frame]
    rest = frame.drop(columns=numbers)
    long = pd.concat([rest.assign(**{value: frame[column].astype(float)}) for column in numbers], ignore_index=True)
    return {"data": long, "estimator": "median", "errorbar": ("pi", 100)}


def plot_reliability(
    bins: Mapping[str, np.ndarray], *, title: str, legend: bool = True, ax: Axes | None = None
) -> Axes:
    """Reliability diagram. `bins`: (n_bins,) arrays `confidence`, `accuracy`, `count`; empty bins are left out."""
    ax = _axes(ax, (4, 4))
    count = np.asarray(bins["count"])
    filled = count > 0
    confidence, accuracy = np.asarray(bins["confidence"])[filled], np.asarray(bins["accuracy"])[filled]
    ax.plot([0, 1], [0, 1], "--", color="grey", label="perfectly calibrated")
    area = 20 + 180 * count[filled] / count.sum()
    ax.scatter(confidence, accuracy, s=area, color=COLOURS[0], zorder=3, label="model (area: share of examples)")
    ax.vlines(confidence, accuracy, confidence, color=COLOURS[1], lw=2, alpha=0.7, label="calibration gap")
    ax.set(xlabel="confidence (largest probability)", ylabel="accuracy (fraction correct)", title=title)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    if legend:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8)
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
    y: str = "mean",
    by: str,
    title: str,
    xlabel: str | None = None,
    ylabel: str | None = None,
    reference: float | None = None,
    reference_label: str = "clean accuracy",
    log_x: bool = True,
    marker: str | None = None,
    levels: Sequence[Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One curve per value of column `by`, with a band where it has `low` and `high`; marker "" draws lines only.

    `xlabel`, `ylabel`: default as in LABELS, or the name of the column.
    """
    ax = _axes(ax, (7, 4))
    look = _by(frame, by, levels) | ({} if marker is None else {"markers": False})
    order = {"style": by, "style_order": look["hue_order"], "dashes": False}
    if len(frame):
        sns.lineplot(**_stored_interval(frame, y), x=x, y=y, **look, **order, err_kws={"alpha": 0.15, "lw": 0}, ax=ax)
    if reference is not None:
        ax.axhline(reference, color="grey", ls="--", lw=1.2, label=reference_label)
    if log_x:
        ax.set_xscale("log")
    ax.set(xlabel=xlabel or LABELS.get(x, x), ylabel=ylabel or LABELS.get(y, y), title=title)
    ax.legend(title=_heading(by))
    return ax


def plot_bowl(frame: pd.DataFrame, *, title: str, ax: Axes | None = None) -> Axes:
    """Adversarial accuracy against mean confidence, as the paper's figure 1; one curve per attack.

    Confidence on a logit scale, on which both ends have room: 99 % and 99.99 % are different models.
    `frame`: columns `confidence` (percent), `mean` (percent), `attack`, `temperature`.
    """
    ax = _axes(ax, (6, 4))
    look = _by(frame, "attack", None)
    along = frame.sort_values("temperature", ascending=False)  # several temperatures may have the same confidence
    along = along.assign(confidence=(along["confidence"] / 100).clip(upper=1 - 1e-5))
    order = {"style": "attack", "style_order": look["hue_order"], "dashes": False, "sort": False, "estimator": None}
    sns.lineplot(along, x="confidence", y="mean", **look, **order, ax=ax)
    ax.set_xscale("logit")
    ticks = [p for p in (0.1, 0.2, 0.5, 0.8, 0.9, 0.99, 0.999, 0.9999, 1 - 1e-5) if p > 0.9 * along["confidence"].min()]
    ax.set_xticks(ticks, [f"{100 * p:.6g}" if p < 1 - 1e-5 else "≥ 99.999" for p in ticks], rotation=45)
    ax.xaxis.set_minor_locator(plt.NullLocator())
    ax.set(
        xlabel="mean confidence in the predicted class (%, logit scale)", ylabel="adversarial accuracy (%)", title=title
    )
    ax.legend(title=_heading("attack"))
    return ax


def plot_adversaries(
    frame: pd.DataFrame,
    *,
    row: str,
    by: str,
    title: str,
    clean: float | None = None,
    levels: Sequence[Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Dot plot with intervals (`mean`, `low`, `high` in percent): a line per `row`, a colour per `by`.

    `clean`: clean accuracy in percent, drawn as a dashed line.
    """
    rows = list(dict.fromkeys(frame[row]))
    ax = _axes(ax, (7, 0.55 * len(rows) + 1.4))
    look = _by(frame, by, levels) | {"linestyle": "none", "markersize": 6, "err_kws": {"lw": 2, "alpha": 0.6}}
    apart = 0.56 if len(look["hue_order"]) > 1 else False
    sns.pointplot(
        **_stored_interval(frame, "mean"), x="mean", y=row, orient="y", order=rows, dodge=apart, **look, ax=ax
    )
    if clean is not None:
        ax.axvline(clean, color="grey", ls="--", lw=1.2, label="clean accuracy")
    ax.set(xlabel="adversarial accuracy (%), 95 % interval", ylabel="", title=title, xlim=(-2, 102))
    ax.set_yticks(range(len(rows)), [plain(str(name)) for name in rows])
    ax.legend(title=_heading(by), loc="center left", bbox_to_anchor=(1.01, 0.5))
    return ax


def plot_prices(
    frame: pd.DataFrame, *, by: str, title: str, levels: Sequence[Any] | None = None, ax: Axes | None = None
) -> Axes:
    """Clean against robust accuracy, a numbered point with both intervals for each model: up and right is better.

    The legend says which model has which number; a colour and a marker for each value of `by`.
    `frame`: as of `TrainingLesson.prices`, its index as columns, and a column `by`.
    """
    ax = _axes(ax, (7, 5))
    look = _by(frame, by, levels)
    looks = dict(zip(look["hue_order"], zip(look["palette"], look["markers"], strict=True), strict=True))
    for number, row in enumerate(frame.to_dict("records"), 1):
        colour, marker = looks[row[by]]
        reach = {
            f"{axis}err": [[row[side] - row[f"{side}_low"]], [row[f"{side}_high"] - row[side]]]
            for axis, side in {"x": "clean", "y": "robust"}.items()
        }
        name = f"{number}  {plain(row['method'])}, T = {row['training_temperature']:g}"
        ax.errorbar(
            row["clean"], row["robust"], **reach, fmt=marker, color=colour, label=name, elinewidth=1, ms=11, alpha=0.8
        )
        ax.annotate(str(number), (row["clean"], row["robust"]), fontsize=7, color="white", ha="center", va="center")
    ax.set(xlabel="clean accuracy (%)", ylabel="adversarial accuracy, log-odds (%)", title=title)
    ax.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.16), markerscale=0.6)
    return ax


def plot_hiding(table: pd.DataFrame) -> Figure:
    """Heatmaps of points above honest, one for each modality: a row for what hides, a column for what pierces.

    `table`: as from `study.hiding.hiding_table`. ∎ marks a theorem, ✗ a counterexample; a cell without a number was not
    measured, and with ∎ alone need not be.
    """
    parts = {modality: part for modality, part in table.groupby("modality", sort=False)}
    sizes = [part.hides.nunique() + 1.2 for part in parts.values()]
    figure, axes = plt.subplots(
        len(parts), 1, figsize=(12, 0.62 * sum(sizes)), height_ratios=sizes, squeeze=False, layout="constrained"
    )
    signs = {"theorem": " ∎", "counterexample": " ✗", "": ""}
    for ax, (modality, part) in zip(axes[:, 0], parts.items(), strict=True):
        words = [
            f"{round(row['mean']) + 0:+d}{signs[row['mark']]}\n[{round(row['low'])}, {round(row['high'])}]"
            for row in part.to_dict("records")
        ]
        cells = part.assign(words=words)
        order = {"index": list(dict.fromkeys(part.hides)), "columns": list(dict.fromkeys(part.pierces))}
        values, notes = (
            cells.pivot(index="hides", columns="pierces", values=name).reindex(**order) for name in ("mean", "words")
        )
        look = {"cmap": "rocket_r", "vmin": 0, "vmax": 80, "linewidths": 1, "annot_kws": {"fontsize": 8.5}}
        for row, column in np.argwhere(values.isna().to_numpy()):
            # Not measured, nor need it be.
            if values.columns[column] == "labels only" and keeps_predictions(values.index[row]):
                ax.text(column + 0.5, row + 0.5, "∎", ha="center", va="center")
        sns.heatmap(values, annot=notes.fillna(""), fmt="", cbar_kws={"label": "points above honest"}, **look, ax=ax)
        meaning = ": ∎ by theorem, ✗ counterexample" if part.mark.any() else ""
        ax.set(xlabel="", ylabel="", title=f"{modality}s{meaning}")
        ax.grid(visible=False)  # it would show through cells that were not measured
        ax.tick_params(axis="x", rotation=0 if values.shape[1] <= 10 else 20)
        ax.tick_params(axis="y", rotation=0)
    return figure


def plot_verdicts(scorecard: pd.DataFrame) -> Axes:
    """Heatmap of verdicts: a row per modality, a column per claim; columns `modality`, `claim`, `verdict`."""
    verdicts = scorecard.pivot(index="modality", columns="claim", values="verdict")[
        list(dict.fromkeys(scorecard.claim))
    ]
    looks = {
        "reproduced": (COLOURS[2], "✓"),
        "partly": (COLOURS[4], "~"),
        "not reproduced": (COLOURS[1], "✗"),
        "inconclusive": (COLOURS[5], "?"),
        "nothing to test": ("#BBBBBB", "∅"),
        "not tested": ("#EEEEEE", ""),
    }
    colours, signs = zip(*looks.values(), strict=True)
    codes = verdicts.map(list(looks).index)
    ax = plt.subplots(figsize=(0.36 * verdicts.shape[1] + 1.2, 2.0))[1]
    look = {"cmap": list(colours), "vmin": -0.5, "vmax": len(looks) - 0.5}
    look |= {"cbar": False, "linewidths": 3, "square": True}
    sns.heatmap(codes, annot=codes.map(signs.__getitem__), fmt="", annot_kws={"color": "black"}, **look, ax=ax)
    ax.set(xlabel="", ylabel="", title="verdict on each claim")
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    patches = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in colours]
    names = [f"{name} {sign}" for name, sign in zip(looks, signs, strict=True)]
    ax.figure.legend(patches, names, ncols=len(looks), loc="outside lower center")
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
    drawn = ax.contourf(coordinates, coordinates, surface.T, levels=1 if flat else 14, cmap="viridis")
    ax.figure.colorbar(drawn, ax=ax, label=unit)
    if flat:
        ax.text(0.5, 0.92, "exactly flat", transform=ax.transAxes, ha="center", color="white", weight="bold")
    level = exactly_flat(surface)
    if level.any() and not flat:
        ax.contourf(coordinates, coordinates, level.T, levels=[0.5, 1.5], colors="none", hatches=["//"])
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


def plot_steps(frame: pd.DataFrame, *, title: str, walls: Mapping[str, float]) -> Axes:
    """Shares (0 to 1) against temperature; `frame`: index temperature, a column per share; walls: label to T."""
    ax = plt.subplots(figsize=(8.5, 4))[1]
    number = frame.shape[1]
    look = {"palette": COLOURS[:number], "markers": MARKERS[:number], "dashes": False, "markeredgewidth": 0}
    sns.lineplot(frame, **look, errorbar=None, ax=ax)
    for (label, temperature), style in zip(walls.items(), (":", "--", "-."), strict=False):
        ax.axvline(temperature, color="grey", ls=style, lw=1.4, label=label)
    ax.set_xscale("log")
    ax.set(xlabel="temperature T (no unit, log scale)", ylabel="share of examples", ylim=(-0.03, 1.05), title=title)
    ax.legend()
    return ax
