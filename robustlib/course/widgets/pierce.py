"""Pierce it yourself: the learner is the adversary, against a hidden design temperature. Taught in: notebooks/04."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from robustlib.calibration.metrics import calibration_report
from robustlib.course import plots
from robustlib.course.widgets.slider import Slider, positive

LEAST_ILLUSION = 10.0  # points between the naive and the best attack: a model that hides less is no riddle
ROUNDS = 50


class Pierce(Slider):
    """The game: `temperature` is the learner's T_a, `asked` holds [T_a, accuracy in percent] of the attacks so far.

    `stored["hidden"]` has the design temperature of each round.
    """

    source = "pierce"
    name = "Pierce it yourself"
    about = "A model served at a hidden temperature, and five attacks: find what it is worth."
    temperature = positive(1.0)
    asked = traitlets.List().tag(sync=True, chosen=True)
    round = traitlets.Int(0).tag(sync=True, chosen=True)

    def figure(self) -> Figure:
        """Every answer: accuracy under attack, and confidence of the copy, by the product of both temperatures."""
        stored, product = self.stored, "T_d x T_a (log scale)"
        curves = {
            "images standing under attack": stored["accuracy"],
            "mean confidence of the copy": stored["confidence"],
        }
        frame = pd.concat(pd.DataFrame({"T": stored["temperatures"], "mean": v, "curve": k}) for k, v in curves.items())
        labels = {"xlabel": product, "ylabel": "percent", "title": stored["title"]}
        ax = plots.plot_curves(frame, x="T", by="curve", reference=stored["clean"], **labels)
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        return ax.figure


def pierce(
    accuracy: Mapping[float, float], logits: Tensor, labels: Tensor, *, title: str, seed: int = 0, budget: int = 5
) -> Pierce:
    """Gather the answers from stored evaluations and logits.

    Args:
        accuracy: adversarial accuracy (a fraction) of the naive attacker by design temperature, evenly spaced in log T.
        logits, labels: of the same examples, no temperature applied, (n, n_classes) and (n,).
        seed: of the hidden temperatures. budget: attacks in one round.

    ValueError: fewer than three temperatures, unevenly spaced, or no illusion to pierce.
    """
    temperatures = sorted(map(float, accuracy))
    steps = np.diff(np.log10(temperatures))
    if len(temperatures) < 3 or not np.allclose(steps, steps.mean(), atol=0.01):
        raise ValueError(f"accuracy needs at least 3 temperatures evenly spaced in log T, got {temperatures}")
    reports = [calibration_report(logits, labels, temperature=t) for t in temperatures]
    left = 100 * np.array([accuracy[t] for t in temperatures])
    hiding = np.array(temperatures)[left - left.min() >= LEAST_ILLUSION]
    if not len(hiding):
        raise ValueError(f"no temperature hides {LEAST_ILLUSION:g} points or more: there is no illusion to pierce here")
    hidden = np.random.default_rng(seed).choice(hiding, ROUNDS)
    stored = {"title": title, "temperatures": temperatures, "accuracy": left.round(4).tolist(), "budget": budget}
    stored["confidence"] = [round(100 * report.mean_confidence, 4) for report in reports]
    return Pierce(stored | {"clean": 100 * reports[0].accuracy, "hidden": hidden.tolist()})
