import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import sample_problem
from scipy.special import logsumexp

from robustlib.calibration import fit as calibration
from robustlib.calibration.fit import fit_temperature, fit_temperature_descent
from robustlib.calibration.metrics import calibration_errors, calibration_report, top_label


def negative_log_likelihood(logits, labels):
    return calibration_report(logits, labels).negative_log_likelihood


NO_SIGNAL = (math.inf, "uninformative", math.log(2))


@pytest.mark.parametrize(
    ("rows", "labels", "temperature", "status", "nll"),
    [
        # gap 2 for all, 3 of 4 right: softmax gives 3/4 where 2 / T = log 3
        ([[2, 0]] * 4, [0, 0, 0, 1], 2 / math.log(3), "ok", -0.75 * math.log(0.75) - 0.25 * math.log(0.25)),
        # gaps +2, +2, -2 and a tie, which has no slope: 2 / T = log 2
        ([[2, 0], [2, 0], [0, 2], [7, 7]], [0, 0, 0, 0], 2 / math.log(2), "ok", math.log(27 / 2) / 4),
        ([[3, 0], [1, 5]], [0, 1], 0.0, "separable", 0.0),
        # right, right, and a three-way tie that no temperature can break
        ([[3, 0, 0], [0, 5, 1], [2, 2, 2]], [0, 1, 2], 0.0, "separable", math.log(3) / 3),
        ([[2, 0], [2, 0]], [1, 1], *NO_SIGNAL),  # all wrong
        ([[2, 0], [2, 0]], [0, 1], *NO_SIGNAL),  # balanced exactly: slope 0 at beta = 0
        ([[0.1, 0], [0.3, 0], [0.2, 0]], [0, 1, 0], *NO_SIGNAL),  # balanced but for rounding
        ([[1, 1], [4, 4]], [0, 1], *NO_SIGNAL),  # nothing but ties
        ([[5, 0], [1, 0], [1, 0]], [1, 0, 0], *NO_SIGNAL),  # right more often than not, wrong where it counts
    ],
)
def test_the_exact_temperature_in_closed_form(rows, labels, temperature, status, nll):
    logits, labels = torch.tensor(rows, dtype=torch.float64), torch.tensor(labels)
    fit = fit_temperature(logits, labels)
    assert fit.temperature == pytest.approx(temperature, rel=1e-12)
    assert (fit.status, fit.converged) == (status, status == "ok")
    assert fit.nll_after == pytest.approx(nll, rel=1e-9)
    assert fit.nll_before == pytest.approx(negative_log_likelihood(logits, labels), rel=1e-12)
    if status == "separable":
        with pytest.raises(ValueError, match="temperature must be finite and above 0"):
            fit.logits(logits)


