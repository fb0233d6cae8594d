"""How well confidence matches accuracy: reliability bins, ECE, MCE, NLL, Brier score, mean confidence (notebooks/01).

In float64 and not torchmetrics, which takes logits that happen to lie in [0, 1] (at a large T every one does) for
probabilities, answers 0.0 for NaN, and puts a confidence of exactly 1.0 into a bin of its own.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import optimize
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from robustlib.calibration.checks import check_correct, check_counts, check_labels, check_predictions, check_probs
from robustlib.calibration.temperature import scale_logits


@dataclass(frozen=True)
class CalibrationReport:
    """Calibration at `temperature`: fractions, NLL in nats (infinite where a true class got 0), Brier from 0 to 2."""

    n: int
    temperature: float
    accuracy: float
    mean_confidence: float
    expected_calibration_error: float
    maximum_calibration_error: float
    negative_log_likelihood: float
    brier_score: float


def calibration_report(logits: Tensor, labels: Tensor, *, temperature: float = 1.0) -> CalibrationReport:
    """Every metric of softmax(logits / temperature) (n, n_classes) (equations 4, 5); raises as `check_predictions`."""
    logits, labels = check_predictions(logits, labels)
    log_probs = scale_logits(logits.detach().double(), temperature).log_softmax(dim=1)
    return _report(log_probs.exp(), log_probs, labels, logits.argmax(dim=1) == labels, float(temperature))


def calibration_report_from_probs(probs: Tensor, labels: Tensor) -> CalibrationReport:
    """The same for calibrators that give no logits (isotonic, histogram binning): probs (n, n_classes)."""
    probs, labels = _checked(probs, labels)
    probs = probs.detach().double()
    return _report(probs, probs.log(), labels, probs.argmax(dim=1) == labels, 1.0)


def reliability_bins(confidence: Tensor, correct: Tensor, n_bins: int = 15) -> dict[str, np.ndarray]:
    """Accuracy and mean confidence in equal-width bins of top-label confidence.

    Bins are (low, high], the first one [0, high]: Guo et al. 2017, section 2.

    Args:
        confidence, correct: (n,) each, as from `top_label`.

    Returns:
        dict of `edges` (n_bins + 1,), `count`, `confidence`, `accuracy` (n_bins,); NaN in empty bins.

    Raises:
        TypeError, ValueError: a confidence is outside [0, 1]; `correct` is not bool or of another shape; n is 0.
    """
    confidence, correct = _check_confidence(confidence, correct)
    check_counts(n_bins=n_bins)
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    bin_index = np.searchsorted(edges[1:-1], confidence, side="left")
    count = np.bincount(bin_index, minlength=n_bins)
    occupied = np.where(count > 0, count, np.nan)
    return {
        "edges": edges,
        "count": count,
        "confidence": np.bincount(bin_index, weights=confidence, minlength=n_bins) / occupied,
        "accuracy": np.bincount(bin_index, weights=correct, minlength=n_bins) / occupied,
    }


def calibration_errors(confidence: Tensor, correct: Tensor, n_bins: int = 15) -> tuple[float, float]:
    """ECE and MCE, 0 to 1: mean over examples, and largest, |accuracy - confidence| of a bin of `reliability_bins`."""
    bins = reliability_bins(confidence, correct, n_bins)
    gap = np.abs(bins["accuracy"] - bins["confidence"])
    return float(np.nansum(bins["count"] * gap) / bins["count"].sum()), float(np.nanmax(gap))


def smooth_calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """Smooth ECE (Blasiok and Nakkiran, ICLR 2024), 0 to 1, without bins; arguments as `reliability_bins`.

    Accuracy minus confidence, smoothed over the confidence by a Gaussian reflected at 0 and 1, whose width is the one
    at which the mean absolute value equals it.
    """
    confidence, correct = _check_confidence(confidence, correct)
    cells = 200
    position = np.minimum((confidence * cells).astype(int), cells - 1)
    residual = np.bincount(position, weights=correct - confidence, minlength=cells) / len(confidence)

    def excess(width: float) -> float:
        smooth = gaussian_filter1d(residual, width * cells, mode="reflect", truncate=6.0)
        return float(np.abs(smooth).sum()) - width

    if excess(1e-3) <= 0:
        return float(np.abs(residual).sum())
    return float(optimize.brentq(excess, 1e-3, 1.0, xtol=1e-6))


def top_label(probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(confidence, correct) of the predicted class, each (n,): what the binned metrics take."""
    probs, labels = _checked(probs, labels)
    confidence, predicted = probs.detach().max(dim=1)
    return confidence, predicted == labels


def _report(probs: Tensor, log_probs: Tensor, labels: Tensor, correct: Tensor, temperature: float) -> CalibrationReport:
    confidence, target = probs.amax(dim=1), torch.nn.functional.one_hot(labels, probs.shape[1])
    expected, largest = calibration_errors(confidence, correct)
    return CalibrationReport(
        n=len(labels),
        temperature=temperature,
        accuracy=float(correct.double().mean()),
        mean_confidence=float(confidence.mean()),
        expected_calibration_error=expected,
        maximum_calibration_error=largest,
        negative_log_likelihood=float(torch.nn.functional.nll_loss(log_probs, labels)),
        brier_score=float((probs - target).square().sum(dim=1).mean()),
    )


def _checked(probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    probs = check_probs(probs)
    return probs, check_labels(labels, *probs.shape).to(probs.device)


def _check_confidence(confidence: Tensor, correct: Tensor) -> tuple[np.ndarray, np.ndarray]:
    confidence = torch.as_tensor(confidence).detach().double().cpu().numpy()
    correct = check_correct(correct)
    if confidence.shape != correct.shape:
        raise ValueError(
            f"confidence and correct must both have shape (n,), got {confidence.shape} and {correct.shape}: "
            "top_label(probs, labels) gives both"
        )
    # Softmax can exceed 1 by rounding; NaN fails both comparisons.
    if not ((confidence >= 0) & (confidence <= 1 + 1e-6)).all():
        raise ValueError(f"confidence must lie in [0, 1], found {confidence.min():.3g} to {confidence.max():.3g}")
    return np.minimum(confidence, 1.0), correct.astype(float)
