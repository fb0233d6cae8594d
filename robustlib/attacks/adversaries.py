"""The evaluation protocol (paper, section 3.4): search on a re-scaled copy, score on the model as served.

One protocol for images and text: a model gives logits for inputs, an attack searches with a score, an adversary
decides which score. Taught in: notebooks/04.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from robustlib.attacks.black_box import Counted, blend, read_gaps, splice, walk
from robustlib.attacks.result import AttackResult
from robustlib.attacks.scores import DLR, MIFPE, CrossEntropy, Margin, Score
from robustlib.attacks.statistics import PairedDifference, paired_difference, proportion_interval
from robustlib.calibration.checks import check_labels
from robustlib.calibration.disguises import Disguised
from robustlib.calibration.fit import (
    TemperatureFit,
    fit_platt,
    fit_readings,
    fit_temperature,
    fit_temperature_descent,
    typical_gap,
)
from robustlib.calibration.search import TemperatureSearch, search_log, search_paper
from robustlib.models.forward import logits_of

CALIBRATED_GAP = 4.0  # of the two largest logits: about what a calibrated model of some 90 % accuracy shows; ours


@dataclass(frozen=True)
class Attack:
    """An attack with its budget fixed, as the protocol uses it."""

    name: str
    run: Callable[..., AttackResult]  # `run(model, inputs, labels, score=score) -> AttackResult`
    at_temperature: Callable[[float], Score] = CrossEntropy  # the score this attack searches with at a temperature
    # the score that no constant temperature touches; None where the attack has a loss of its own
    scale_free: Score | None = Margin()
    # what is run where another model is searched than the one that judges; default `run`. An attack that stops as soon
    # as the searched model is fooled stops at the wrong model's boundary
    on_surrogate: Callable[..., AttackResult] | None = None
    # other searches with the same changes, by the name of the adversary that makes them ("ties", ...)
    searches: Mapping[str, Callable[..., AttackResult]] = field(default_factory=dict)
    # the ball it stays in, "linf" or "l2" in pixel units; "" and None for attacks on texts
    norm: str = ""
    epsilon: float | None = None


@dataclass(frozen=True)
class Adversary:
    """How an adversary searches: with which score, and on which model (None: the served one)."""

    name: str
    score: Score
    temperature: float = math.nan  # T_a, relative to the logits as served; NaN where none is used
    status: str = "ok"  # of the fit or the search ("ok", "separable", "bracket refused", ...)
    surrogate: Any = None
    # the score of a second search, of the served model, from where the surrogate led (a warm start)
    then: Score | None = None
    # what is run instead of the attack's own search; default that of the attack
    search: Callable[..., AttackResult] | None = None


@dataclass(frozen=True)
class Evaluation:
    """Adversarial accuracy of a served model, with everything needed to compare it in pairs."""

    attack: str
    adversary: str
    # (n,) whether the served model is right after the attack, and on the inputs
    correct: np.ndarray
    clean_correct: np.ndarray
    temperature: float
    status: str
    n_forward: int
    n_backward: int
    queries: np.ndarray | None = None  # (n,) model queries spent on each example, where the attack counts them
    changed: np.ndarray | None = None  # (n,) share of each text's words that an attack on texts changed

    @property
    def adversarial_accuracy(self) -> float:
        """Share of all examples that stand: right when clean and right after the attack (0 to 1)."""
        return float(self.correct.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the adversarial accuracy."""
        return proportion_interval(int(self.correct.sum()), len(self.correct))

    def minus(self, other: Evaluation) -> PairedDifference:
        return paired_difference(other.correct, self.correct)


def plan_adversary(
    name: str, served: Any, attack: Attack, inputs: Any, labels: Tensor, *, n_search: int = 100
) -> Adversary:
    """Let an adversary prepare on validation data: fit or search its temperature, or choose a scale-free score.

    Args:
        name: one of `ADVERSARIES`.
        inputs, labels: validation examples; a search over temperatures uses the first `n_search`.

    Raises:
        ValueError: unknown adversary, or a scale-free one for an attack with a loss of its own.
    """
    if name not in ADVERSARIES:
        raise ValueError(f"unknown adversary {name!r}: choose one of {', '.join(ADVERSARIES)}")
    labels = check_labels(labels, len(inputs))
    return ADVERSARIES[name](name, _Knowledge(served, attack, inputs, labels, n_search))