def shifted(logits):
    return logits + 1e4 * torch.randn(len(logits), 1, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize(
    ("change", "factor"),
    [(partial(torch.mul, other=scale), scale) for scale in (1e-8, 3e-8, 1e-4, 1e2, 7e7)]
    + [(shifted, 1), (lambda logits: (logits / 1e6).float().double(), 1e-6)],
)
def test_rescaled_logits_rescale_the_temperature_and_a_constant_in_a_row_changes_nothing(change, factor, n_classes):
    logits, labels = sample_problem(n_classes=n_classes)
    expected = factor * fit_temperature(logits, labels).temperature
    assert fit_temperature(change(logits), labels).temperature == pytest.approx(expected, rel=1e-6)


@settings(max_examples=200)
@given(
    rows=st.lists(st.tuples(*[st.floats(-20, 20)] * 3), min_size=1, max_size=12),
    picks=st.lists(st.integers(0, 2), min_size=12, max_size=12),
)
def test_no_temperature_is_better_than_the_exact_one(rows, picks):
    logits = torch.tensor(rows, dtype=torch.float64) + 100  # so that they are never taken for probabilities
    labels = torch.tensor(picks[: len(rows)])
    fit = fit_temperature(logits, labels)
    differences = (logits - logits.gather(1, labels[:, None])).numpy()
    size = np.abs(differences).max() or 1.0
    for exponent in np.linspace(-6, 6, 49):
        assert fit.nll_after <= logsumexp(differences / size * 10.0**exponent, axis=1).mean() + 1e-9
    assert (fit.status == "ok") == (0 < fit.temperature < math.inf) == fit.converged


# The paper's descent, with reduction="mean" but where the sum is the point: its steps do not depend on n.
in_mean = partial(fit_temperature_descent, reduction="mean")
every_descent = pytest.mark.parametrize(
    ("optimiser", "parameter"), [(o, p) for o in ("sgd", "adam") for p in ("T", "log T", "1/T")]
)


def torch_descent(logits, labels, optimiser, parameter, steps):
    """An independent witness: autograd and torch.optim. T after that many steps."""
    value = torch.tensor(0.0 if parameter == "log T" else 1.0, dtype=torch.float64, requires_grad=True)
    stepper = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimiser]([value], lr=0.01)
    as_temperature = {"T": lambda: value, "log T": value.exp, "1/T": lambda: 1 / value}
    for _ in range(steps):
        stepper.zero_grad()
        torch.nn.functional.cross_entropy(logits / as_temperature[parameter](), labels).backward()
        stepper.step()
    return as_temperature[parameter]().item()


@every_descent
@pytest.mark.parametrize("steps", [1, 2, 39])
def test_descent_takes_the_steps_of_torch(optimiser, parameter, steps, monkeypatch):
    monkeypatch.setattr(calibration, "MAX_STEPS", steps)
    logits, labels = sample_problem(n=100)
    fit = in_mean(logits, labels, optimiser=optimiser, parameter=parameter)
    assert fit.temperature == pytest.approx(torch_descent(logits, labels, optimiser, parameter, steps), rel=1e-9)
    assert fit.iterations == steps


@pytest.mark.parametrize("design_temperature", [1e4, 1e6])
def test_cal_fails_on_underconfident_models_because_of_its_optimiser(design_temperature):
    """Claim C10: same model, same objective, same data; only how the minimum is looked for differs."""
    logits, labels = sample_problem()
    served = logits / design_temperature
    exact, paper = fit_temperature(served, labels), in_mean(served, labels)
    assert exact.temperature * design_temperature == pytest.approx(1.0, rel=0.1)
    assert paper.status == "unconverged" and paper.temperature > 0.9
    # Confidence stays where it was, at 1 / 5 (the paper's table 16), while the exact fit restores the model's.
    confidence = {fit: float(fit.probs(served).amax(dim=1).mean()) for fit in (paper, exact)}
    assert confidence[paper] == pytest.approx(0.2, abs=1e-3)
    assert confidence[exact] > 0.7
    # The cure is a step that does not depend on the scale of the logits, not another objective.
    assert in_mean(served, labels, optimiser="adam", parameter="log T").converged
    assert in_mean(served, labels, optimiser="adam").status == "diverged"


def test_the_sum_of_equation_8_reaches_overconfident_models_and_overshoots_underconfident_ones():
    logits, labels = sample_problem()
    by_sum = fit_temperature_descent(logits, labels, learning_rate=1e-5)
    assert by_sum.temperature == pytest.approx(in_mean(logits, labels, learning_rate=1e-5 * len(labels)).temperature)
    wanted = fit_temperature(logits * 100, labels).temperature
    with_sum, with_mean = fit_temperature_descent(logits * 100, labels), in_mean(logits * 100, labels)
    assert abs(math.log(with_sum.temperature / wanted)) < math.log(3)
    assert with_mean.temperature < wanted / 3
    down = fit_temperature_descent(logits / 1e6, labels)
    assert not down.converged
    assert down.temperature > 1e3 * fit_temperature(logits / 1e6, labels).temperature


