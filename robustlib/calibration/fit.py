"""Calibrators fitted on held-out logits: temperature (exactly, or by the paper's descent), Platt, and two others.

One calling convention: `fit_*(logits, labels) -> calibrator` with `.probs(logits)`, and `.logits(logits)`
where the map is differentiable, so that an attack can search on it. Taught in: notebooks/01, notebooks/04.

Temperature scaling needs only the differences d_ij = z_ij - z_i,label of each row. With beta = 1 / T the
mean NLL is mean_i log(1 + sum_j exp(beta d_ij)): convex in beta, with slope mean_i sum_j p_ij d_ij.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from scipy import optimize, special
from torch import Tensor

from robustlib.calibration.checks import check_logits, check_predictions, check_temperature
from robustlib.calibration.temperature import scale_logits


@dataclass(frozen=True)
class TemperatureFit:
    """A temperature that calibrates, or what stood in the way.

    Attributes:
        temperature: above 1 the model was overconfident, below 1 underconfident.
        status: the two cases without a finite optimum are properties of the data, whoever fits.
            "ok": temperature is the optimum (descent: within 1 % of it).
            "separable": no row is misclassified strictly (ties with the label are allowed), so the likelihood
                improves for ever as T goes to 0. The exact fit gives 0.0.
            "uninformative": no T beats uniform probabilities, so T goes to infinity. The exact fit gives inf.
            "unconverged" (descent): max_steps were used up more than 1 % away from the optimum.
            "diverged" (descent): a step led to T <= 0 or NaN, or out of 1e-100..1e100. `temperature` is the last
            valid T; torch would go on with a negative one, which turns every prediction round.
        nll_before: mean negative log-likelihood in nats at T = 1.
        nll_after: the same at `temperature`; in the limit where that is 0 or infinite.
        iterations: derivative evaluations (exact) or steps (descent).
        converged: True only for status "ok".
        trace: T before the first and after each step, on request; descent only.
    """

    temperature: float
    status: str
    nll_before: float
    nll_after: float
    iterations: int
    converged: bool
    trace: np.ndarray | None = field(default=None, repr=False, compare=False)

    def logits(self, logits: Tensor) -> Tensor:
        """logits / temperature, differentiable; ValueError where the temperature is 0 or infinite."""
        return scale_logits(logits, self.temperature)

    def probs(self, logits: Tensor) -> Tensor:
        """softmax(logits / temperature), (n, n_classes) float64."""
        return self.logits(logits.double()).softmax(dim=1)


def fit_temperature(logits: Tensor, labels: Tensor) -> TemperatureFit:
    """The temperature that minimises the negative log-likelihood of held-out data, exactly (`cal-exact`).

    A convex problem in one variable: the root of the slope in beta = 1 / T, bracketed on a log scale and found
    by Brent's method in float64, on differences brought to unit size. So logits times s give T times s,
    also for s = 1e-8 or 1e8. The slope at beta = 0 and its limit at infinity decide beforehand whether a
    finite optimum exists; it is then unique.
    Paper: equation 8, with an exact solver in place of descent. Taught in: notebooks/01.

    Args:
        logits: (n, n_classes) scores before softmax, on validation data, no temperature applied.
        labels: (n,) class indices.

    Returns:
        TemperatureFit with status "ok", "separable" or "uninformative".

    Raises:
        ValueError: logits are not finite or look like probabilities, labels do not fit, or n is 0.
    """
    differences = _label_differences(logits, labels)
    nll_before = _mean_nll(differences, 1.0)
    size = float(np.abs(differences).mean())
    start_slope = float(differences.sum(axis=0).mean()) / (len(differences) + 1)
    # A slope of rounding size counts as 0: labels that exactly balance must not give T = 1e17.
    if start_slope >= -8 * np.finfo(float).eps * size:
        return TemperatureFit(math.inf, "uninformative", nll_before, math.log(len(differences) + 1), 0, False)
    if differences.max() <= 1e-200 * size:  # no error, or none that exp(beta * d) could ever show in float64
        tied = 1 + (differences == 0).sum(axis=0)
        return TemperatureFit(0.0, "separable", nll_before, float(np.log(tied).mean()), 0, False)

    scaled, evaluations = differences / size, 0

    def slope(log_beta: float) -> float:
        nonlocal evaluations
        evaluations += 1
        return _slope(scaled, math.exp(log_beta))

    low, high = 0.0, 0.0
    while slope(low) >= 0:
        low = 2 * low - 1
    while slope(high) <= 0:
        high = 2 * high + 1
    log_beta = optimize.brentq(slope, low, high, xtol=1e-13, rtol=4 * np.finfo(float).eps)
    temperature = size * math.exp(-log_beta)
    return TemperatureFit(temperature, "ok", nll_before, _mean_nll(differences, 1 / temperature), evaluations, True)


def fit_temperature_descent(
    logits: Tensor,
    labels: Tensor,
    *,
    learning_rate: float = 0.01,
    max_steps: int = 5000,
    start: float = 1.0,
    optimiser: str = "sgd",
    parameter: str = "temperature",
    reduction: str = "sum",
    trace: bool = False,
) -> TemperatureFit:
    """The paper's `cal`: gradient descent on the temperature, for the record and for comparison.

    The paper states learning rate 0.01 and at most 5,000 steps, and equation 8 prints a sum over the n
    validation examples. It does not state the optimiser or the start; we take plain gradient descent on T
    itself from T = 1. With the sum a step is n times as long as with the mean that most code computes: long
    enough to reach the large T an overconfident model needs, and too long for a T below 1, where it jumps to
    the wrong side of 0. That is the paper's finding that `cal` works on overconfident models and fails on
    underconfident ones; with the mean it fails on both. `fit_temperature` fails on neither.
    Paper: equation 8, claim C10. Taught in: notebooks/01, notebooks/04.

    Args:
        logits: (n, n_classes) scores before softmax, on validation data.
        labels: (n,) class indices.
        learning_rate: step for a gradient of 1, in units of the parameter.
        max_steps: fewer are taken only where a step no longer changes the parameter, or on divergence.
        start: T before the first step.
        optimiser: "sgd" (plain gradient descent) or "adam" (betas 0.9, 0.999; eps 1e-8).
        parameter: what descends: "temperature" (the paper), "log_temperature" or "inverse" (1 / T).
        reduction: "sum" over the examples (equation 8 as printed) or "mean".
        trace: keep T of every step.

    Returns:
        TemperatureFit; any status is possible. "separable" and "uninformative" come with the T where the descent
        stood, converged False.

    Raises:
        ValueError: as `fit_temperature`, or an option is unknown.
    """
    if optimiser not in ("sgd", "adam") or parameter not in _PARAMETERS:
        raise ValueError(
            f"optimiser must be 'sgd' or 'adam' and parameter one of {', '.join(_PARAMETERS)}, "
            f"got {optimiser!r} and {parameter!r}"
        )
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be 'sum' or 'mean', got {reduction!r}")
    check_temperature(start, "start")
    examples = len(labels) if reduction == "sum" else 1
    exact = fit_temperature(logits, labels)
    differences = _label_differences(logits, labels)
    slope = partial(_slope, differences)
    path, diverged = _descend(slope, start, max_steps, learning_rate, optimiser, parameter, examples)
    temperature = path[-2] if diverged else path[-1]
    status = "diverged" if diverged else exact.status
    if status == "ok" and abs(math.log(temperature / exact.temperature)) > 0.01:
        status = "unconverged"
    return TemperatureFit(
        temperature=temperature,
        status=status,
        nll_before=exact.nll_before,
        nll_after=_mean_nll(differences, 1 / temperature),
        iterations=len(path) - 1,
        converged=status == "ok",
        trace=np.array(path) if trace else None,
    )


def _descend(
    slope: Callable[[float], float],
    start: float,
    max_steps: int,
    learning_rate: float,
    optimiser: str,
    parameter: str,
    examples: int,
) -> tuple[list[float], bool]:
    """Temperatures of a descent, the start included; True if the last one is out of range: the descent diverged."""
    to_parameter, to_temperature, chain = _PARAMETERS[parameter]
    value, path = to_parameter(float(start)), [float(start)]
    first = second = 0.0
    for step in range(1, max_steps + 1):
        gradient = examples * chain(path[-1]) * slope(1 / path[-1])
        move = learning_rate * gradient
        if optimiser == "adam":
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient * gradient
            move = learning_rate * (first / (1 - 0.9**step)) / (math.sqrt(second / (1 - 0.999**step)) + 1e-8)
        if value - move == value:
            break
        value -= move
        path.append(to_temperature(value))
        # Bounds that keep 1 / T**2 finite; NaN fails every comparison.
        if not 1e-100 < path[-1] < 1e100:
            return path, True
    return path, False


@dataclass(frozen=True)
class Platt:
    """softmax(slope * logits + bias) with one slope and one bias for each class. May change predictions.

    Attributes:
        slope, bias: (n_classes,) float64.
        nll: mean negative log-likelihood of the data it was fitted on, in nats.
        converged: the largest derivative of the NLL is at most 1e-4 of the size of the terms it sums.
    """

    slope: Tensor
    bias: Tensor
    nll: float
    iterations: int
    converged: bool

    def logits(self, logits: Tensor) -> Tensor:
        """slope * logits + bias, (n, n_classes), differentiable, in the dtype of `logits`."""
        # In float64 on the way: slopes of 1e6, which tiny logits need, do not exist in float16.
        slope, bias = self.slope.to(logits.device), self.bias.to(logits.device)
        return (slope * logits.double() + bias).to(logits.dtype)

    def probs(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities, (n, n_classes) float64."""
        return self.logits(logits.double()).softmax(dim=1)


