"""What T(x) = gap / kappa shows for every kappa, from stored logits. Taught in: notebooks/04."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from robustlib.calibration.checks import check_predictions
from robustlib.calibration.disguises import TemperaturePerInput
from robustlib.calibration.metrics import calibration_report
from robustlib.course import plots
from robustlib.course.widgets.slider import Slider, packed, positive, unpacked


class HiddenGap(Slider):
    """The gap that every input is shown with, in logits."""

    source = "hidden_gap"
    name = "The calibrated illusion"
    about = "Every input shown with the same gap: no prediction changes, and the answers say nothing but the label."
    kappa = positive(1.0)

    def figure(self) -> Figure:
        """The model's own gaps, and mean confidence and calibration error for every kappa."""
        logits, labels = torch.tensor(unpacked(self.stored["logits"])), torch.tensor(self.stored["labels"])
        figure, (left, right) = plots.plt.subplots(1, 2, figsize=(11, 3.8))
        top = logits.topk(2, dim=1).values
        left.hist((top[:, 0] - top[:, 1]).numpy(), bins=40, color=plots.COLOURS[5])
        left.axvline(self.kappa, color=plots.COLOURS[1], lw=3)
        left.set(xlabel="gap of the two largest logits", ylabel="inputs", title=f"line: kappa = {self.kappa:.3g}")
        rows = []
        for kappa in np.geomspace(0.05, 20, 27):
            report = calibration_report(TemperaturePerInput(float(kappa))(logits), labels)
            rows.append((kappa, 100 * report.mean_confidence, "mean confidence"))
            rows.append((kappa, 100 * report.expected_calibration_error, "expected calibration error"))
        labels = {"xlabel": "kappa (logits, log scale)", "ylabel": "percent", "title": self.stored["title"]}
        frame = pd.DataFrame(rows, columns=["kappa", "mean", "curve"])
        plots.plot_curves(frame, x="kappa", by="curve", marker="", reference=100 * report.accuracy, **labels, ax=right)
        return figure


def hidden_gap(logits: Tensor, labels: Tensor, *, title: str) -> HiddenGap:
    """The slider over logits (n, n_classes) on the CPU, no temperature applied, with labels (n,)."""
    logits, labels = check_predictions(logits, labels)
    return HiddenGap({"title": title, "logits": packed(logits), "labels": labels.tolist()})