def calibrated(
    name: str, served: Any, attack: Attack, inputs: Any, labels: Tensor, *, fit: Callable[[Tensor, Tensor], Any]
) -> Adversary:
    """An adversary that searches on the served model behind a calibrator, fitted on validation data (claim C13).

    `fit`: (logits, labels) to a calibrator with differentiable `.logits(logits)`, such as `fit_platt`.
    """
    labels = check_labels(labels, len(inputs)).cpu()
    return transfer(name, Disguised(served, fit(logits_of(served, inputs), labels).logits), attack)


def transfer(name: str, model: Callable, attack: Attack) -> Adversary:
    """An adversary that searches on another model and has the served one judge."""
    return Adversary(name, attack.at_temperature(1.0), surrogate=model)


def blind(attack: Attack, evaluation: Evaluation) -> Adversary:
    """The control of an adversary that changes many words: as many in each text, at random, and nobody is asked."""
    search = partial(attack.searches["blind"], shares=evaluation.changed)
    return Adversary(f"blind:{evaluation.adversary}", attack.at_temperature(1.0), search=search)


def averaging(attack: Attack, k: int) -> Adversary:
    """An adversary that asks for each input k times and searches with the scale-free score of the mean logits."""

    def search(model: Callable, inputs: Any, labels: Tensor, *, score: Score) -> AttackResult:
        return attack.run(lambda batch: sum(model(batch) for _ in range(k)) / k, inputs, labels, score=score)

    return Adversary(f"margin of {k} queries", attack.scale_free, search=search)


def warm(name: str, model: Callable, attack: Attack, *, score: Score | None = None) -> Adversary:
    """An adversary that goes on where `transfer` led, searching the served model with `score`, else a scale-free one.

    What the served model does not show near an input (behind a floor, or after rounding) it may show nearer to the
    boundary, and another model shows the way there. For attacks on images only.
    """
    return replace(transfer(name, model, attack), then=score or attack.scale_free)


def cal_readings(served: Any, attack: Attack, inputs: Any, labels: Tensor) -> dict[str, Adversary]:
    """The adversary `cal` under twelve readings of equation 8, by name: "cal:sum-sgd-T", "cal:mean-adam-log T", ...

    A reading whose T_a is within 1 % of an earlier one takes that T_a, so that the two need only one attack.
    """
    labels = check_labels(labels, len(inputs)).cpu()
    logits, readings = logits_of(served, inputs), {}
    for (reduction, optimiser, parameter), fit in fit_readings(logits, labels).items():
        alike = (a.temperature for a in readings.values() if abs(math.log(fit.temperature / a.temperature)) <= 0.01)
        temperature = next(alike, fit.temperature)
        name = f"cal:{reduction}-{optimiser}-{parameter}"
        readings[name] = Adversary(name, attack.at_temperature(temperature), temperature, fit.status)
    return readings


def evaluate(served: Any, attack: Attack, adversary: Adversary, inputs: Any, labels: Tensor) -> Evaluation:
    """Search as the adversary does, then judge the result by the model as served, its design temperature included.

    `inputs`: (n, ...) images or n texts; `labels`: (n,).
    """
    labels = check_labels(labels, len(inputs))
    if adversary.surrogate is None:
        result = (adversary.search or attack.run)(served, inputs, labels, score=adversary.score)
    else:
        result = (attack.on_surrogate or attack.run)(adversary.surrogate, inputs, labels, score=adversary.score)
    if adversary.then is not None:
        second = attack.run(served, inputs, labels, score=adversary.then, start=result.adversarial)
        passes = {name: getattr(result, name) + getattr(second, name) for name in ("n_forward", "n_backward")}
        result = replace(second, **passes)
    truth = labels.cpu()
    clean = (logits_of(served, inputs).argmax(dim=1) == truth).numpy()
    after = (logits_of(served, result.adversarial).argmax(dim=1) == truth).numpy()
    # A memory of answers saves passes, not queries, and an evaluation must not depend on what came before it.
    n_forward = result.n_forward if result.queries is None else int(result.queries.sum())
    search = (adversary.temperature, adversary.status, n_forward, result.n_backward, result.queries)
    changed = result.details.get("changed")
    return Evaluation(attack.name, adversary.name, clean & after, clean, *search, changed=changed)


@dataclass(frozen=True)
class _Knowledge:
    served: Any
    attack: Attack
    inputs: Any
    labels: Tensor
    n_search: int


def _as_served(name: str, known: _Knowledge) -> Adversary:
    return Adversary(name, known.attack.at_temperature(1.0), 1.0)


