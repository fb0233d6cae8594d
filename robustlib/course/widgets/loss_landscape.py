"""Loss landscape: what the attacker climbs, what decides, and the path that PGD takes. Taught in: notebooks/03."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustlib.attacks.landscape import Landscape
from robustlib.attacks.scores import DLR, CrossEntropy, Margin, Score
from robustlib.course.widgets.paths import pgd_path, pgd_paths
from robustlib.course.widgets.slider import Slider, offered, packed, positive
from robustlib.models.forward import logits_of

TEMPERATURES = tuple(float(f"{t:.4g}") for t in np.logspace(-3, 4, 57))
ROOM = 400_000  # bytes of logits in one view: of several examples as many as fit are kept
SCORES: dict[str, Score] = {"cross-entropy": CrossEntropy(), "margin": Margin(), "DLR": DLR()}


class LossLandscape(Slider):
    """The landscape; `stored["margins"]`, by loss, are those along PGD's path: above 0 the model is fooled."""

    source = "landscape"
    name = "Loss landscape"
    about = "The loss that an attacker climbs at any temperature, beside the margin that decides, which has none."
    temperature = positive(1.0)
    loss = offered("cross-entropy", lambda stored: [*stored["margins"]])
    directions = offered("", lambda stored: [*stored["views"]])


def loss_landscape(
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    views: Mapping[str, Landscape],
    *,
    epsilon: float,
    steps: int,
    title: str,
    temperatures: Sequence[float] = TEMPERATURES,
) -> LossLandscape:
    """Run PGD on every loss, on the cross-entropy at every temperature, and project its path on each view.

    Args:
        image, label: (1, channels, height, width) and (1,), the example in the middle.
        views: landscapes by name; those around weights have no path.
        epsilon: radius of PGD and unit of the input directions, Linf, pixel units.
    """
    losses = {name: s for name, s in SCORES.items() if logits_of(model, image).shape[1] >= s.minimum_classes}
    options = {"epsilon": epsilon, "steps": steps}
    moves, margins = {}, {}
    for name, score in losses.items():
        if name == "cross-entropy":
            path = pgd_paths(model, image, label, temperatures, **options)
        else:
            path = pgd_path(model, image, label, score, **options)[None]
        moves[name] = (path - image).flatten(2).cpu() / epsilon
        flat = logits_of(model, path.flatten(0, 1))
        reached = Margin()(flat, label.cpu().expand(len(flat))).reshape(path.shape[:2])
        margins[name] = [[float(f"{value:.6g}") for value in row] for row in reached.tolist()]
    stored = {"title": title, "temperatures": list(temperatures), "margins": margins}
    stored["views"] = {name: _view(landscape, moves) for name, landscape in views.items()}
    return LossLandscape(stored, directions=next(iter(views)))


def _view(landscape: Landscape, moves: dict[str, Tensor]) -> dict[str, Any]:
    unit = "filter norms" if landscape.directions is None else "epsilon"
    kept = max(1, ROOM // landscape.logits[:, :, 0].nbytes)
    labels = landscape.labels[:kept].tolist()
    view: dict[str, Any] = {"logits": packed(landscape.logits[:, :, :kept]), "labels": labels, "paths": None}
    view["coordinates"] = landscape.coordinates.round(6).tolist()
    view["axes"] = [f"{name} ({unit})" for name in (landscape.first, landscape.second)]
    if landscape.directions is not None:
        view["paths"] = {}
        for name, path in moves.items():
            # least squares: two random sign patterns are only nearly orthogonal
            along = torch.linalg.lstsq(landscape.directions.T.to(path), path.flatten(0, 1).T).solution
            view["paths"][name] = along.T.reshape(*path.shape[:2], 2).double().numpy().round(4).tolist()
    return view
