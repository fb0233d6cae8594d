"""Training temperature: margins, logit ranges and accuracies over the T of the training loss, from records alone.

Taught in: notebooks/09.
"""

from __future__ import annotations

import pandas as pd

from robustlib.course.widgets.slider import Slider, offered
from robustlib.course.words import plain

METRICS = ("accuracy", "logit_range", "margin")


class TrainingTemperature(Slider):
    """The sweep; `stored["series"]`, by panel and curve, are [mean, low, high] by temperature, None where missing."""

    source = "training_temperature"
    name = "Training temperature"
    about = "What the temperature of the training loss changes: accuracy, logit range and margin, from the records."
    temperature = offered(1.0, lambda stored: stored["temperatures"])


def training_temperature(
    frame: pd.DataFrame, *, title: str, start: float | None = None, of: str = ""
) -> TrainingTemperature:
    """Arrange records by panel and curve.

    Args:
        frame: records with metrics "accuracy" (percent), "logit_range" and "margin" (logits), one row a setting (see
            `robustlib.study.records.over_seeds`); other metrics are passed over.
        start: the training temperature to begin with; default the smallest.
        of: what it is about, such as "texts"; stands in the title, and in the name by which pages tell it from others.

    ValueError: there is no clean accuracy, or a setting has two rows.
    """
    rows = frame[frame["metric"].isin(METRICS)]
    if rows.duplicated(["training_temperature", "metric", "attack", "adversary"]).any():
        raise ValueError("two rows for one training temperature, metric, attack and adversary: pass over_seeds(frame)")
    temperatures = sorted(float(t) for t in rows["training_temperature"].unique())
    series: dict[str, dict[str, list]] = {metric: {} for metric in METRICS}
    for (metric, attack, adversary), part in rows.groupby(["metric", "attack", "adversary"], sort=False):
        name = attack if attack == "clean" else f"{plain(attack)}, {adversary}"
        curve = part.set_index("training_temperature")[["mean", "low", "high"]].astype(float).round(6)
        curve = curve.astype(object).where(curve.notna(), None)
        series[metric][name] = [curve.loc[t].tolist() if t in curve.index else None for t in temperatures]
    if "clean" not in series["accuracy"]:
        raise ValueError('the records hold no accuracy with attack "clean": the trade-off needs it')
    # First, so that the other curves have the same colours in both panels of accuracies.
    series["accuracy"] = {"clean": series["accuracy"].pop("clean"), **series["accuracy"]}
    stored = {"title": ": ".join(filter(None, (title, of))), "temperatures": temperatures, "series": series}
    slider = TrainingTemperature(stored, temperature=temperatures[0] if start is None else start)
    slider.name = ", ".join(filter(None, (slider.name, of)))
    return slider
