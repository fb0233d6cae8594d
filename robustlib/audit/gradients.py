"""Whether an image model's gradient is one that an attack can climb: facts from a few examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robustlib.attacks import ball
from robustlib.attacks.scores import CrossEntropy, Margin, Score
from robustlib.audit.findings import Finding
from robustlib.audit.served import Served, out_of_memory
from robustlib.models.forward import gradients_on

ZERO = 0.01  # share of margins without a gradient
AGREEMENT = 0.95  # share of small steps along the gradient that raise the margin as it foretells
JUMP = 0.02  # of the typical difference of two scores, left where the prediction changes
NO_GRADIENT = "gradient.missing"


def gradient_facts(
    search: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, threat: dict[str, Any], *, random: bool = False
) -> list[Finding]:
    """Findings about the gradient of the cross-entropy and of the margin, on images that the model gets right.

    Args:
        search: images to logits, differentiable (`Served.search`). labels: on the images' device.
        threat: "epsilon" and "norm". random: answers differ between calls, so that differences say nothing.
    """
    try:
        entropy, margin = (_gradient(search, images, labels, score) for score in (CrossEntropy(), Margin()))
    except (RuntimeError, NotImplementedError) as error:
        if out_of_memory(error):
            raise
        sentence = f"no gradient reaches the inputs ({str(error).splitlines()[0][:80]})"
        return [Finding(NO_GRADIENT, "gradient", "warning", sentence)]
    n = len(images)
    nan = float(margin.flatten(1).isnan().any(1).float().mean())
    zero = float((margin.flatten(1) == 0).all(1).float().mean())
    zero_entropy = float((entropy.flatten(1) == 0).all(1).float().mean())
    values = {"nan": nan, "zero_margin": zero, "zero_cross_entropy": zero_entropy, "n": n, "threshold": ZERO}
    findings = []
    if nan:
        sentence = f"the gradient is NaN for {100 * nan:.0f} % of {n} examples, though their answers are finite"
        findings.append(Finding("gradient.nan", "gradient", "warning", sentence, values))
    if zero > ZERO:
        sentence = f"the gradient of the margin is 0 for {100 * zero:.0f} % of {n} examples: no temperature can help"
        findings.append(Finding("gradient.zero", "gradient", "warning", sentence, values))
    elif zero_entropy > ZERO:
        sentence = (
            f"the gradient of the cross-entropy is 0 for {100 * zero_entropy:.0f} % of {n} examples, that of the "
            "margin is not: a matter of scale"
        )
        findings.append(Finding("gradient.saturated", "gradient", "warning", sentence, values))
    if not findings:
        findings.append(Finding("gradient.zero", "gradient", "fine", "every example has a gradient", values))
    return findings if random else [*findings, _differences(search, images, labels, margin, threat)]


def _gradient(search: Callable, images: Tensor, labels: Tensor, score: Score) -> Tensor:
    with gradients_on():
        point = images.detach().clone().requires_grad_(True)
        return torch.autograd.grad(score(search(point * 1.0), labels).sum(), point)[0]


def _differences(search: Callable, images: Tensor, labels: Tensor, gradient: Tensor, threat: dict) -> Finding:
    """One step of a tenth of epsilon: does it raise the margin by at least 0.3 of what the gradient foretells?"""
    gradient = gradient.nan_to_num()
    step = 0.1 * threat["epsilon"] * ball.step(gradient, threat["norm"])
    with torch.no_grad():
        before, after = (Margin()(search(points), labels) for points in (images, images + step))
    foretold = (gradient * step).flatten(1).sum(dim=1)
    alive = foretold > 0
    agreement = float(((after - before) >= 0.3 * foretold)[alive].float().mean()) if alive.any() else 0.0
    values = {"agreement": agreement, "n": int(alive.sum()), "threshold": AGREEMENT}
    if not alive.any():
        return Finding("gradient.differences", "gradient", "warning", "no gradient to compare with differences", values)
    sentence = (
        f"a small step along the gradient raises the margin as foretold for {100 * agreement:.0f} % of the examples"
    )
    return Finding(
        "gradient.differences", "gradient", "fine" if agreement >= AGREEMENT else "warning", sentence, values
    )


def boundary_jump(served: Served, images: Tensor, predictions: Tensor, *, n_pairs: int = 12, steps: int = 16) -> list:
    """Do scores come near each other where the prediction changes? Needs no gradient and no labels.

    On the straight line between two images of different classes the change of the prediction is bisected; the scores
    of the two classes there must be nearly equal, unless what is shown is not what decides.
    """
    pairs = [(i, j) for i in range(len(images)) for j in range(i + 1, len(images)) if predictions[i] != predictions[j]]
    pairs = pairs[:: max(1, len(pairs) // n_pairs)][:n_pairs]
    if len(pairs) < 4 or (predictions < 0).any():
        return []
    first, second = (images[[pair[k] for pair in pairs]] for k in (0, 1))
    low, high = torch.zeros(len(pairs)), torch.ones(len(pairs))
    start = predictions[[i for i, _ in pairs]]

    def at(share: Tensor) -> Tensor:
        share = share.reshape(-1, *[1] * (images.ndim - 1)).to(images)
        return served.logits(first * (1 - share) + second * share)

    for _ in range(steps):
        middle = (low + high) / 2
        same = at(middle).argmax(dim=1) == start
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    before, after = at(low), at(high)
    other = after.argmax(dim=1)
    gap = lambda logits: (logits.gather(1, start[:, None]) - logits.gather(1, other[:, None])).squeeze(1)  # noqa: E731
    ends = torch.cat([gap(at(torch.zeros_like(low))), gap(at(torch.ones_like(low)))]).abs()
    jump = float(((gap(before) - gap(after)).abs() / ends.median().clamp_min(1e-30)).median())
    values = {"jump": jump, "pairs": len(pairs), "threshold": JUMP}
    sentence = f"where the prediction changes the scores jump by {100 * jump:.2g} % of their typical difference"
    return [Finding("boundary.jump", "gradient", "warning" if jump > JUMP else "fine", sentence, values)]