def _scale_free(name: str, known: _Knowledge, *, score: Score | None = None) -> Adversary:
    if known.attack.scale_free is None:
        raise ValueError(f"attack {known.attack.name!r} searches with a loss of its own: it has no scale-free score")
    return Adversary(name, score or known.attack.scale_free)


def _another_search(name: str, known: _Knowledge) -> Adversary:
    if name not in known.attack.searches:
        raise ValueError(f"attack {known.attack.name!r} has no search for the adversary {name!r}")
    return Adversary(name, known.attack.at_temperature(1.0), search=known.attack.searches[name])


def _fitted(name: str, known: _Knowledge, *, fit: Callable[[Tensor, Tensor], TemperatureFit]) -> Adversary:
    temperature, status = _usable(name, fit(logits_of(known.served, known.inputs), known.labels.cpu()), known)
    return Adversary(name, known.attack.at_temperature(temperature), temperature, status)


def _usable(name: str, fit: TemperatureFit, known: _Knowledge) -> tuple[float, str]:
    if 0 < fit.temperature < math.inf:
        return fit.temperature, fit.status
    reason = "the model makes no error" if fit.status == "separable" else "no temperature beats guessing"
    warnings.warn(
        f"{name!r} finds no temperature on these {len(known.labels)} validation examples ({fit.status}: {reason}) and "
        "attacks the model as served: give it more examples, which the model was not trained on, or use 'margin'",
        stacklevel=4,
    )
    return 1.0, fit.status


def _searched(name: str, known: _Knowledge, *, search: Callable[..., TemperatureSearch]) -> Adversary:
    attack, inputs, labels = known.attack, known.inputs[: known.n_search], known.labels[: known.n_search]

    def adversarial_accuracy(temperature: float) -> float:
        score = attack.at_temperature(temperature)
        return attack.run(known.served, inputs, labels, score=score).adversarial_accuracy

    best = search(adversarial_accuracy, logits_of(known.served, inputs))
    return Adversary(name, attack.at_temperature(best.temperature), best.temperature, best.status)


def _estimated(name: str, known: _Knowledge) -> Adversary:
    """T_a at which a typical input has a gap of `CALIBRATED_GAP`, from the first `n_search` answers and no label."""
    service, inputs = Counted(known.served), known.inputs[: known.n_search]
    estimate, how = read_gaps(service, inputs), "read"
    if math.isnan(estimate.gap):
        images = isinstance(inputs, Tensor)
        ends = inputs.roll(1, dims=0) if images else [*inputs[1:], *inputs[:1]]
        mix, halvings = (blend, 24) if images else (splice, 6)
        estimate, how = walk(service, inputs, ends, mix, halvings), "walked"
    if math.isnan(estimate.gap):
        return Adversary(name, known.attack.at_temperature(1.0), 1.0, f"not readable, {service.n_queries} queries")
    temperature = estimate.gap / CALIBRATED_GAP
    status = f"{how}, {service.n_queries} queries"
    return Adversary(name, known.attack.at_temperature(temperature), temperature, status)


def _behind(name: str, known: _Knowledge, *, fit: Callable[[Tensor, Tensor], Any]) -> Adversary:
    return calibrated(name, known.served, known.attack, known.inputs, known.labels, fit=fit)


ADVERSARIES: dict[str, Callable[[str, _Knowledge], Adversary]] = {
    "naive": _as_served,  # the paper's "out of the box"
    "cal": partial(_fitted, fit=fit_temperature_descent),  # equation 8 as printed
    "cal-mean": partial(_fitted, fit=partial(fit_temperature_descent, reduction="mean")),
    "cal-exact": partial(_fitted, fit=fit_temperature),  # the same objective, solved
    "opt-paper": partial(_searched, search=lambda objective, logits: search_paper(objective)),  # appendix G.1
    # Equation 10 in log T, centred on the typical logit gap: the same few decades whatever scale is served.
    "opt": partial(_searched, search=lambda objective, logits: search_log(objective, typical_gap(logits) or 1.0)),
    "estimated": _estimated,  # from answers alone
    "margin": _scale_free,
    "dlr": partial(_scale_free, score=DLR()),
    "mifpe": partial(_scale_free, score=MIFPE()),
    "t-mifpe": partial(_scale_free, score=MIFPE(gap=None)),
    "ties": _another_search,  # attacks on texts: as served, but a candidate that ties is taken
    "label-only": _another_search,
    "platt": partial(_behind, fit=partial(fit_platt, solver="descent")),
    "platt-exact": partial(_behind, fit=fit_platt),
}
