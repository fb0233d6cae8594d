"""Calibrators fitted on held-out logits: temperature (exactly, or by the paper's descent), Platt, and two others.

`fit_*(logits, labels)`, logits (n, n_classes) without a temperature and class indices (n,), gives a calibrator with
`.probs(logits)`, float64, and `.logits(logits)` where the map is differentiable, so that an attack can search on it.
All raise TypeError or ValueError as `checks.check_predictions`. Taught in: notebooks/01, notebooks/04.

Temperature scaling needs only the differences d_ij = z_ij - z_i,label of each row. With beta = 1 / T the
mean NLL is mean_i log(1 + sum_j exp(beta d_ij)): convex in beta, with slope mean_i sum_j p_ij d_ij.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import numpy as np
import torch
from scipy import optimize, special
from torch import Tensor

from robustlib.calibration.checks import check_counts, check_logits, check_predictions
from robustlib.calibration.temperature import scale_logits

LEARNING_RATE, MAX_STEPS = 0.01, 5000  # the paper's, of `cal`
PLATT_STEPS = 5000
# name: (T -> parameter, parameter -> T, T -> factor that turns dNLL/dbeta into dNLL/dparameter)
_PARAMETERS: dict[str, tuple[Callable, Callable, Callable]] = {
    "T": (lambda t: t, lambda v: v, lambda t: -1 / t / t),
    "log T": (math.log, lambda v: math.exp(min(v, 700.0)), lambda t: -1 / t),
    "1/T": (lambda t: 1 / t, lambda v: 1 / v if v else math.inf, lambda t: 1.0),
}
READINGS = {"reduction": ("sum", "mean"), "optimiser": ("sgd", "adam"), "parameter": tuple(_PARAMETERS)}


@dataclass(frozen=True)
class TemperatureFit:
    """A temperature that calibrates, or what stood in the way.

    Attributes:
        temperature: above 1 the model was overconfident, below 1 underconfident.
        status: "ok": the optimum (descent: within 1 % of it).
            "separable": no row is strictly misclassified, so the likelihood improves for ever as T goes to 0
                (exact fit: 0.0; descent: where it stood).
            "uninformative": no T beats uniform probabilities, so T goes to infinity (exact fit: inf).
            "unconverged" (descent): all steps were taken and the optimum is more than 1 % away.
            "diverged" (descent): a step left 1e-100..1e100 or was NaN; `temperature` is the last valid T.
        nll_before, nll_after: mean negative log-likelihood in nats at T = 1 and at `temperature` (or its limit).
        iterations: derivative evaluations (exact) or steps (descent).
    """

    temperature: float
    status: str
    nll_before: float
    nll_after: float
    iterations: int

    @property
    def converged(self) -> bool:
        return self.status == "ok"

    def logits(self, logits: Tensor) -> Tensor:
        return scale_logits(logits, self.temperature)

    def probs(self, logits: Tensor) -> Tensor:
        return self.logits(logits.double()).softmax(dim=1)


def fit_temperature(logits: Tensor, labels: Tensor) -> TemperatureFit:
    """The temperature that minimises the negative log-likelihood of held-out data, exactly (`cal-exact`, equation 8).

    A convex problem in beta = 1 / T: the root of the slope, bracketed on a log scale and found by Brent's method in
    float64, on differences brought to unit size, so that logits times s give T times s also for s = 1e-8 or 1e8.
    The slope at beta = 0 and its limit at infinity decide beforehand whether a finite optimum exists.
    """
    differences = _label_differences(logits, labels)
    nll_before = _mean_nll(differences, 1.0)
    size = float(np.abs(differences).mean())
    start_slope = float(differences.sum(axis=0).mean()) / (len(differences) + 1)
    # A slope of rounding size counts as 0: labels that exactly balance must not give T = 1e17.
    if start_slope >= -8 * np.finfo(float).eps * size:
        return TemperatureFit(math.inf, "uninformative", nll_before, math.log(len(differences) + 1), 0)
    if differences.max() <= 1e-200 * size:  # no error, or none that exp(beta * d) could ever show in float64
        tied = 1 + (differences == 0).sum(axis=0)
        return TemperatureFit(0.0, "separable", nll_before, float(np.log(tied).mean()), 0)

    scaled_slope, evaluations = _Slope(differences / size), 0

    def slope(log_beta: float) -> float:
        nonlocal evaluations
        evaluations += 1
        return scaled_slope(math.exp(log_beta))

    low, high = 0.0, 0.0
    while slope(low) >= 0:
        low = 2 * low - 1
    while slope(high) <= 0:
        high = 2 * high + 1
    log_beta = optimize.brentq(slope, low, high, xtol=1e-13, rtol=4 * np.finfo(float).eps)
    temperature = size * math.exp(-log_beta)
    return TemperatureFit(temperature, "ok", nll_before, _mean_nll(differences, 1 / temperature), evaluations)


def fit_temperature_descent(
    logits: Tensor,
    labels: Tensor,
    *,
    optimiser: str = "sgd",
    parameter: str = "T",
    reduction: str = "sum",
    learning_rate: float = LEARNING_RATE,
) -> TemperatureFit:
    """The paper's `cal`: gradient descent from T = 1, learning rate 0.01, at most 5,000 steps (claim C10).

    Equation 8 prints a sum over the n validation examples; the optimiser is not stated. With the sum a step is n
    times as long as with the usual mean: long enough for the large T of an overconfident model, too long for a T
    below 1, where it jumps to the wrong side of 0.

    Args:
        optimiser: "sgd" (plain gradient descent) or "adam" (betas 0.9, 0.999; eps 1e-8).
        parameter: what descends: "T" (the paper), "log T" or "1/T".
        reduction: "sum" over the examples (equation 8 as printed) or "mean".
    """
    chosen = {"reduction": reduction, "optimiser": optimiser, "parameter": parameter}
    for name, value in chosen.items():
        if value not in READINGS[name]:
            raise ValueError(f"{name} must be one of {', '.join(READINGS[name])}, got {value!r}")
    exact = fit_temperature(logits, labels)
    differences = _label_differences(logits, labels)
    weight = differences.shape[1] if reduction == "sum" else 1
    temperature, steps, diverged = _descend(_Slope(differences), weight, optimiser, parameter, learning_rate)
    status = "diverged" if diverged else exact.status
    if status == "ok" and abs(math.log(temperature / exact.temperature)) > 0.01:
        status = "unconverged"
    return TemperatureFit(temperature, status, exact.nll_before, _mean_nll(differences, 1 / temperature), steps)


def fit_readings(logits: Tensor, labels: Tensor) -> dict[tuple[str, str, str], TemperatureFit]:
    """`fit_temperature_descent` under every reading of equation 8, by (reduction, optimiser, parameter)."""
    readings = product(*READINGS.values())
    return {key: fit_temperature_descent(logits, labels, **dict(zip(READINGS, key, strict=True))) for key in readings}


def _descend(
    slope: Callable[[float], float], weight: int, optimiser: str, parameter: str, learning_rate: float
) -> tuple[float, int, bool]:
    """Last valid temperature, steps taken, and whether the last step led out of range."""
    to_parameter, to_temperature, chain = _PARAMETERS[parameter]
    temperature, value = 1.0, to_parameter(1.0)
    first = second = 0.0
    for step in range(1, MAX_STEPS + 1):
        gradient = weight * chain(temperature) * slope(1 / temperature)
        move = learning_rate * gradient
        if optimiser == "adam":
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient * gradient
            move = learning_rate * (first / (1 - 0.9**step)) / (math.sqrt(second / (1 - 0.999**step)) + 1e-8)
        if value - move == value:
            return temperature, step - 1, False
        value -= move
        moved = to_temperature(value)
        # Bounds that keep 1 / T**2 finite; NaN fails every comparison.
        if not 1e-100 < moved < 1e100:
            return temperature, step, True
        temperature = moved
    return temperature, MAX_STEPS, False


@dataclass(frozen=True)
class Platt:
    """softmax(slope * logits + bias), slope and bias (n_classes,) float64. May change predictions.

    `nll` is the mean on the data it was fitted on, in nats; `converged`: the largest derivative of the NLL is at most
    1e-4 of the size of the terms it sums.
    """

    slope: Tensor
    bias: Tensor
    nll: float
    converged: bool

    def logits(self, logits: Tensor) -> Tensor:
        """slope * logits + bias, (n, n_classes), differentiable, in the dtype of `logits`."""
        # In float64 on the way: slopes of 1e6, which tiny logits need, do not exist in float16.
        slope, bias = self.slope.to(logits.device), self.bias.to(logits.device)
        return (slope * logits.double() + bias).to(logits.dtype)

    def probs(self, logits: Tensor) -> Tensor:
        return self.logits(logits.double()).softmax(dim=1)


def fit_platt(logits: Tensor, labels: Tensor, *, solver: str = "exact") -> Platt:
    """Platt scaling for several classes: a slope and a bias for each class, by multinomial NLL.

    The paper does not state its parametrisation; this is vector scaling (Guo et al. 2017, section 4.2), for two
    classes Platt's sigmoid with a slope for each logit. Unequal slopes and biases reorder classes, so what fools the
    calibrated model may not fool the original (section 3.4, table 19, claim C13).

    Args:
        solver: "exact" (L-BFGS on standardised logits; where no finite optimum exists it stops once the NLL no
            longer falls) or "descent" (the paper: 5,000 steps of 0.01 on the mean NLL from slope 1, bias 0).
    """
    logits, labels = check_predictions(logits, labels)
    if solver not in ("exact", "descent"):
        raise ValueError(f"solver must be 'exact' or 'descent', got {solver!r}")
    z = np.ascontiguousarray(logits.detach().double().cpu().numpy().T)  # classes first, as `_label_differences`
    n_classes = len(z)
    target = np.eye(n_classes)[:, labels.cpu().numpy()]

    def gradient_of(flat: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gradient, and the scores of each example's classes less its largest."""
        slope, bias = flat.reshape(2, -1, 1)
        scores = features * slope
        scores += bias
        scores -= scores.max(axis=0)
        error = np.exp(scores)
        error /= error.sum(axis=0)
        error -= target
        bias_gradient = error.mean(axis=1)
        error *= features
        return np.r_[error.mean(axis=1), bias_gradient], scores

    def nll_and_gradient(flat: np.ndarray, features: np.ndarray) -> tuple[float, np.ndarray]:
        gradient, scores = gradient_of(flat, features)
        log_probs = scores - special.logsumexp(scores, axis=0)
        return -float((log_probs * target).sum()) / features.shape[1], gradient

    start = np.r_[np.ones(n_classes), np.zeros(n_classes)]
    if solver == "descent":
        flat = start
        for _ in range(PLATT_STEPS):
            flat = flat - LEARNING_RATE * gradient_of(flat, z)[0]
        slope, bias = flat[:n_classes], flat[n_classes:]
    else:
        centre = z.mean(axis=1, keepdims=True)
        size = float(np.abs(z - centre).mean()) or 1.0
        options = {"maxiter": PLATT_STEPS, "maxfun": 2 * PLATT_STEPS, "gtol": 1e-9, "ftol": 1e-15, "maxcor": 30}
        standardised = ((z - centre) / size,)
        best = optimize.minimize(nll_and_gradient, start, standardised, "L-BFGS-B", jac=True, options=options)
        slope = best.x[:n_classes] / size
        bias = best.x[n_classes:] - slope * centre[:, 0]
    nll, gradient = nll_and_gradient(np.r_[slope, bias], z)
    sizes = np.r_[np.abs(z).mean(axis=1), np.ones(n_classes)]
    converged = bool((np.abs(gradient) <= 1e-4 * sizes).all())
    return Platt(torch.from_numpy(slope), torch.from_numpy(bias), nll, converged)