def fit_platt(
    logits: Tensor, labels: Tensor, *, solver: str = "exact", learning_rate: float = 0.01, max_steps: int = 5000
) -> Platt:
    """Platt scaling for several classes: a slope and a bias for each class, by multinomial NLL.

    The paper does not state its parametrisation; this is vector scaling (Guo et al. 2017, section 4.2), for two
    classes Platt's sigmoid with a slope for each logit. It has no temperature's guarantee: unequal slopes and
    biases reorder classes, so what fools the calibrated model may not fool the original.
    Paper: section 3.4, table 19, claim C13. Taught in: notebooks/04.

    Args:
        logits: (n, n_classes) scores before softmax, on validation data.
        labels: (n,) class indices.
        solver: "exact" (L-BFGS on standardised logits; the problem is convex, and where no finite optimum exists
            it stops once the NLL no longer falls) or "descent" (the paper: plain gradient descent on the mean
            NLL from slope 1, bias 0).
        learning_rate: of "descent".
        max_steps: of either solver.

    Raises:
        ValueError: as `fit_temperature`, or the solver is unknown.
    """
    logits, labels = check_predictions(logits, labels)
    z = logits.detach().double().cpu().numpy()
    target = np.eye(z.shape[1])[labels.cpu().numpy()]

    def nll_and_gradient(flat: np.ndarray, features: np.ndarray) -> tuple[float, np.ndarray]:
        slope, bias = flat.reshape(2, -1)
        log_probs = special.log_softmax(features * slope + bias, axis=1)
        error = (np.exp(log_probs) - target) / len(features)
        return -float((log_probs * target).sum()) / len(features), np.r_[(error * features).sum(0), error.sum(0)]

    n_classes = z.shape[1]
    if solver == "descent":
        flat = np.r_[np.ones(n_classes), np.zeros(n_classes)]
        for _ in range(max_steps):
            flat = flat - learning_rate * nll_and_gradient(flat, z)[1]
        slope, bias, iterations = flat[:n_classes], flat[n_classes:], max_steps
    elif solver == "exact":
        centre = z.mean(axis=0)
        size = float(np.abs(z - centre).mean()) or 1.0
        start = np.r_[np.ones(n_classes), np.zeros(n_classes)]
        found = optimize.minimize(
            nll_and_gradient,
            start,
            args=((z - centre) / size,),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": max_steps, "maxfun": 2 * max_steps, "gtol": 1e-9, "ftol": 1e-15, "maxcor": 30},
        )
        slope, iterations = found.x[:n_classes] / size, int(found.nit)
        bias = found.x[n_classes:] - slope * centre
    else:
        raise ValueError(f"solver must be 'exact' or 'descent', got {solver!r}")
    nll, gradient = nll_and_gradient(np.r_[slope, bias], z)
    sizes = np.r_[np.abs(z).mean(axis=0), np.ones(n_classes)]
    converged = bool((np.abs(gradient) <= 1e-4 * sizes).all())
    return Platt(torch.from_numpy(slope), torch.from_numpy(bias), nll, iterations, converged)


