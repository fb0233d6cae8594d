import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import sample_problem
from sklearn.metrics import brier_score_loss, log_loss

from robustlib.calibration import metrics
from robustlib.calibration.checks import check_logits, looks_like_probabilities


def test_four_predictions_by_hand():
    confidence = torch.tensor([0.9, 0.8, 0.6, 0.6])
    correct = torch.tensor([True, False, True, False])
    bins = metrics.reliability_bins(confidence, correct, n_bins=4)
    assert bins["count"].tolist() == [0, 0, 2, 2]
    np.testing.assert_allclose(bins["confidence"], [np.nan, np.nan, 0.6, 0.85], rtol=1e-6)
    np.testing.assert_allclose(bins["accuracy"], [np.nan, np.nan, 0.5, 0.5])
    assert metrics.calibration_errors(confidence, correct, 4) == pytest.approx(((0.1 + 0.35) / 2, 0.35))


def test_edges_belong_to_the_bin_below():
    confidence = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    bins = metrics.reliability_bins(confidence, torch.ones(5, dtype=torch.bool), n_bins=4)
    assert bins["count"].tolist() == [2, 1, 1, 1]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_calibration_errors_agree_with_torchmetrics(temperature):
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, labels = sample_problem(600, 4)
    probs = (logits / temperature).softmax(dim=1)
    confidence, correct = metrics.top_label(probs, labels)
    for norm, ours in zip(("l1", "max"), metrics.calibration_errors(confidence, correct, 15), strict=True):
        theirs = multiclass_calibration_error(probs, labels, num_classes=4, n_bins=15, norm=norm)
        assert ours == pytest.approx(float(theirs), abs=1e-6)  # theirs sums in float32
    report = metrics.calibration_report(logits, labels, temperature=temperature)
    assert report.expected_calibration_error == pytest.approx(metrics.calibration_errors(confidence, correct)[0])
    assert (report.accuracy, report.mean_confidence) == pytest.approx(
        (float(correct.double().mean()), float(confidence.mean()))
    )


def test_a_confidence_of_one_shares_the_last_bin_unlike_in_torchmetrics():
    # Half certain and wrong, half at 0.99 and right: one bin of accuracy 1/2, confidence 0.995.
    confidence, correct = torch.tensor([1.0, 0.99]), torch.tensor([False, True])
    assert metrics.calibration_errors(confidence, correct)[0] == pytest.approx(0.495)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_nll_and_brier_agree_with_scikit_learn(temperature):
    logits, labels = sample_problem(600, 4)
    report = metrics.calibration_report(logits, labels, temperature=temperature)
    assert (report.n, report.temperature) == (600, temperature)
    truth, probs = labels.numpy(), (logits / temperature).softmax(dim=1).numpy()
    assert report.negative_log_likelihood == pytest.approx(log_loss(truth, probs, labels=range(4)), rel=1e-12)
    expected = brier_score_loss(truth, probs, labels=range(4), scale_by_half=False)
    assert report.brier_score == pytest.approx(expected, rel=1e-12)


def test_mean_confidence_of_a_flat_model_keeps_its_digits():
    # The paper's 50.00007 %: a gap of 2.8e-6 gives 0.5 + gap / 4.
    report = metrics.calibration_report(torch.tensor([[2.8e-6, 0.0]], dtype=torch.float64), torch.tensor([0]))
    assert report.mean_confidence - 0.5 == pytest.approx(7e-7, rel=1e-6)


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.floats(-300, 300).map(lambda exponent: 10.0**exponent))
def test_report_holds_its_ranges_at_every_temperature(seed, temperature):
    logits, labels = sample_problem(n_classes=4, n=30, seed=seed)
    report = metrics.calibration_report(logits, labels, temperature=temperature)
    assert report.accuracy == metrics.calibration_report(logits, labels).accuracy
    assert 1 / 4 - 1e-12 <= report.mean_confidence <= 1
    assert abs(report.accuracy - report.mean_confidence) - 1e-12 <= report.expected_calibration_error
    assert report.expected_calibration_error <= report.maximum_calibration_error + 1e-12 <= 1 + 2e-12
    assert 0 <= report.brier_score <= 2
    assert report.negative_log_likelihood >= 0


def test_report_from_probabilities_is_the_same_report():
    logits, labels = sample_problem(600, 4)
    from_probs = dataclasses.asdict(metrics.calibration_report_from_probs(logits.softmax(dim=1), labels))
    assert from_probs == pytest.approx(dataclasses.asdict(metrics.calibration_report(logits, labels)))


def test_a_sure_error_has_infinite_nll_not_a_clipped_one_and_the_largest_brier_score():
    sure, unsure = (
        metrics.calibration_report_from_probs(torch.tensor([[1.0, 0.0]]), torch.tensor([y])) for y in (1, 0)
    )
    assert math.isinf(sure.negative_log_likelihood) and (sure.brier_score, unsure.brier_score) == (2.0, 0.0)


@pytest.mark.parametrize("places", [2, 3, 4])
def test_probabilities_from_a_table_may_be_rounded(places):
    logits, labels = sample_problem(600, 4)
    probs = logits.softmax(dim=1)
    for rounded in (probs.round(decimals=places), probs.float().round(decimals=places)):
        report = metrics.calibration_report_from_probs(rounded, labels)
        assert report.mean_confidence == pytest.approx(float(probs.amax(dim=1).mean()), abs=10**-places)
        verdicts = {looks_like_probabilities(row.unsqueeze(0)) for row in rounded}
        assert verdicts == {True}  # whatever the batch, the verdict is the same


def test_smooth_calibration_error_is_the_gap_of_a_constant_confidence_and_small_where_calibrated():
    generator = torch.Generator().manual_seed(0)
    confidence = 0.5 + 0.5 * torch.rand(20_000, generator=generator)
    correct = torch.rand(20_000, generator=generator) < confidence
    assert metrics.smooth_calibration_error(confidence, correct) < 0.02
    assert metrics.smooth_calibration_error(torch.ones(20_000), correct) == pytest.approx(0.25, abs=0.01)
    assert metrics.smooth_calibration_error(confidence.square(), correct) == pytest.approx(0.75 - 0.583, abs=0.02)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_probabilities_are_recognised_at_every_precision_and_logits_of_any_scale_are_not(dtype):
    assert looks_like_probabilities(torch.softmax(torch.randn(40, 6), dim=1).to(dtype))
    for logits in (torch.randn(40, 6), torch.rand(40, 6)):
        for scale in (1e-8, 1e-3, 1.0, 1e6):
            check_logits(logits * scale)
        check_logits(torch.log_softmax(logits, dim=1))
