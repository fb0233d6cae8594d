"""Attack replay for an image: PGD step by step, at two temperatures next to each other. Taught in: notebooks/02."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from robustlib.attacks.diagnostics import input_gradient, input_jacobian
from robustlib.course.widgets.paths import pgd_paths
from robustlib.course.widgets.slider import Slider, offered, packed, unpacked


class ImageReplay(Slider):
    """The replay: a PGD step, and the design temperatures on the left and on the right."""

    source = "image_replay"
    name = "Attack on an image, step by step"
    about = "PGD on one image, step by step, as served at two temperatures: what it sees, and what it changes."
    step = offered(0, lambda stored: range(stored["path"]["shape"][1]))
    left = offered(1.0, lambda stored: stored["temperatures"])
    right = offered(1.0, lambda stored: stored["temperatures"])

    @property
    def logits(self) -> np.ndarray:
        """(n_temperatures, steps + 1, n_classes) along the paths, no temperature applied."""
        return unpacked(self.stored["logits"])

    @property
    def largest(self) -> np.ndarray:
        """(n_temperatures, steps + 1): largest entry of the gradient; 0 where it is exactly 0."""
        return np.array(self.stored["largest"]).reshape(self.logits.shape[:2])


def image_replay(
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    *,
    epsilon: float,
    steps: int,
    class_names: Sequence[str],
    title: str,
    temperatures: Sequence[float],
    left: float = 1.0,
    right: float = 1.0,
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
    seen = gradient.sum(dim=2)
    unit = seen.abs().flatten(2).amax(dim=2)
    shares = seen / torch.where(unit > 0, unit, 1.0)[..., None, None]
    changes = (path - path[:, :1]).abs().flatten(2).amax(dim=2).flatten().tolist()
    stored = {"title": title, "temperatures": list(temperatures), "class_names": list(class_names), "label": int(label)}
    stored |= {
        "path": packed((path.cpu() * 255).round(), "u1"),
        "epsilon": epsilon,
        "logits": packed(torch.stack(logits)),
    }
    stored |= {"gradients": packed((shares * 127).round() + 128, "u1"), "largest": largest.flatten().tolist()}
    return ImageReplay(stored | {"changes": changes}, left=left, right=right)
