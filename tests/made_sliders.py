"""One small slider of each kind, made on the spot."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import torch
from record_rows import record

from robustlib.attacks.diagnostics import input_jacobian
from robustlib.attacks.landscape import input_landscape, random_landscape, weight_landscape
from robustlib.attacks.words.queries import QueryCache
from robustlib.attacks.words.recipes import deepwordbug
from robustlib.calibration.temperature import TemperatureScaled
from robustlib.course import widgets
from robustlib.models.forward import seeded
from robustlib.models.images import small_cnn
from robustlib.study.records import COLUMNS

CLASSES = ("cat", "dog", "<fish>", "d")
FEW = tuple(float(f"{t:.4g}") for t in np.logspace(-3, 3, 13))


@cache
def images() -> torch.Tensor:
    return torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@cache
def model() -> torch.nn.Module:
    """A small classifier with logits of some size."""
    with seeded(0):
        return TemperatureScaled(small_cnn(1, 8, len(CLASSES), width=4), 1 / 20).eval()


@cache
def predictions() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the images, and labels of which every fifth is another."""
    logits = model()(images()).detach()
    labels = logits.argmax(dim=1)
    labels[::5] = (labels[::5] + 1) % len(CLASSES)
    return logits, labels


def attack_records() -> pd.DataFrame:
    rows = [
        record(mean, half=5, metric="accuracy", adversary=adversary, attack=attack, design_temperature=t)
        for adversary, attack in (("naive", "pgd"), ("cal", "pgd"), ("naive", "clean"))
        for t, mean in ((1e2, 40.0), (1e-6, 80.0), (1.0, 20.0))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def temperature_lab(**changes) -> widgets.TemperatureLab:
    logits, labels = predictions()
    arguments = {"class_names": CLASSES, "chosen": range(3), "records": attack_records(), "title": "lab"}
    arguments |= {"pictures": images()[:3], "jacobian": input_jacobian(model(), images()[:3])[1]}
    return widgets.temperature_lab(logits, labels, **arguments | changes)


def temperature_lab_of_texts() -> widgets.TemperatureLab:
    logits = 3 * torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    examples = {"chosen": [1, 0], "sentences": ["</script><b>so it goes</b>", "fine & good"]}
    nothing = pd.DataFrame(columns=COLUMNS)
    return widgets.temperature_lab(
        logits, logits.argmax(dim=1), class_names=("no", "yes"), records=nothing, title="texts", **examples
    )


def loss_landscape() -> widgets.LossLandscape:
    image, label = images()[:1], model()(images()[:1]).argmax(dim=1)
    some = model()(images()[:4]).argmax(dim=1)
    views = {
        "towards the attack": input_landscape(model(), image, label, epsilon=0.1, side=7),
        "two random directions": random_landscape(model(), image, label, epsilon=0.1, side=7),
        "weights": weight_landscape(model(), images()[:4], some, side=5),
    }
    options = {"epsilon": 0.1, "steps": 4, "title": "land", "temperatures": FEW}
    return widgets.loss_landscape(model(), image, label, views, **options)


def image_replay(**changes) -> widgets.ImageReplay:
    label = model()(images()[:1]).argmax(dim=1)
    options = {"epsilon": 0.1, "steps": 4, "class_names": CLASSES, "title": "replay", "temperatures": (1e-6, 1.0)}
    return widgets.image_replay(model(), images()[:1], label, **options | {"right": 1e-6} | changes)


def text_replay(**changes) -> widgets.TextReplay:
    """Of a victim that knows two good words, each worth 3 logits."""

    def victim(texts):
        good = torch.tensor([[3.0 * sum(word in ("good", "fine") for word in text.split())] for text in texts])
        return torch.cat([1 - good, good - 1], dim=1)

    options = {"recipe": deepwordbug(), "title": "text", "temperatures": (1e-3, 1.0), "right": 1e-3}
    sentence = "a good and really fine film"
    return widgets.text_replay(QueryCache(victim), sentence, torch.tensor([1]), **options | changes)


def pierce(**changes) -> widgets.Pierce:
    """As the paper's bowl: nothing found at a small product of temperatures, most at 1."""
    temperatures = np.logspace(-4, 4, 9)
    accuracy = dict(zip(temperatures, np.array([80.0] * 3 + [40, 10] + [30] * 4) / 100, strict=True))
    logits = torch.tensor([[4.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    return widgets.pierce(accuracy, logits, torch.tensor([0, 1, 1]), title="riddle", **changes)


def training_rows() -> pd.DataFrame:
    rows = [
        record(mean, half=1, metric=metric, attack=attack, adversary=adversary, training_temperature=t)
        for t in (0.1, 1.0, 10.0)
        for metric, attack, adversary, mean in (
            ("accuracy", "clean", "naive", 90 - t),
            ("accuracy", "pgd", "margin", 20 + t),
            ("logit_range", "clean", "naive", 5 * t),
            ("margin", "clean", "naive", 2 * t),
            ("ece", "clean", "naive", 3),
        )
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def training_temperature() -> widgets.TrainingTemperature:
    return widgets.training_temperature(training_rows(), title="trained")


def hidden_gap() -> widgets.HiddenGap:
    return widgets.hidden_gap(*predictions(), title="gap")


def illusion(**changes) -> widgets.Illusion:
    logits, labels = predictions()
    rows = [(1.0, 20.0, 15.0, 25.0), (1e-3, 90.0, 85.0, 95.0), (1e3, 40.0, 35.0, 45.0)]
    curve = pd.DataFrame(rows, columns=["T_d", "mean", "low", "high"])
    options = {"clean": 95.0, "attack": "PGD", "class_names": CLASSES, "title": "illusion", "picture": images()[0]}
    return widgets.illusion(logits[0], labels[0], curve, **options | changes)


MADE = {
    maker.__name__: maker
    for maker in (
        temperature_lab,
        temperature_lab_of_texts,
        loss_landscape,
        image_replay,
        text_replay,
        pierce,
        training_temperature,
        hidden_gap,
        illusion,
    )
}