@dataclass(frozen=True)
class OneVsRest:
    """One monotone map for each class, from its log-odds to a probability, then rows divided by their sum.

    Steps have no gradient, so there is no `.logits`: an attack cannot search on it (paper, section 4). Flat
    pieces create ties and rows are renormalised, so predictions may change.
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
    """Isotonic regression for each class against the rest (scikit-learn's), on the log-odds of its softmax.

    Log-odds order examples as probabilities do, but keep their order where float64 probabilities are all 1.0.
    Predictions may change. Zadrozny and Elkan, KDD 2002. Arguments and errors as `fit_temperature`.
    """
    from sklearn.isotonic import IsotonicRegression

    logits, labels = check_predictions(logits, labels)
    hits = np.eye(logits.shape[1])[labels.cpu().numpy()]
    fits = [
        IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(odds, hit)
        for odds, hit in zip(_log_odds(logits).T, hits.T, strict=True)
    ]
    return OneVsRest(tuple(fit.predict for fit in fits))


def fit_histogram(logits: Tensor, labels: Tensor, n_bins: int = 15) -> OneVsRest:
    """Histogram binning for each class against the rest, in bins of equal count of its softmax's log-odds.

    A bin's probability is its share of that class. Equal count, not equal width: an underconfident
    model has all its probabilities in one bin of equal width. Predictions may change.
    Zadrozny and Elkan, ICML 2001. Arguments and errors as `fit_temperature`; n_bins at most, fewer on ties.
    """
    logits, labels = check_predictions(logits, labels)
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}")
    hits = np.eye(logits.shape[1])[labels.cpu().numpy()]
    return OneVsRest(
        tuple(_histogram_map(odds, hit, n_bins) for odds, hit in zip(_log_odds(logits).T, hits.T, strict=True))
    )


def typical_gap(logits: Tensor) -> float:
    """Median over rows of largest minus second largest logit, (n, n_classes) logits, in their unit.

    Divided by T it is the typical log-odds of the two leading classes: a temperature of this size makes
    confidence middling, which is where to centre a search. 0.0 where most rows are tied.
    """
    logits = check_logits(logits)
    top = logits.detach().double().topk(2, dim=1).values.cpu().numpy()
    return float(np.median(top[:, 0] - top[:, 1]))


# name: (T -> parameter, parameter -> T, T -> factor that turns dNLL/dbeta into dNLL/dparameter)
_PARAMETERS: dict[str, tuple[Callable, Callable, Callable]] = {
    "temperature": (lambda t: t, lambda v: v, lambda t: -1 / t / t),
    "log_temperature": (math.log, lambda v: math.exp(min(v, 700.0)), lambda t: -1 / t),
    "inverse": (lambda t: 1 / t, lambda v: 1 / v if v else math.inf, lambda t: 1.0),
}


def _label_differences(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Logit of each other class minus that of the label, (n_classes - 1, n) float64."""
    logits, labels = check_predictions(logits, labels)
    z = logits.detach().double().cpu()
    index = labels.cpu().long().unsqueeze(1)
    differences = z - z.gather(1, index)
    others = torch.ones_like(differences, dtype=torch.bool).scatter_(1, index, False)
    # Classes first: sums over classes then run along contiguous rows, which descent's 5,000 steps feel.
    return np.ascontiguousarray(differences[others].reshape(len(z), -1).T.numpy())


def _mean_nll(differences: np.ndarray, beta: float) -> float:
    exponents = np.vstack([np.zeros(differences.shape[1]), differences * beta])
    return float(special.logsumexp(exponents, axis=0).mean())


def _slope(differences: np.ndarray, beta: float) -> float:
    """dNLL/dbeta; the label's own exponent is 0."""
    exponents = differences * beta
    shift = np.maximum(exponents.max(axis=0), 0.0)
    weights = np.exp(exponents - shift)
    total = weights.sum(axis=0) + np.exp(-shift)
    return float(((weights * differences).sum(axis=0) / total).mean())


def _log_odds(logits: Tensor) -> np.ndarray:
    """log p_c - log(1 - p_c) of softmax(logits), (n, n_classes) float64, exact where p_c rounds to 1."""
    z = logits.detach().double().cpu()
    rest = [torch.cat([z[:, :c], z[:, c + 1 :]], dim=1).logsumexp(dim=1) for c in range(z.shape[1])]
    return (z - torch.stack(rest, dim=1)).numpy()


def _histogram_map(odds: np.ndarray, hit: np.ndarray, n_bins: int) -> Callable[[np.ndarray], np.ndarray]:
    edges = np.unique(np.quantile(odds, np.linspace(0, 1, n_bins + 1)[1:-1]))
    index = np.searchsorted(edges, odds, side="left")
    count = np.bincount(index, minlength=len(edges) + 1)
    share = np.bincount(index, weights=hit, minlength=len(edges) + 1) / np.maximum(count, 1)
    value = np.where(count > 0, share, hit.mean())
    return lambda new: value[np.searchsorted(edges, new, side="left")]