def test_divergence_is_reported_with_the_last_valid_temperature():
    logits, labels = sample_problem()
    fit = in_mean(logits / 100, labels)
    assert (fit.status, fit.converged) == ("diverged", False)
    assert fit.temperature == pytest.approx(torch_descent(logits / 100, labels, "sgd", "T", fit.iterations - 1))
    assert torch_descent(logits / 100, labels, "sgd", "T", fit.iterations) < 0
    assert fit.nll_after == pytest.approx(negative_log_likelihood(logits / 100 / fit.temperature, labels))
    # One step on log T has the size of the gradient: with logits of 1e6 it leads past T = 1e100.
    far = in_mean(1e6 * logits, labels, parameter="log T")
    assert (far.status, far.temperature, far.iterations) == ("diverged", 1.0, 1)


@every_descent
@pytest.mark.parametrize("scale", [1e-12, 1e-2, 1e2, 1e6, 1e12])
@pytest.mark.parametrize("learning_rate", [0.01, 1e3])
def test_descent_always_ends_with_a_usable_temperature(scale, learning_rate, optimiser, parameter, monkeypatch):
    monkeypatch.setattr(calibration, "MAX_STEPS", 300)
    logits, labels = sample_problem(n=50)
    options = {"learning_rate": learning_rate, "optimiser": optimiser, "parameter": parameter}
    fit = in_mean(scale * logits, labels, **options)
    assert 0 < fit.temperature < math.inf and not math.isnan(fit.nll_after)
    assert fit.status in ("ok", "unconverged", "diverged")


def test_descent_names_the_cases_without_an_optimum():
    logits = torch.tensor([[3.0, 0.0], [1.0, 5.0]])
    separable = in_mean(logits, torch.tensor([0, 1]))
    assert separable.status == "separable" and 0 < separable.temperature < 1 and not separable.converged
    uninformative = in_mean(logits, torch.tensor([1, 0]))
    assert uninformative.status == "uninformative" and uninformative.temperature > 1


def test_platt_equals_logistic_regression_for_two_classes():
    from sklearn.linear_model import LogisticRegression

    logits, labels = sample_problem(n=2000, n_classes=2, true_temperature=2.0)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logits.numpy(), labels.numpy())
    ours = calibration.fit_platt(logits, labels)
    np.testing.assert_allclose(ours.probs(logits).numpy(), theirs.predict_proba(logits.numpy()), atol=1e-5)
    np.testing.assert_allclose(ours.slope.numpy() * [-1, 1], theirs.coef_[0], rtol=1e-4)
    assert ours.converged


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_exact_platt_does_not_depend_on_the_scale(scale):
    logits, labels = sample_problem(true_temperature=2.0)
    fit = calibration.fit_platt(scale * logits, labels)
    reference = calibration.fit_platt(logits, labels)
    assert fit.converged
    assert fit.nll == pytest.approx(reference.nll, abs=1e-9)
    assert fit.nll <= fit_temperature(logits, labels).nll_after
    np.testing.assert_allclose(fit.probs(scale * logits).numpy(), reference.probs(logits).numpy(), atol=1e-4)


def test_platt_descent_takes_the_steps_of_torch_and_fails_on_tiny_logits(monkeypatch):
    monkeypatch.setattr(calibration, "PLATT_STEPS", 50)
    logits, labels = sample_problem(n=100)
    slope, bias = (torch.full((5,), value, dtype=torch.float64, requires_grad=True) for value in (1.0, 0.0))
    stepper = torch.optim.SGD([slope, bias], lr=0.01)
    for _ in range(50):
        stepper.zero_grad()
        torch.nn.functional.cross_entropy(slope * logits + bias, labels).backward()
        stepper.step()
    fit = calibration.fit_platt(logits, labels, solver="descent")
    torch.testing.assert_close((fit.slope, fit.bias), (slope.detach(), bias.detach()))
    # Underconfident: the slopes stay at 1, biases win, every example gets the same class (cf. table 19).
    tiny = calibration.fit_platt(logits / 1e6, labels, solver="descent")
    assert not tiny.converged
    assert tiny.logits(logits / 1e6).argmax(dim=1).unique().numel() == 1


