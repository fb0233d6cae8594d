"""The audit of text models whose truth is known."""

import pytest
import torch
from audit_subjects import hard, sentences, words_subject

from robustlib.audit.run import audit_subject


def audit(show=lambda z: z, gives="logits", **options):
    texts, labels = sentences(200)
    return audit_subject(words_subject(show, gives), texts, labels, n=100, **options)


def constant_gap(logits):
    return logits / (logits[:, :1] - logits[:, 1:]).abs() * 3


def saw_tooth(logits, period=3.0):
    """A gap that runs backwards within each period: never near a tie, and no sign of it in any single answer."""
    gap = (logits[:, :1] - logits[:, 1:]).abs()
    return logits / gap * ((2 * (gap / period).floor() + 1.05) * period - gap)


def upside_down(logits):
    return logits / (logits[:, :1] - logits[:, 1:]).abs().pow(2).clamp_min(1e-3)


@pytest.fixture(scope="module")
def honest():
    return audit()


def test_an_honest_model_is_not_accused(honest):
    assert honest.verdict == "no illusion found"
    assert honest.as_served.percent < honest.clean.percent - 20
    assert honest.rung("transfer").status == "done" and honest.rung("decisions").status == "skipped"


@pytest.mark.parametrize("temperature", [1e-3, 1e8])
def test_a_badly_scaled_model_is_miscalibrated(honest, temperature):
    report = audit(lambda z: z / temperature)
    assert report.verdict == "miscalibration"
    assert report.at_most.percent == pytest.approx(honest.at_most.percent, abs=5)


@pytest.mark.parametrize("show", [lambda z: 5 * hard(z), constant_gap], ids=["one-hot", "constant gap"])
def test_scores_that_say_nothing_but_the_label_are_masked(honest, show):
    report = audit(show)
    assert report.verdict == "masked"
    assert report.at_most.percent == pytest.approx(honest.at_most.percent, abs=12)
    assert report.rung(report.found_by).family == "black box"


@pytest.mark.parametrize("show", [saw_tooth, upside_down])
def test_scores_that_do_not_lead_where_a_surrogate_gets_are_masked(honest, show):
    report = audit(show)
    assert report.verdict == "masked" and report.rung(report.found_by).family == "black box"
    assert report.rung("decisions").status == "done"
    assert report.finding("scores.direction").severity == "warning" and "surrogate" in report.reason
    assert report.at_most.percent == pytest.approx(honest.at_most.percent, abs=12)


@pytest.mark.parametrize("show", [lambda z: z, lambda z: 1e3 * z, saw_tooth], ids=["honest", "hot", "saw-tooth"])
def test_little_is_asked_beside_the_attacks(show):
    report = audit(show)
    attacks = report.settings["n"] + sum(rung.forwards for rung in report.rungs)  # clean texts are asked once
    assert report.forwards <= 1.2 * attacks


def test_random_answers_are_drawn_anew_and_judged_by_their_mean():
    report = audit(lambda z: z + 0.5 * torch.randn_like(z))
    assert report.finding("answers.random").severity == "warning"
    assert report.settings["draws"] > 1
    assert any(0 < share < 1 for share in report.rung("as served").standing)


@pytest.mark.parametrize(
    ("name", "show", "gives"),
    [
        ("labels.permuted", lambda z: z.flip(1), "logits"),
        ("answers.finite", lambda z: torch.where(z[:, :1] > 2, torch.nan, z), "logits"),
        ("answers.kind", lambda z: z.softmax(dim=1), "logits"),
    ],
)
def test_what_is_broken_is_said_first(name, show, gives):
    report = audit(show, gives)
    assert report.verdict == "broken" and report.finding(name).severity == "fatal"


def test_labels_alone_are_inconclusive():
    report = audit(hard, "labels")
    assert report.verdict == "inconclusive" and "instead of labels" in report.remedy


def test_two_decimals_are_taken_for_the_probabilities_that_they_are(honest):
    report = audit(lambda z: (100 * z.softmax(dim=1)).round() / 100, "probabilities")
    assert report.finding("answers.coarse").values["decimals"] == 2
    assert report.at_most.percent == pytest.approx(honest.at_most.percent, abs=8)
