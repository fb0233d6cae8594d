"""The evaluation protocol (paper, section 3.4): search on a re-scaled copy, score on the model as served.

One protocol for images and text: a model gives logits for inputs, an attack searches with a score, an adversary
decides which score. Taught in: notebooks/04.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from robustlib.attacks.result import AttackResult
from robustlib.attacks.scores import DLR, CrossEntropy, Margin, Score
from robustlib.attacks.statistics import PairedDifference, paired_difference, proportion_interval
from robustlib.calibration.fit import TemperatureFit, fit_temperature, fit_temperature_descent, typical_gap
from robustlib.calibration.search import search_log, search_paper
from robustlib.models.forward import logits_of

ADVERSARIES = ("none", "cal", "cal-mean", "cal-exact", "opt-paper", "opt", "margin", "dlr")


_CALIBRATIONS: dict[str, Callable[..., TemperatureFit]] = {
    "cal": fit_temperature_descent,
    "cal-mean": partial(fit_temperature_descent, reduction="mean"),
    "cal-exact": fit_temperature,
}


@dataclass(frozen=True)
class Attack:
    """An attack with its budget fixed, as the protocol uses it.

    Attributes:
        name: as in records: "pgd", "cw", "dg", ...
        run: `run(model, inputs, labels, score=score) -> AttackResult`.
        at_temperature: the score this attack searches with at a temperature.
        scale_free: the score that no temperature touches; None where the attack has a loss of its own.
        on_surrogate: what is run where another model is searched than the one that judges; default `run`. An
            attack that stops as soon as the searched model is fooled stops at the wrong model's boundary.
    """

    name: str
    run: Callable[..., AttackResult]
    at_temperature: Callable[[float], Score] = CrossEntropy
    scale_free: Score | None = Margin()
    on_surrogate: Callable[..., AttackResult] | None = None


@dataclass(frozen=True)
class Adversary:
    """How an adversary searches: with which score, and on which model (None: the served one).

    `temperature` is T_a, relative to the logits as served; NaN where none is used.
    `status` says how it was found ("ok", "separable", "bracket refused", ...).
    """

    name: str
    score: Score
    temperature: float = math.nan
    status: str = "ok"
    surrogate: Any = None


@dataclass(frozen=True)
class Evaluation:
    """Adversarial accuracy of a served model, with everything needed to compare it in pairs.

    Attributes:
        correct: (n,) whether the served model is right on what the attack returned.
        clean_correct: (n,) whether it is right on the inputs.
        queries: (n,) model queries spent on each example, where the attack counts them.
    """

    attack: str
    adversary: str
    correct: np.ndarray
    clean_correct: np.ndarray
    temperature: float
    status: str
    n_forward: int
    n_backward: int
    queries: np.ndarray | None = None

    @property
    def adversarial_accuracy(self) -> float:
        """Share of all examples that stand: right when clean and right after the attack (0 to 1)."""
        return float(self.correct.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the adversarial accuracy."""
        return proportion_interval(int(self.correct.sum()), len(self.correct))

    def minus(self, other: Evaluation) -> PairedDifference:
        """Adversarial accuracy here minus there, on the same examples, with a 95 % interval.

        Raises:
            ValueError: the two were not measured on equally many examples.
        """
        return paired_difference(other.correct, self.correct)


def plan_adversary(
    name: str,
    served: Any,
    attack: Attack,
    inputs: Any,
    labels: Tensor,
    *,
    n_search: int = 100,
    search: Attack | None = None,
) -> Adversary:
    """Let an adversary prepare on validation data: fit or search its temperature, or choose a scale-free score.

    Args:
        name: "none" (paper: out of the box), "cal" (gradient descent on T, equation 8 as printed), "cal-mean" (the
            same on the mean instead of the sum), "cal-exact" (the same objective solved), "opt-paper" (appendix
            G.1), "opt" (equation 10 in log T) "margin" or "dlr" (scale-free).
        served: the model as served; the adversary sees its logits.
        attack: the attack that will be run.
        inputs, labels: validation examples, n of them; `cal` uses all, `opt` the first `n_search`.
        search: the attack `opt` runs at each temperature it tries; default `attack` (the paper uses dg for all).

    Raises:
        ValueError: unknown adversary, or a scale-free one for an attack with a loss of its own.
    """
    if name == "none":
        return Adversary(name, attack.at_temperature(1.0), 1.0)
    if name in ("margin", "dlr"):
        if attack.scale_free is None:
            raise ValueError(f"attack {attack.name!r} searches with a loss of its own: it has no scale-free score")
        return Adversary(name, attack.scale_free if name == "margin" else DLR())
    if name in _CALIBRATIONS:
        fit = _CALIBRATIONS[name](logits_of(served, inputs), labels.cpu())
        usable = math.isfinite(fit.temperature) and fit.temperature > 0
        temperature = fit.temperature if usable else 1.0  # no optimum: the status says so and we stay as served
        return Adversary(name, attack.at_temperature(temperature), temperature, fit.status)
    if name in ("opt", "opt-paper"):
        found = _search_temperature(name, served, search or attack, inputs[:n_search], labels[:n_search])
        return Adversary(name, attack.at_temperature(found.temperature), found.temperature, found.status)
    raise ValueError(f"unknown adversary {name!r}: choose one of {', '.join(ADVERSARIES)}")


def _search_temperature(name: str, served: Any, attack: Attack, inputs: Any, labels: Tensor):
    def adversarial_accuracy(temperature: float) -> float:
        result = attack.run(served, inputs, labels, score=attack.at_temperature(temperature))
        return result.adversarial_accuracy

    if name == "opt-paper":
        return search_paper(adversarial_accuracy)
    # Centred on the typical logit gap, so that the same few decades are searched whatever scale is served.
    return search_log(adversarial_accuracy, centre=typical_gap(logits_of(served, inputs)) or 1.0)


def evaluate(served: Any, attack: Attack, adversary: Adversary, inputs: Any, labels: Tensor) -> Evaluation:
    """Search as the adversary does, then score what it found on the model as served.

    Args:
        served: model giving logits (n, n_classes) of inputs, its design temperature included.
        inputs: (n, ...) images or n texts. labels: (n,).
    """
    if adversary.surrogate is None:
        result = attack.run(served, inputs, labels, score=adversary.score)
    else:
        result = (attack.on_surrogate or attack.run)(adversary.surrogate, inputs, labels, score=adversary.score)
    truth = labels.cpu().numpy()
    clean = logits_of(served, inputs).argmax(dim=1).numpy() == truth
    after = logits_of(served, result.adversarial).argmax(dim=1).numpy() == truth
    return Evaluation(
        attack.name,
        adversary.name,
        clean & after,
        clean,
        adversary.temperature,
        adversary.status,
        result.n_forward,
        result.n_backward,
        result.queries,
    )
