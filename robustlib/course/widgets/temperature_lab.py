"""Temperature lab: everything that one temperature changes about a classifier. Taught in: notebooks/01 and 05."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from robustlib.calibration.checks import check_predictions
from robustlib.calibration.metrics import reliability_bins, top_label
from robustlib.calibration.temperature import scale_logits
from robustlib.course import plots
from robustlib.course.widgets.slider import Slider, offered, packed, packed_pixels, positive, unpacked
from robustlib.course.words import plain


class TemperatureLab(Slider):
    """The lab; `example` is a position among the examples to choose from."""

    source = "temperature_lab"
    name = "Temperature lab"
    about = "One slider for T: probabilities, calibration, the float32 walls, and what an attack then reports."
    temperature = positive(1.0)
    example = offered(0, lambda stored: range(len(stored["examples"])))

    def figure(self) -> Figure:
        """Reliability at the present temperature, and what an attack reports there."""
        stored, (figure, (left, right)) = self.stored, plots.plt.subplots(1, 2, figsize=(11, 4))
        logits, labels = torch.tensor(unpacked(stored["logits"])).double(), torch.tensor(stored["labels"])
        confidence, correct = top_label(torch.softmax(scale_logits(logits, self.temperature), dim=1), labels)
        plots.plot_reliability(reliability_bins(confidence, correct), title=f"T = {self.temperature:.3g}", ax=left)
        attacks = stored["adversarial_accuracy"].items()
        points = [(attack, *point) for attack, points in attacks for point in points]
        rows = pd.DataFrame(points, columns=["attack", "T_d", "mean", "low", "high"])
        clean = 100 * float(correct.double().mean())
        plots.plot_curves(rows, x="T_d", by="attack", title="what an attack reports", reference=clean, ax=right)
        right.axvline(self.temperature, color="grey", lw=1)
        figure.suptitle(stored["title"], fontsize=11)
        return figure


def temperature_lab(
    logits: Tensor,
    labels: Tensor,
    *,
    class_names: Sequence[str],
    chosen: Sequence[int],
    records: pd.DataFrame,
    title: str,
    pictures: Tensor | None = None,
    jacobian: Tensor | None = None,
    sentences: Sequence[str] | None = None,
) -> TemperatureLab:
    """Gather what the lab draws from.

    Args:
        logits, labels: (n, n_classes) on the CPU, no temperature applied, and (n,).
        chosen: the k rows the reader may choose as the example.
        records: of which the naive adversary's accuracy is drawn, a curve for each attack.
        pictures, jacobian: of the chosen rows, (k, channels, height, width) and as `diagnostics.input_jacobian`.
        sentences: of the chosen rows, for text.

    TypeError, ValueError: a part does not fit the others, or there is too much to store.
    """
    logits, labels = check_predictions(logits, labels)
    rows = [int(row) for row in chosen]
    if not rows or not all(0 <= row < len(logits) for row in rows):
        raise ValueError(f"chosen must be rows of the {len(logits)} logits, at least one, got {rows}")
    if len(class_names) != logits.shape[1]:
        raise ValueError(f"class_names must be {logits.shape[1]} words, got {len(class_names)}")
    for name, part in (("pictures", pictures), ("jacobian", jacobian), ("sentences", sentences)):
        if part is not None and len(part) != len(rows):
            raise ValueError(f"{name} must be one for each of the {len(rows)} examples, got {len(part)}")
    attacked = (records.metric == "accuracy") & (records.adversary == "naive") & (records.attack != "clean")
    columns = ["design_temperature", "mean", "low", "high"]
    curves = {
        f"{plain(attack)}, naive attacker": part.sort_values("design_temperature")[columns].astype(float)
        for attack, part in records[attacked].groupby("attack", sort=False)
    }
    stored = {"title": title, "class_names": list(class_names), "logits": packed(logits), "labels": labels.tolist()}
    stored |= {"examples": rows, "sentences": None if sentences is None else list(sentences)}
    stored["adversarial_accuracy"] = {name: frame.to_numpy().tolist() for name, frame in curves.items()}
    stored["pictures"] = None if pictures is None else packed_pixels(pictures)
    stored["jacobian"] = None if jacobian is None else packed(jacobian)
    return TemperatureLab(stored)
