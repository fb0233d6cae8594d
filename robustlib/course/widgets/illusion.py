"""The whole idea at once: one example, the temperature it is served at, and what an attack reports.

Taught in: notebooks/00.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from robustlib.course import plots
from robustlib.course.widgets.slider import Slider, packed, packed_pixels, positive


class Illusion(Slider):
    """The defender's T_d is `temperature`, the attacker's T_a `adversary_temperature`."""

    source = "illusion"
    name = "The illusion in one figure"
    about = "Serve a model at any temperature, attack it, divide the temperature out again."
    temperature = positive(1e-3)
    adversary_temperature = positive(1.0)

    def figure(self) -> Figure:
        """The curve of the attack, the present temperature marked."""
        frame = pd.DataFrame(self.stored["curve"], columns=["T_d", "mean", "low", "high"])
        frame = frame.assign(series=f"{self.stored['attack']}, naive attacker")
        ax = plots.plot_curves(frame, x="T_d", by="series", title=self.stored["title"], reference=self.stored["clean"])
        ax.axvline(self.temperature, color="grey", lw=1)
        return ax.figure


def illusion(
    logits: Tensor,
    label: int,
    curve: pd.DataFrame,
    *,
    clean: float,
    attack: str,
    class_names: Sequence[str],
    title: str,
    picture: Tensor | None = None,
    sentence: str | None = None,
) -> Illusion:
    """Gather what the slider draws from.

    Args:
        logits, label: of the one example, (n_classes,), no temperature applied.
        curve: columns `T_d`, `mean`, `low`, `high` (percent): the naive attack as served. clean: percent.
        picture, sentence: what the example looks like, (channels, height, width) in [0, 1], or its text.

    Raises:
        ValueError: neither picture nor sentence.
    """
    if (picture is None) == (sentence is None):
        raise ValueError("an example is a picture or a sentence: pass one of the two")
    points = curve.sort_values("T_d")[["T_d", "mean", "low", "high"]].astype(float)
    stored = {"title": title, "logits": packed(logits), "label": int(label), "class_names": list(class_names)}
    stored |= {"attack": attack, "clean": clean, "curve": points.to_numpy().tolist(), "sentence": sentence}
    stored["picture"] = None if picture is None else packed_pixels(picture[None])
    stored["unit"] = "images" if sentence is None else "texts"
    return Illusion(stored)
