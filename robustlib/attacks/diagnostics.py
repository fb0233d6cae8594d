"""Masking diagnostics: does an attacker's signal survive floating point at this temperature?

Two walls in float32, both in the logit gap divided by the temperature: from about 16.6 the probability of the
top class rounds to 1, so 1 - p is exactly 0; from about 104 every other probability underflows, so every gradient is
exactly 0. Taught in: notebooks/01 and 03.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustlib.attacks.inputs import prepare_images
from robustlib.calibration.checks import check_predictions, check_temperature
from robustlib.calibration.temperature import scale_logits
from robustlib.models.forward import evaluating, gradients_on

PROBABILITY_WALL = 24 * math.log(2)  # 16.64: exp(-gap) < 2^-24 is lost when added to 1, so p rounds to 1 in float32
GRADIENT_WALL = 150 * math.log(2)  # 103.97: exp(-gap) < 2^-150, half the smallest float32, rounds to 0


@dataclass(frozen=True)
class Masking:
    """What an attacker sees of n examples at one temperature; shares are in 0..1 of the n examples."""

    temperature: float
    mean_confidence: float  # mean probability of the predicted class
    # 5, 50 and 95 % quantiles of (largest - second largest logit) / temperature
    gap_quantiles: tuple[float, float, float]
    # share of gaps above each float32 wall
    beyond_probability_wall: float
    beyond_gradient_wall: float
    zero_gradient: float  # share whose cross-entropy gradient is exactly 0 in every logit
    one_sided_gradient: float  # share whose gradient is exactly 0 for the true class but not for the others
    # mean cosine between the input gradient at this temperature and at temperature 1, where the former is not 0; NaN
    # where no example has one, or no Jacobian was given
    cosine: float
    zero_input_gradient: float  # share whose gradient is exactly 0 in every pixel; NaN with no Jacobian


def input_jacobian(model: nn.Module, images: Tensor, *, batch_size: int = 256) -> tuple[Tensor, Tensor]:
    """Logits (n, n_classes) and their derivative by every pixel (n, n_classes, n_pixels); raises as `inputs.prepare`.

    The gradient of any loss at any temperature is then a product with it: a slider over temperatures is free.
    """
    logits, jacobians = [], []
    with gradients_on(), evaluating(model):
        forward, images = prepare_images(model, images)
        for batch in images.split(batch_size):
            point = batch.requires_grad_(True)
            output = forward(point)
            rows = [
                torch.autograd.grad(output[:, label].sum(), point, retain_graph=True)[0].flatten(1)
                for label in range(output.shape[1])
            ]
            logits.append(output.detach())
            jacobians.append(torch.stack(rows, dim=1))
    return torch.cat(logits), torch.cat(jacobians)


def logit_gradient(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Gradient of the cross-entropy at a temperature by the scaled logits, p - onehot, (n, n_classes), in their dtype.

    The zeros it has are those that an attack meets.
    """
    probs = torch.softmax(scale_logits(logits, temperature), dim=1)
    return probs - torch.nn.functional.one_hot(labels, logits.shape[1]).to(probs)


def input_gradient(logits: Tensor, jacobian: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Gradient of the cross-entropy at a temperature by the pixels, (n, n_pixels), from a stored Jacobian."""
    return torch.einsum("nc,ncp->np", logit_gradient(logits, labels, temperature), jacobian) / temperature


def masking(logits: Tensor, labels: Tensor, *, temperature: float = 1.0, jacobian: Tensor | None = None) -> Masking:
    """Diagnose one temperature from stored logits (n, n_classes) and, optionally, the stored input Jacobian."""
    logits, labels = check_predictions(logits, labels)
    check_temperature(temperature)
    scaled = scale_logits(logits, temperature)
    top = scaled.topk(2, dim=1).values
    gap = (top[:, 0] - top[:, 1]).double()
    by_logit = logit_gradient(logits, labels, temperature)
    own = by_logit.gather(1, labels.unsqueeze(1)).squeeze(1)
    zero = (by_logit == 0).all(dim=1)
    cosine = zero_pixels = math.nan
    if jacobian is not None:
        gradient = input_gradient(logits, jacobian, labels, temperature)
        alive = (gradient != 0).any(dim=1)
        zero_pixels = 1 - float(alive.double().mean())
        reference = input_gradient(logits.double(), jacobian.double(), labels, 1.0)
        if alive.any():
            cosine = float(_cosine(gradient[alive].double(), reference[alive]).mean())
    quantiles = torch.quantile(gap, torch.tensor([0.05, 0.5, 0.95], dtype=gap.dtype, device=gap.device))
    return Masking(
        temperature=temperature,
        mean_confidence=float(torch.softmax(scaled.double(), dim=1).amax(dim=1).mean()),
        gap_quantiles=tuple(quantiles.tolist()),
        beyond_probability_wall=float((gap > PROBABILITY_WALL).double().mean()),
        beyond_gradient_wall=float((gap > GRADIENT_WALL).double().mean()),
        zero_gradient=float(zero.double().mean()),
        one_sided_gradient=float(((own == 0) & ~zero).double().mean()),
        cosine=cosine,
        zero_input_gradient=zero_pixels,
    )


def tied_score_share(candidate_logits: Tensor, labels: Tensor, temperature: float) -> float:
    """Share of candidates whose score 1 - p(true class) equals exactly that of another candidate of the example.

    `candidate_logits`: (n, n_candidates, n_classes), in the dtype served; `labels`: (n,). Between tied candidates a
    black-box search chooses blindly.
    """
    n, n_candidates, _ = candidate_logits.shape
    logits, labels = check_predictions(candidate_logits.flatten(0, 1), labels.repeat_interleave(n_candidates))
    score = 1 - torch.softmax(scale_logits(logits, temperature), dim=1).gather(1, labels.unsqueeze(1))
    equal = score.reshape(n, n_candidates).sort(dim=1).values.diff(dim=1) == 0
    tied = torch.nn.functional.pad(equal, (1, 0)) | torch.nn.functional.pad(equal, (0, 1))
    return float(tied.double().mean())


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine per row, after division by the largest entry: squares of tiny gradients underflow even in float64."""
    first, second = (rows / rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-300) for rows in (first, second))
    return torch.nn.functional.cosine_similarity(first, second, dim=1)
