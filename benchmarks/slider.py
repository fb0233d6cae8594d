"""Milliseconds that a move of a notebook's widget takes in the kernel, against the target of 50 (median) and 100 (p95).

    python benchmarks/slider.py [--profile quick] [--out results/benchmarks] [--threads 1 2]

Every widget, with the profile's image model; texts, records and a sentence of 30 words are random, since drawing them
costs the same. A move is an assignment to the first control: drawing and the picture as PNG; not the way to the
browser. Prints a table, writes slider.csv.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from image_attacks import Row, measure_all, options, report

from robustlib.attacks.diagnostics import input_jacobian
from robustlib.attacks.landscape import weight_landscape
from robustlib.attacks.words.queries import QueryCache
from robustlib.attacks.words.recipes import deepwordbug
from robustlib.course import plots, widgets
from robustlib.data.folders import results_dir
from robustlib.data.progress import progress
from robustlib.models.forward import logits_of
from robustlib.study.images import ImageStudy, image_study
from robustlib.study.records import COLUMNS, RecordBook

MEDIAN_TARGET, P95_TARGET = 50.0, 100.0
WARM_UP = 3


def temperature_lab(study: ImageStudy) -> Any:
    """Notebook 01: six panels, ten classes, pictures and gradients of eight examples."""
    book = RecordBook("slider", profile="smoke", seed=0, modality="image")
    for temperature in progress(np.logspace(-4, 4, 17), description="PGD as served"):
        study.measure(book, "pgd", design_temperature=float(temperature))
    _, jacobian = input_jacobian(study.model, study.images[:8])
    return widgets.temperature_lab_widget(
        widgets.temperature_lab_data(
            logits_of(study.model, study.images),
            study.labels.cpu(),
            class_names=study.class_names,
            chosen=range(8),
            records=book.frame,
            title=study.title,
            pictures=study.images[:8],
            jacobian=jacobian.cpu(),
        )
    )


def temperature_lab_of_texts(study: ImageStudy) -> Any:
    """Notebook 05: the lab with two classes and a sentence."""
    logits = 3 * torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    return widgets.temperature_lab_widget(
        widgets.temperature_lab_data(
            logits,
            logits.argmax(dim=1),
            class_names=("negative", "positive"),
            chosen=range(8),
            title="texts",
            records=pd.DataFrame(columns=COLUMNS),
            sentences=["not a bad film at all " * 5] * 8,
        )
    )


def loss_landscape(study: ImageStudy) -> Any:
    """Notebook 03: contours, surface and path."""
    settings, n = study.settings, study.settings.weight_landscape_images
    weights = weight_landscape(study.model, study.images[:n], study.labels[:n], side=settings.weight_landscape_side)
    return widgets.loss_landscape_widget(
        widgets.loss_landscape_data(
            study.model,
            study.images[:1],
            study.labels[:1],
            epsilon=settings.epsilon_linf,
            side=settings.landscape_side,
            steps=settings.pgd_steps,
            title=study.title,
            weights=weights,
        )
    )


def image_replay(study: ImageStudy) -> Any:
    """Notebook 02: PGD step by step, twice."""
    replay = widgets.image_replay_data(
        study.model,
        study.images[:1],
        study.labels[:1],
        epsilon=study.settings.epsilon_linf,
        steps=study.settings.pgd_steps,
        class_names=study.class_names,
        title=study.title,
    )
    return widgets.image_replay_widget(replay, temperatures=(1.0, 0.1))


def text_replay(study: ImageStudy) -> Any:
    """Notebook 06: a word search, twice."""

    def victim(texts: Sequence[str]) -> torch.Tensor:
        good = torch.tensor([[float(text.split().count("good"))] for text in texts])
        return torch.cat([-good, good], dim=1)

    replay = widgets.text_replay_data(
        QueryCache(victim),
        " ".join(["a good film and a good actor"] * 4),
        torch.tensor([1]),
        recipe=deepwordbug(),
        title="texts",
    )
    return widgets.text_replay_widget(replay, temperatures=(1.0, 0.1))


def pierce_it_yourself(study: ImageStudy) -> Any:
    """Notebook 04: the slider of the game."""
    temperatures = np.logspace(-4, 4, 17)
    answers = dict(zip(temperatures, np.linspace(0.9, 0.1, 17), strict=True))
    data = widgets.pierce_data(answers, logits_of(study.model, study.images), study.labels.cpu(), title=study.title)
    return widgets.pierce_widget(data)


def training_temperature(study: ImageStudy) -> Any:
    """Notebook 09: four panels of records."""
    settings = (("accuracy", "clean"), ("accuracy", "pgd"), ("logit_range", "clean"), ("margin", "clean"))
    rows = [
        {
            "training_temperature": float(t),
            "metric": metric,
            "attack": attack,
            "adversary": "none",
            "mean": 10 + t,
            "low": 9 + t,
            "high": 11 + t,
        }
        for t in np.logspace(-1, 2, 7)
        for metric, attack in settings
    ]
    return widgets.training_temperature_widget(pd.DataFrame(rows, columns=COLUMNS))


WIDGETS: dict[str, Callable[[ImageStudy], Any]] = {
    "temperature lab": temperature_lab,
    "temperature lab, texts": temperature_lab_of_texts,
    "loss landscape": loss_landscape,
    "attack replay, image": image_replay,
    "attack replay, text": text_replay,
    "pierce it yourself": pierce_it_yourself,
    "training temperature": training_temperature,
}


def moves(study: ImageStudy, n_moves: int) -> list[Row]:
    """Median and 95th percentile over the moves of each widget."""
    rows = []
    for name, build in WIDGETS.items():
        box = build(study)
        control, picture = box.children[0].children[0], box.children[-2]
        values = [value for _, value in control.options]
        milliseconds, busy, pictures = [], [], set()
        for value in itertools.islice(_far_apart(values), WARM_UP + n_moves):
            began, idle = time.perf_counter(), time.process_time()
            control.value = value
            milliseconds.append(1000 * (time.perf_counter() - began))
            busy.append(1000 * (time.process_time() - idle))
            pictures.add(picture.value)
        if n_moves > 1 and len(pictures) < 2:
            raise RuntimeError(f"{name}: the moves did not change the picture")
        for what, times, share, target in (
            ("median", milliseconds, 50, MEDIAN_TARGET),
            ("p95", milliseconds, 95, P95_TARGET),
            # what the move costs where nothing else runs: the one to compare between busy machines
            ("median of CPU time", busy, 50, MEDIAN_TARGET),
        ):
            counted = times[WARM_UP:]
            value = float(np.percentile(counted, share))
            rows.append(
                {
                    "name": f"{name}: {what}",
                    "value": value,
                    "unit": "ms",
                    "reference": f"target {target:g} ms",
                    "ratio": value / target,
                    "low": min(counted),
                    "high": max(counted),
                    "n": n_moves,
                    "repeats": n_moves,
                }
            )
    return rows


def _far_apart(values: Sequence[Any]) -> Any:
    """The values for ever, in long steps that visit the whole range; never the same twice in a row."""
    step = next(step for step in (7, 5, 3, 2, 1) if len(values) % step) if len(values) > 2 else 1
    return (values[step * index % len(values)] for index in itertools.count(1))


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = options(__doc__.split("\n")[0], 40, "moves of each widget").parse_args(arguments)
    plots.use_style()
    rows = measure_all((moves,), image_study(chosen.profile), chosen.profile, chosen.threads, chosen.repeats)
    report(rows, (chosen.out or results_dir("benchmarks")) / "slider.csv")


if __name__ == "__main__":
    main()
