"""The exercises on the audit: hand-worked cases of its verdict, and three models of known truth to judge."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.calibration.disguises import Disguised
from robustlib.calibration.temperature import TemperatureScaled
from robustlib.course.exercises import solutions
from robustlib.course.exercises.base import answered, exercise, expect
from robustlib.data import load_images
from robustlib.models.forward import seeded

EPSILON = 0.15  # on the digits that the three models are judged on


@exercise("11.1", solutions.rule)
def rule(answer: Callable[[float, float, float, bool], str]) -> None:
    """Exercise 11.1: the verdict from what stands as served, at least under scale-free attacks, and at least at all."""
    cases = (
        ((86.0, 15.0, 14.0, False), "miscalibration", "71 of 72 points fall to a temperature or a margin"),
        ((86.0, 86.0, 14.0, True), "masked", "nothing falls to a temperature, 72 points fall to another search"),
        ((40.0, 39.0, 38.0, False), "no illusion found", "2 points are no more than a better search finds anywhere"),
        ((86.0, 85.0, 84.0, True), "inconclusive", "no gap, but the search was blind: its failure says nothing"),
        ((60.0, 45.0, 20.0, False), "masked", "15 points fall to a scale, 25 more to another search: the larger part"),
        ((60.0, 35.0, 20.0, False), "miscalibration", "25 points fall to a scale, 15 more to another search"),
        ((60.0, 20.0, 20.0, True), "miscalibration", "a gap that was found is evidence, however blind the search was"),
        ((50.0, 45.0, 45.0, False), "no illusion found", "5 points do not exceed 5 points"),
    )
    for arguments, expected, why in cases:
        result = answered(answer(*arguments))
        expect(result == expected, f"rule{arguments}: {why}. Expected {expected!r}, got {result!r}")


@exercise("11.2", solutions.judge)
def judge(answer: Callable[[Any, Tensor, Tensor, float], str]) -> None:
    """Exercise 11.2: the verdict on each of the three models of `models_to_judge`, by any means."""
    models, images, labels, epsilon = models_to_judge()
    for name, served in models.items():
        expected, why = _TRUTH[name]
        result = answered(answer(served, images, labels, epsilon))
        expect(result == expected, f"model {name}: {why}. Expected {expected!r}, got {result!r}")


def models_to_judge() -> tuple[dict[str, nn.Module], Tensor, Tensor, float]:
    """One small network in three guises, with the same predictions: models by name, images, labels, and epsilon."""
    model, (images, labels) = _trained(), _digits("test")
    guises = {"a": TemperatureScaled(model, 1e-3), "b": Disguised(model, _in_steps), "c": TemperatureScaled(model, 0.3)}
    return guises, images, labels, EPSILON


_TRUTH = {
    "a": ("miscalibration", "its logits are divided by a constant, so another constant brings everything back"),
    "b": ("masked", "its scores are rounded to whole numbers: no temperature brings back what is not there"),
    "c": (
        "no illusion found",
        "it is overconfident, and the attack as served finds as much as any other: a scale alone is no illusion",
    ),
}


def _in_steps(logits: Tensor) -> Tensor:
    """Logits rounded to whole numbers; the largest stays the largest."""
    first = nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1])
    return logits.round() + 0.5 * first


def _digits(split: str) -> tuple[Tensor, Tensor]:
    data = load_images("digits", split)
    return data.images, data.labels


@cache
def _trained() -> nn.Module:
    """A small network, trained in less than a second."""
    images, labels = _digits("train")
    with seeded(0), torch.enable_grad():
        pixels = images[0].numel()
        model = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 32), nn.ReLU(), nn.Linear(32, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(150):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return model.eval().requires_grad_(False)
