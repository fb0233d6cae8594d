"""Attack replay for an image: PGD step by step, at two temperatures next to each other. Taught in: notebooks/02."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from torch import Tensor, nn

from robustlib.attacks.diagnostics import input_gradient, input_jacobian
from robustlib.course.plots import COLOURS, plot_picture, plot_probabilities
from robustlib.course.widgets.paths import pgd_paths
from robustlib.course.widgets.scene import Choice, Scene, Update, moving_line, plot_scene, two_halves
from robustlib.course.widgets.shell import LiveScene

TEMPERATURES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 1e2, 1e4)


@dataclass(frozen=True)
class ImageReplay:
    """An attack on one image, at T design temperatures and every step.

    Attributes:
        path: (T, steps + 1, channels, height, width) in [0, 1]; step 0 is the image.
        gradients: like `path`: what the attacker sees there, in float32, divided by its largest entry.
        largest: (T, steps + 1), that entry; 0 where the gradient is exactly 0.
        logits: (T, steps + 1, n_classes), no temperature applied.
    """

    title: str
    temperatures: tuple[float, ...]
    path: np.ndarray
    gradients: np.ndarray
    largest: np.ndarray
    logits: Tensor
    label: int
    class_names: tuple[str, ...]


def image_replay_data(
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    *,
    epsilon: float,
    steps: int,
    class_names: Sequence[str],
    title: str,
    temperatures: Sequence[float] = TEMPERATURES,
) -> ImageReplay:
    """Attack one image (1, channels, height, width) of class `label` (1,) in the Linf ball at every temperature."""
    path = pgd_paths(model, image, label, temperatures, epsilon=epsilon, steps=steps)
    gradients, logits = [], []
    for temperature, iterates in zip(temperatures, path, strict=True):
        values, jacobian = input_jacobian(model, iterates)
        truth = label.expand(len(iterates))
        gradients.append(input_gradient(values, jacobian, truth, temperature).cpu().reshape(iterates.shape))
        logits.append(values.cpu())
    gradient = torch.stack(gradients)
    largest = gradient.abs().flatten(2).amax(dim=2)
    unit = torch.where(largest > 0, largest, 1.0).reshape(*largest.shape, 1, 1, 1)
    return ImageReplay(
        title,
        tuple(temperatures),
        path.cpu().numpy(),
        (gradient / unit).numpy(),
        largest.numpy(),
        torch.stack(logits),
        int(label),
        tuple(class_names),
    )


def plot_image_replay(replay: ImageReplay, step: int, temperatures: tuple[float, float]) -> Figure:
    """Both temperatures after one step."""
    return plot_scene(image_replay_scene(replay), step, *temperatures)


def image_replay_widget(replay: ImageReplay, *, temperatures: tuple[float, float]) -> LiveScene:
    """The replay with a slider for the step and a list for each temperature."""
    return LiveScene(image_replay_scene(replay), 0, *temperatures)


def image_replay_scene(replay: ImageReplay) -> Scene:
    """The replay as a scene of three values: step, temperature on the left, temperature on the right."""
    left, right = (Choice(side, replay.temperatures, "T_d = {:g}".format, slider=False) for side in ("left", "right"))
    choices = Choice("PGD step", range(replay.path.shape[1]), str), left, right
    return Scene((12, 5.6), partial(_draw, replay), partial(_describe, replay), choices)


def _state(replay: ImageReplay, step: int, temperature: float) -> dict[str, Any]:
    row = replay.temperatures.index(temperature)
    logits = replay.logits[row, step].double()
    return {
        "picture": replay.path[row, step],
        "change": replay.path[row, step] - replay.path[row, 0],
        "gradient": replay.gradients[row, step],
        "largest": float(replay.largest[row, step]),
        "probs": torch.softmax(logits / temperature, dim=0).numpy(),
        "predicted": replay.class_names[int(logits.argmax())],
        "fooled": int(logits.argmax()) != replay.label,
    }


def _describe(replay: ImageReplay, step: int, left: float, right: float) -> str:
    halves = []
    for temperature in (left, right):
        state = _state(replay, step, temperature)
        gradient = f"gradient up to {state['largest']:.2g}" if state["largest"] else "gradient exactly 0"
        halves.append(
            f"served at T_d = {temperature:g}: {state['predicted']} ({'fooled' if state['fooled'] else 'right'}, "
            f"probability {state['probs'].max():.3f}), pixels changed by up to {np.abs(state['change']).max():.3f}, "
            f"{gradient}"
        )
    return f"Step {step}; " + "; ".join(halves) + "."


def _draw(replay: ImageReplay, figure: Figure) -> Update:
    return two_halves(figure, replay.title, partial(_draw_half, replay))


def _draw_half(replay: ImageReplay, figure: Figure, cell: Any) -> Update:
    grid = cell.subgridspec(2, 3, height_ratios=(1.1, 1))
    top = [figure.add_subplot(grid[0, column]) for column in range(3)]
    bars = figure.add_subplot(grid[1, :])
    blank = replay.path[0, 0]
    for ax in top:
        plot_picture(blank, title="", ax=ax)
    grey = len(blank) == 1
    reach = float(np.abs(replay.path - replay.path[:1, :1]).max()) or 1.0
    top[2].images[0].set(cmap="PuOr", clim=(-1, 1))
    headings = ("image now", "change so far", "gradient seen")
    lines = [moving_line(ax, heading) for ax, heading in zip(top, headings, strict=True)]
    plot_probabilities(np.zeros(len(replay.class_names)), replay.class_names, replay.label, title="", ax=bars)
    prediction = moving_line(bars, "probabilities as served (green: true class)")

    def update(step: int, temperature: float) -> list[Artist]:
        state = _state(replay, step, temperature)
        pictures = state["picture"], state["change"] / reach / 2 + 0.5
        for ax, picture in zip(top, pictures, strict=False):
            ax.images[0].set_data(picture[0] if grey else picture.transpose(1, 2, 0))
        top[2].images[0].set_data(state["gradient"].sum(axis=0))
        for bar, height in zip(bars.patches, state["probs"], strict=True):
            bar.set_height(height)
        lines[0].set_text(f"step {step}")
        lines[1].set_text(f"up to {np.abs(state['change']).max():.3f}")
        lines[2].set_text(f"up to {state['largest']:.1e}" if state["largest"] else "exactly 0")
        lines[2].set_color(COLOURS[6] if state["largest"] else COLOURS[1])
        outcome = "FOOLED" if state["fooled"] else "still right"
        prediction.set_text(f"T_d = {temperature:g}: {state['predicted']}, {outcome}")
        return [*(ax.images[0] for ax in top), *bars.patches, *lines, prediction]

    return update