@dataclass(frozen=True)
class OneVsRest:
    """One monotone map for each class, from its log-odds to a probability, then rows divided by their sum.

    Steps have no gradient, so an attack cannot search on it (section 4). Ties and the sum may change predictions.
    """

    maps: tuple[Callable[[np.ndarray], np.ndarray], ...] = field(repr=False)

    def probs(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities, (n, n_classes) float64; uniform where every class got 0."""
        logits = check_logits(logits)
        if logits.shape[1] != len(self.maps):
            raise ValueError(f"logits have {logits.shape[1]} classes, the calibrator was fitted on {len(self.maps)}")
        columns = zip(self.maps, _log_odds(logits).T, strict=True)
        raw = np.stack([one_map(column) for one_map, column in columns], axis=1)
        total = raw.sum(axis=1, keepdims=True)
        return torch.from_numpy(np.where(total > 0, raw / np.where(total > 0, total, 1), 1 / len(self.maps)))


def fit_isotonic(logits: Tensor, labels: Tensor) -> OneVsRest:
    """Isotonic regression for each class against the rest, on log-odds of its softmax (Zadrozny and Elkan, KDD 2002).

    Log-odds keep their order where float64 probabilities are all 1.0.
    """
    from sklearn.isotonic import IsotonicRegression

    def fit(odds: np.ndarray, hit: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(odds, hit).predict

    return _one_vs_rest(logits, labels, fit)


def fit_histogram(logits: Tensor, labels: Tensor, n_bins: int = 15) -> OneVsRest:
    """Histogram binning for each class against the rest, of its softmax's log-odds (Zadrozny and Elkan, ICML 2001).

    Bins of equal count, not width (an underconfident model has all its probabilities in one bin of equal width): at
    most n_bins, fewer on ties.
    """
    check_counts(n_bins=n_bins)
    return _one_vs_rest(logits, labels, partial(_histogram_map, n_bins=n_bins))


def _one_vs_rest(logits: Tensor, labels: Tensor, fit: Callable[..., Callable]) -> OneVsRest:
    logits, labels = check_predictions(logits, labels)
    hits = np.eye(logits.shape[1])[labels.cpu().numpy()]
    return OneVsRest(tuple(fit(odds, hit) for odds, hit in zip(_log_odds(logits).T, hits.T, strict=True)))


def typical_gap(logits: Tensor) -> float:
    """Median over rows of largest minus second largest logit, (n, n_classes) logits; 0.0 where most are tied.

    A temperature of this size makes confidence middling, which is where to centre a search.
    """
    logits = check_logits(logits)
    top = logits.detach().double().topk(2, dim=1).values.cpu().numpy()
    return float(np.median(top[:, 0] - top[:, 1]))


def _label_differences(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Logit of each other class minus that of the label, (n_classes - 1, n) float64."""
    logits, labels = check_predictions(logits, labels)
    z = logits.detach().double().cpu()
    index = labels.cpu().unsqueeze(1)
    differences = z - z.gather(1, index)
    others = torch.ones_like(differences, dtype=torch.bool).scatter_(1, index, False)
    # Classes first: sums over classes then run along contiguous rows, which descent's 5,000 steps feel.
    return np.ascontiguousarray(differences[others].reshape(len(z), -1).T.numpy())


def _mean_nll(differences: np.ndarray, beta: float) -> float:
    exponents = np.vstack([np.zeros(differences.shape[1]), differences * beta])
    return float(special.logsumexp(exponents, axis=0).mean())


class _Slope:
    """dNLL/dbeta at beta > 0, of `_label_differences`; the label's own exponent is 0.

    Descent asks thousands of times: all that can be is done once, and in place.
    """

    def __init__(self, differences: np.ndarray) -> None:
        self.differences, self.weights = differences, np.empty_like(differences)
        self.largest = np.maximum(differences.max(axis=0), 0.0)

    def __call__(self, beta: float) -> float:
        shift = self.largest * beta
        weights = np.multiply(self.differences, beta, out=self.weights)
        weights -= shift
        np.exp(weights, out=weights)
        total = weights.sum(axis=0) + np.exp(-shift)
        weights *= self.differences
        return float((weights.sum(axis=0) / total).mean())


def _log_odds(logits: Tensor) -> np.ndarray:
    """log p_c - log(1 - p_c) of softmax(logits), (n, n_classes) float64, exact where p_c rounds to 1."""
    z = logits.detach().double().cpu()
    rest = [torch.cat([z[:, :c], z[:, c + 1 :]], dim=1).logsumexp(dim=1) for c in range(z.shape[1])]
    return (z - torch.stack(rest, dim=1)).numpy()


def _histogram_map(odds: np.ndarray, hit: np.ndarray, *, n_bins: int) -> Callable[[np.ndarray], np.ndarray]:
    edges = np.unique(np.quantile(odds, np.linspace(0, 1, n_bins + 1)[1:-1]))
    index = np.searchsorted(edges, odds, side="left")
    count = np.bincount(index, minlength=len(edges) + 1)
    share = np.bincount(index, weights=hit, minlength=len(edges) + 1) / np.maximum(count, 1)
    value = np.where(count > 0, share, hit.mean())
    return lambda new: value[np.searchsorted(edges, new, side="left")]
