"""Milliseconds that a move of a notebook's slider takes in the kernel, against the target of 50 (median) and 100 (p95).

    python benchmarks/slider.py [--profile quick] [--out results/benchmarks] [--threads 1 2]

The figures are those of notebooks 00, 01 and 03, on the stored logits of the profile's model. A move is an assignment
to the slider: drawing, layout and the picture as PNG; not the way to the browser. Prints a table, writes slider.csv.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from image_attacks import Row, measure_all, options, report
from matplotlib.figure import Figure

from robustlib import plots
from robustlib.landscape import input_landscape
from robustlib.metrics import calibration_report, reliability_bins, top_label
from robustlib.models import logits_of
from robustlib.paths import results_dir
from robustlib.progress import progress
from robustlib.scores import CrossEntropy
from robustlib.study import ImageStudy, image_study
from robustlib.widgets import figure_slider

MEDIAN_TARGET, P95_TARGET = 50.0, 100.0

Slider = tuple[Callable[[Figure, Any], None], list[float], tuple[float, float]]


def temperature_curve(study: ImageStudy) -> Slider:
    """The slider of notebook 00: where on the curve the served model is, and the probabilities seen there."""
    temperatures = [float(t) for t in np.logspace(-4, 4, 17)]
    logits, clean = logits_of(study.model, study.images), study.run("pgd").clean_correct
    curve = pd.DataFrame(
        {"T": t, "adversarial accuracy": 100 * study.run("pgd", design_temperature=t).adversarial_accuracy,
         "series": "PGD, naive attacker"} for t in progress(temperatures, description="curve")
    )  # fmt: skip
    labelled = {"xlabel": "design temperature T_d (log scale)", "ylabel": "adversarial accuracy (%)",
                "title": "same predictions, other 'robustness'"}  # fmt: skip

    def draw(figure: Figure, temperature: float) -> None:
        left, right = figure.subplots(1, 2)
        plots.plot_curves(curve, x="T", y="adversarial accuracy", by="series", reference=100 * clean.mean(), ax=left,
                          **labelled)  # fmt: skip
        here = curve.iloc[(np.log(curve["T"]) - np.log(temperature)).abs().argmin()]
        left.plot(here["T"], here["adversarial accuracy"], "o", ms=14, mfc="none", mec="black", mew=2)
        probs = torch.softmax(logits[0].double() / temperature, dim=0).numpy()
        plots.plot_probabilities(
            probs, study.class_names, int(study.labels[0]), title=f"T_d = {temperature:.3g}", ax=right
        )

    return draw, temperatures, (10, 3.8)


def reliability(study: ImageStudy) -> Slider:
    """The slider of notebook 01: reliability diagram and histogram of confidences."""
    logits, labels = logits_of(study.model, study.images), study.labels.cpu()

    def draw(figure: Figure, temperature: float) -> None:
        left, right = figure.subplots(1, 2)
        confidence, correct = top_label(torch.softmax(logits.double() / temperature, dim=1), labels)
        error = calibration_report(logits, labels, temperature=temperature).expected_calibration_error
        title = f"T = {temperature:.3g}, ECE = {100 * error:.1f} %, n = {len(labels)}"
        plots.plot_reliability(reliability_bins(confidence, correct), title=title, ax=left)
        right.hist(confidence.numpy(), bins=np.linspace(0, 1, 31), color=plots.COLOURS[0])
        right.set(xlabel="confidence (largest probability)", ylabel="number of images", title="where the model is sure")

    return draw, [float(t) for t in np.logspace(-2, 2, 41)], (10, 4.3)


def landscape(study: ImageStudy) -> Slider:
    """The slider of notebook 03: the loss around one image, and along the line to the attack."""
    side = study.settings.landscape_side
    land = input_landscape(study.model, study.images[:1], study.labels[:1], epsilon=study.settings.epsilon_linf,
                           side=side)  # fmt: skip
    labelled = {"xlabel": f"{land.first} (units of epsilon)", "ylabel": "random direction (epsilon)"}

    def draw(figure: Figure, temperature: float) -> None:
        left, right = figure.subplots(1, 2)
        surface = land.surface(CrossEntropy(temperature))
        plots.plot_landscape(surface, land.coordinates, title=f"cross-entropy, T = {temperature:.3g}",
                             unit="loss (nats)", ax=left, **labelled)  # fmt: skip
        right.plot(land.coordinates, surface[:, side // 2], color=plots.COLOURS[0])
        right.set(xlabel="towards the attack (epsilon)", ylabel="loss (nats)", title="along the line to the attack")

    return draw, [float(t) for t in np.logspace(-3, 4, 57)], (10, 4)


SLIDERS: dict[str, Callable[[ImageStudy], Slider]] = {
    "notebook 00, temperature curve": temperature_curve,
    "notebook 01, reliability diagram": reliability,
    "notebook 03, landscape": landscape,
}


def moves(study: ImageStudy, n_moves: int) -> list[Row]:
    """Median and 95th percentile over the moves of each slider; three moves warm up."""
    rows = []
    for name, build in SLIDERS.items():
        draw, values, size = build(study)
        box = figure_slider(draw, values, description="T", start=values[-1], size=size)
        slider, picture = box.children
        milliseconds, busy = [], []
        for index in range(-3, n_moves):
            before, began, idle = picture.value, time.perf_counter(), time.process_time()
            slider.value = values[7 * index % len(values)]  # steps of 7, so that 40 moves visit the whole range
            milliseconds.append(1000 * (time.perf_counter() - began))
            busy.append(1000 * (time.process_time() - idle))
            if picture.value == before:
                raise RuntimeError(f"{name}: the move to {slider.value:g} did not change the picture")
        for what, times, share, target in (
            ("median", milliseconds, 50, MEDIAN_TARGET),
            ("p95", milliseconds, 95, P95_TARGET),
            # what the move costs where nothing else runs: the one to compare between busy machines
            ("median of CPU time", busy, 50, MEDIAN_TARGET),
        ):
            value = float(np.percentile(times[3:], share))
            rows.append({"name": f"{name}: {what}", "value": value, "unit": "ms", "reference": f"target {target:g} ms",
                         "ratio": value / target, "low": min(times[3:]), "high": max(times[3:]), "n": n_moves,
                         "repeats": n_moves})  # fmt: skip
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = options(__doc__.split("\n")[0], 40, "moves of each slider").parse_args(arguments)
    plots.use_style()
    rows = measure_all((moves,), image_study(chosen.profile), chosen.profile, chosen.threads, chosen.repeats)
    report(rows, (chosen.out or results_dir("benchmarks")) / "slider.csv")


if __name__ == "__main__":
    main()
