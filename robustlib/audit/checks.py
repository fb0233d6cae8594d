"""Stage by stage, what can be seen before any attack: answers, labels, randomness, scale. `gradients` has the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from robustlib.attacks.diagnostics import GRADIENT_WALL, PROBABILITY_WALL, masking
from robustlib.audit.findings import Finding, plain
from robustlib.audit.served import Served, as_logits, predicted, tensor_in
from robustlib.calibration.checks import looks_like_probabilities
from robustlib.calibration.fit import TemperatureFit, fit_temperature, typical_gap
from robustlib.calibration.metrics import calibration_report, smooth_calibration_error, top_label
from robustlib.models.forward import evaluating

# Thresholds; what honest models show is in benchmarks/audit.md.
RELABELLING = 0.10  # gain of the best label map, on examples that it was not made from
NOISE = 1e-3  # of the span of the answers, between calls
BATCH_NOISE = 0.02  # the same between a batch and its examples one by one: half precision may show 0.005
DISTINCT, BLIND_DISTINCT = 0.05, 0.02  # share of distinct values among the answers
CALIBRATED = 3.0  # a best temperature within this factor of 1
N_PROBE = 64


@dataclass(frozen=True)
class Look:
    """What the checks look at: raw answers (n, n_classes) of all examples, asked once, and their labels."""

    served: Served
    inputs: Any
    labels: Tensor
    answers: Tensor
    declared_random: bool = False

    @property
    def probe(self) -> Any:
        """A few of the inputs, for what asks again."""
        few = N_PROBE if isinstance(self.inputs, Tensor) else N_PROBE // 4
        return self.inputs[: min(few, self.served.batch_size)]

    @property
    def span(self) -> float:
        """Largest minus smallest finite answer; above 0."""
        finite = self.answers[torch.isfinite(self.answers)]
        return max(float(finite.max() - finite.min()), 1e-30) if len(finite) else 1.0


def contract(look: Look) -> list[Finding]:
    """Whether answers, labels and mode are sound: asks again for a few examples, some of them one by one."""
    return [
        *_finite(look),
        *_kind(look),
        *_coarse(look),
        *_labels(look),
        *_randomness(look),
        *_mode(look),
        *_changed_inputs(look),
    ]


def _finite(look: Look) -> list[Finding]:
    n, rows = len(look.answers), look.answers
    nan = int((rows.isnan() | rows.isposinf()).any(dim=1).sum())
    minus = int(rows.isneginf().any(dim=1).sum())
    values = {"nan": nan, "minus_infinity": minus, "n": n}
    if nan:
        sentence = f"{nan} of {n} answers hold NaN or infinity: the model predicts nothing there"
        return [Finding("answers.finite", "contract", "fatal", sentence, values)]
    if minus:
        sentence = f"{minus} of {n} answers hold -infinity, the logarithm of 0: return log_softmax(logits) instead"
        return [Finding("answers.finite", "contract", "warning", sentence, values)]
    return [Finding("answers.finite", "contract", "fine", "every answer is finite", values)]


def _kind(look: Look) -> list[Finding]:
    gives, dtype = look.served.subject.gives, str(look.served.dtype).removeprefix("torch.")
    values = {"gives": gives, "dtype": dtype, "n_classes": look.answers.shape[1]}
    if gives == "labels":
        return [Finding("answers.labels", "contract", "note", "the model answers with labels only", values)]
    probabilities = looks_like_probabilities(look.answers.nan_to_num(nan=-1.0))
    one_hot = len(look.answers.unique()) <= 2
    if gives == "logits" and probabilities and not one_hot:
        sentence = "declared as logits, but every answer lies in [0, 1] and sums to 1: softmax would be applied twice"
        return [Finding("answers.kind", "contract", "fatal", sentence, values)]
    if gives == "probabilities" and not probabilities:
        sums = look.answers.sum(dim=1)
        values |= plain({"smallest_sum": float(sums.min()), "largest_sum": float(sums.max())})
        sentence = f"declared as probabilities, but they sum to {float(sums.min()):.3g} to {float(sums.max()):.3g}"
        return [Finding("answers.kind", "contract", "warning", sentence, values)]
    return [Finding("answers.kind", "contract", "fine", f"answers are {gives} in {dtype}", values)]


def _coarse(look: Look) -> list[Finding]:
    if look.served.subject.gives == "labels":
        return []
    rows = look.answers[torch.isfinite(look.answers).all(dim=1)][:500]
    if not rows.numel():
        return []
    distinct = len(rows.unique()) / rows.numel()
    decimals = next((d for d in range(5) if _on_grid(rows, 10.0**-d)), -1)
    top = rows.topk(2, dim=1).values
    ties = float((top[:, 0] == top[:, 1]).float().mean())
    values = {"distinct": distinct, "decimals": decimals, "ties": ties, "threshold": DISTINCT, "blind": BLIND_DISTINCT}
    sentence = f"{100 * distinct:.0f} % of the answers' values are distinct"
    if decimals >= 0:
        sentence += f", all of them on a grid of {10.0**-decimals:g}: the answers are rounded"
    coarse = distinct < DISTINCT or 0 <= decimals <= 3
    findings = [Finding("answers.coarse", "contract", "warning" if coarse else "fine", sentence, values)]
    if ties > 0.01:
        tied = f"the two largest scores are equal in {100 * ties:.0f} % of the answers: the first of them is predicted"
        findings.append(Finding("answers.ties", "contract", "warning", tied, {"ties": ties, "threshold": 0.01}))
    return findings


def _on_grid(values: Tensor, step: float) -> bool:
    units = values.double() / step
    tolerance = 4 * torch.finfo(torch.float32).eps * units.abs().clamp_min(1)
    return bool(((units - units.round()).abs() <= tolerance).all()) and len(values.unique()) > 2


def _labels(look: Look) -> list[Finding]:
    predictions, labels = predicted(look.answers), look.labels
    n_classes, n = look.answers.shape[1], len(labels)
    accuracy = float((predictions == labels).float().mean())
    counts = torch.bincount(labels, minlength=n_classes)
    majority = float(counts.max()) / n
    values = {"accuracy": accuracy, "majority": majority, "n": n, "classes_seen": int((counts > 0).sum())}
    findings = []
    if int((counts > 0).sum()) < 2:
        sentence = f"all {n} examples are of class {int(labels[0])}: nothing can be said about the labels; shuffle them"
        return [Finding("labels.balance", "contract", "warning", sentence, values)]
    gain, mapping = _best_relabelling(predictions, labels, n_classes)
    values["relabelled"] = accuracy + gain
    if gain > RELABELLING:
        moved = ", ".join(f"{a} is {b}" for a, b in enumerate(mapping) if a != b)
        sentence = (
            f"{100 * accuracy:.0f} % are right, {100 * (accuracy + gain):.0f} % with another label map (the model's "
            f"{moved}): the labels are permuted"
        )
        findings.append(Finding("labels.permuted", "contract", "fatal", sentence, {**values, "map": str(mapping)}))
    elif accuracy <= majority and n >= 20:
        sentence = f"{100 * accuracy:.1f} % are right, {100 * majority:.1f} % by always answering the commonest class"
        findings.append(Finding("labels.majority", "contract", "fatal", sentence, values))
    else:
        sentence = f"{100 * accuracy:.1f} % are right without an attack, {100 * majority:.1f} % by the commonest class"
        findings.append(Finding("labels.majority", "contract", "fine", sentence, values))
    return findings


def _best_relabelling(predictions: Tensor, labels: Tensor, n_classes: int) -> tuple[float, list[int]]:
    """Accuracy gained by the best one-to-one map of predicted to true classes, made on one half, tried on the other."""

    def best(rows: Any) -> np.ndarray:
        confusion = np.zeros((n_classes, n_classes))
        known = predictions[rows] >= 0
        np.add.at(confusion, (predictions[rows][known].numpy(), labels[rows][known].numpy()), 1)
        # Unseen classes keep their own label: a bonus below one example for the identity.
        return linear_sum_assignment(-(confusion + 0.5 * np.eye(n_classes)))[1]

    # Halves drawn at random: examples may alternate between classes.
    order, gains = np.random.default_rng(0).permutation(len(labels)), []
    for fitted, tried in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        mapping = torch.as_tensor(best(fitted))
        mapped = torch.where(predictions[tried] >= 0, mapping[predictions[tried].clamp_min(0)], -1)
        after, before = (mapped == labels[tried]).double().mean(), (predictions[tried] == labels[tried]).double().mean()
        gains.append(float(after - before))
    return float(np.mean(gains)), best(slice(None)).tolist()


def _randomness(look: Look) -> list[Finding]:
    served, probe = look.served, look.probe
    # Texts are not compared with the first answers, which were padded otherwise.
    calls = torch.stack([served.answers(probe, remembered=False) for _ in range(2)])
    calls = torch.cat([calls, look.answers[None, : len(probe)]]) if isinstance(probe, Tensor) else calls
    noise = float((calls - calls[:1]).nan_to_num().abs().max()) / look.span
    flips = float((torch.stack([predicted(call) for call in calls]) != predicted(calls[0])).any(dim=0).float().mean())
    values = {"noise": noise, "flips": flips, "threshold": NOISE, "declared": int(look.declared_random)}
    if noise > NOISE or flips > 0:
        sentence = (
            f"answers to the same inputs differ between calls by {100 * noise:.2g} % of their span, "
            f"{100 * flips:.0f} % of the predictions change: attacked and judged by the mean of several calls"
        )
        return [Finding("answers.random", "contract", "note" if look.declared_random else "warning", sentence, values)]
    findings = [Finding("answers.random", "contract", "fine", "the same inputs get the same answers", values)]
    few = probe[:16]
    singly = torch.cat([served.answers(few[i : i + 1], remembered=False) for i in range(len(few))])
    apart = float((singly - calls[0, : len(few)]).nan_to_num().abs().max()) / look.span
    values = {"difference": apart, "threshold": BATCH_NOISE}
    if apart > BATCH_NOISE:
        sentence = f"answers change by up to {100 * apart:.2g} % of their span with the batch that an example is in"
        findings.append(Finding("answers.batch", "contract", "warning", sentence, values))
    else:
        findings.append(Finding("answers.batch", "contract", "fine", "answers do not depend on the batch", values))
    return findings


def _mode(look: Look) -> list[Finding]:
    """Training mode matters where the answers as served differ from those in evaluation mode."""
    module, served = look.served.subject.module, look.served
    training = isinstance(module, nn.Module) and any(part.training for part in module.modules())
    if not training:
        return [Finding("mode.train", "contract", "fine", "not in training mode")] if module is not None else []
    # A small batch of their own: in a large one batch normalisation hardly tells its modes apart.
    few = look.probe[:16]
    as_served = served.answers(few, remembered=False)
    with evaluating(module), torch.no_grad():
        served.n_forward += 2 * len(few)
        first, second = (
            tensor_in(module(few.clone() if isinstance(few, Tensor) else few)).float().cpu() for _ in range(2)
        )
    # Medians over examples: a random scale has heavy tails.
    apart, noise = (
        float((first - other).nan_to_num().abs().amax(dim=1).median()) / look.span for other in (as_served, second)
    )
    values = {"difference": apart, "noise": noise, "threshold": NOISE, "declared": int(look.declared_random)}
    if apart <= NOISE:
        return [Finding("mode.train", "contract", "note", "in training mode, which changes no answer", values)]
    if noise > 0.1 * apart:
        sentence = "in training mode, and as random in evaluation mode: the mode is not what makes it so"
        return [Finding("mode.train", "contract", "note", sentence, values)]
    sentence = (
        f"served in training mode, which changes answers by up to {100 * apart:.2g} % of their span: call "
        "model.eval(), or declare the randomness (random=True)"
    )
    return [Finding("mode.train", "contract", "note" if look.declared_random else "fatal", sentence, values)]


def _changed_inputs(look: Look) -> list[Finding]:
    module, served = look.served.subject.module, look.served
    if not isinstance(look.inputs, Tensor):
        return []
    given = look.inputs[:8].clone()
    with torch.no_grad():
        served.n_forward += len(given)
        (module or served.subject.respond)(given)
    if torch.equal(given, look.inputs[:8]):
        return [Finding("input.changed", "contract", "fine", "inputs are left as they were")]
    sentence = "the model changes its inputs in place: whoever calls it twice with the same tensor gets other answers"
    return [Finding("input.changed", "contract", "fatal", sentence)]


def scale(look: Look) -> tuple[list[Finding], float]:
    """Temperature facts, and the temperature to attack at: the fitted one, else a quarter of the typical gap."""
    subject = look.served.subject
    sound = (
        torch.isfinite(look.answers).all(dim=1)
        if subject.gives != "log-probabilities"
        else ~look.answers.isnan().any(1)
    )
    if subject.gives == "labels" or int(sound.sum()) < 2:
        return [], 1.0
    logits, labels = as_logits(look.answers[sound], subject.gives), look.labels[sound]
    fit, report = fit_temperature(logits, labels), calibration_report(logits, labels)
    smooth = smooth_calibration_error(*top_label(logits.double().softmax(dim=1), labels))
    facts = masking(logits, labels)
    temperature = fit.temperature if fit.status == "ok" else (typical_gap(logits) / 4 or 1.0)
    values = plain(
        {
            "temperature": temperature,
            "status": fit.status,
            "nll": report.negative_log_likelihood,
            "ece": report.expected_calibration_error,
            "smooth_ece": smooth,
            "mean_confidence": report.mean_confidence,
            "gap_5": facts.gap_quantiles[0],
            "gap_50": facts.gap_quantiles[1],
            "gap_95": facts.gap_quantiles[2],
            "beyond_probability_wall": facts.beyond_probability_wall,
            "beyond_gradient_wall": facts.beyond_gradient_wall,
            "zero_gradient": facts.zero_gradient,
            "one_sided_gradient": facts.one_sided_gradient,
            "n": len(labels),
        }
    )
    return [_temperature(fit, temperature, values), _walls(facts, values)], temperature


def _temperature(fit: TemperatureFit, temperature: float, values: dict) -> Finding:
    sentence = (
        f"T* = {temperature:.3g}, ECE {100 * values['ece']:.1f} % (smooth {100 * values['smooth_ece']:.1f} %), mean "
        f"confidence {100 * values['mean_confidence']:.1f} %"
    )
    if fit.status != "ok":
        why = "no error to calibrate by" if fit.status == "separable" else "no temperature beats guessing"
        sentence += f"; {why}, so T* is a quarter of the typical gap"
    off = fit.status == "ok" and not 1 / CALIBRATED <= temperature <= CALIBRATED
    return Finding("scale.temperature", "scale", "warning" if off else "fine", sentence, values)


def _walls(facts: Any, values: dict) -> Finding:
    beyond = facts.beyond_gradient_wall
    sentence = (
        f"the gap of the two largest logits lies beyond {PROBABILITY_WALL:.1f} for "
        f"{100 * facts.beyond_probability_wall:.0f} % (1 - p is 0 in float32), beyond {GRADIENT_WALL:.0f} for "
        f"{100 * beyond:.0f} % (every gradient is 0)"
    )
    if facts.one_sided_gradient > 0.01:
        sentence += f"; the gradient of the true class alone is 0 for {100 * facts.one_sided_gradient:.0f} %"
    warning = beyond > 0.01 or facts.beyond_probability_wall > 0.25
    return Finding("scale.walls", "scale", "warning" if warning else "fine", sentence, values)
