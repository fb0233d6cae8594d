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
        """Mean confidence and calibration error for every kappa."""
        logits, labels = torch.tensor(unpacked(self.stored["logits"])), torch.tensor(self.stored["labels"])
        kappas = np.geomspace(0.05, 20, 27).tolist()
        reports = [calibration_report(TemperaturePerInput(kappa)(logits), labels) for kappa in kappas]
        curves = {
            "mean confidence": [100 * report.mean_confidence for report in reports],
            "expected calibration error": [100 * report.expected_calibration_error for report in reports],
        }
        frame = pd.DataFrame({"kappa": kappas, **curves}).melt("kappa", value_name="mean")
        look = {"xlabel": "kappa (logits, log scale)", "ylabel": "percent", "marker": "", "title": self.stored["title"]}
        return plots.plot_curves(frame, x="kappa", by="variable", reference=100 * reports[0].accuracy, **look).figure


def hidden_gap(logits: Tensor, labels: Tensor, *, title: str) -> HiddenGap:
    """The slider over logits (n, n_classes) on the CPU, no temperature applied, with labels (n,)."""
    logits, labels = check_predictions(logits, labels)
    return HiddenGap({"title": title, "logits": packed(logits), "labels": labels.tolist()})