def test_platt_logits_carry_gradients_and_keep_the_dtype():
    logits, labels = sample_problem(n=200)
    fit = calibration.fit_platt(logits / 1e6, labels)
    x = (logits[:3] / 1e6).float().requires_grad_()
    out = fit.logits(x)
    assert out.dtype == torch.float32
    (gradient,) = torch.autograd.grad(out[:, 1].sum(), x)
    torch.testing.assert_close(gradient, torch.eye(5)[1].expand(3, 5) * fit.slope.float())
    torch.testing.assert_close(fit.logits(logits / 1e6), fit.slope * logits / 1e6 + fit.bias)
    separable = calibration.fit_platt(torch.tensor([[3.0, 0.0], [1.0, 5.0], [4.0, 1.0]]), torch.tensor([0, 1, 0]))
    assert separable.nll < 1e-3 and torch.isfinite(separable.slope).all()


def test_isotonic_equals_scikit_learn_on_probabilities_where_it_was_fitted():
    from sklearn.isotonic import IsotonicRegression

    logits, labels = sample_problem(n=500, n_classes=3, true_temperature=2.0)
    probs = logits.softmax(dim=1).numpy()
    raw = np.stack(
        [IsotonicRegression(y_min=0, y_max=1).fit_transform(probs[:, c], labels.numpy() == c) for c in range(3)], axis=1
    )
    expected = raw / raw.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(calibration.fit_isotonic(logits, labels).probs(logits).numpy(), expected, atol=1e-12)


def test_histogram_binning_by_hand():
    # Two classes, two bins of three; class 1 is right once in the lower and twice in the upper bin.
    logits = torch.tensor([[0.0, gap] for gap in (-3.0, -2.0, -1.0, 1.0, 2.0, 3.0)])
    fit = calibration.fit_histogram(logits, torch.tensor([0, 1, 0, 1, 0, 1]), n_bins=2)
    expected = [[2 / 3, 1 / 3]] * 3 + [[1 / 3, 2 / 3]] * 3
    np.testing.assert_allclose(fit.probs(logits).numpy(), expected)
    np.testing.assert_allclose(fit.probs(torch.tensor([[0.0, -99.0], [0.0, 0.5]])).numpy(), expected[2:4])


CALIBRATORS = [fit_temperature, calibration.fit_platt, calibration.fit_isotonic, calibration.fit_histogram]


@pytest.mark.parametrize("fit", CALIBRATORS)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_each_calibrator_calibrates_held_out_data_and_leaves_the_callers_alone(fit, scale):
    logits, labels = sample_problem(n=4000, true_temperature=2.5)
    logits, before = scale * logits, (scale * logits, labels.clone())
    probs = fit(logits[:2000], labels[:2000]).probs(logits[2000:])
    assert probs.dtype == torch.float64
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(2000, dtype=torch.float64))
    assert calibration_errors(*top_label(probs, labels[2000:]))[0] < 0.06
    kept = (probs.argmax(dim=1) == logits[2000:].argmax(dim=1)).all()
    assert kept == (fit is fit_temperature)  # none of the others keeps every prediction
    assert torch.equal(logits, before[0]) and torch.equal(labels, before[1])


def test_rows_where_every_class_gets_zero_become_uniform():
    fit = calibration.OneVsRest((lambda x: 0 * x, lambda x: 0 * x))
    assert fit.probs(torch.tensor([[3.0, 1.0]])).tolist() == [[0.5, 0.5]]


def test_typical_gap_is_the_median_gap_and_scales():
    logits = torch.tensor([[5.0, 1.0, 4.0], [0.0, 7.0, 0.0], [2.0, 2.0, -9.0]])
    assert calibration.typical_gap(logits) == 1.0
    assert calibration.typical_gap(1e-6 * logits) == pytest.approx(1e-6)
