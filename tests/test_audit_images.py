"""The audit of image models whose truth is known: honest, badly scaled, masked in many ways, broken."""

from copy import deepcopy

import pytest
import torch
from audit_subjects import EPSILON, N_CLASSES, black, hard, held_out, net, white
from torch import nn

from robustlib.audit.run import audit_subject
from robustlib.audit.subject import Subject

TRUTH = 26.0  # percent of the 200 held-out images that the strongest search leaves of the network itself


def audit(subject, n=200, **options):
    images, labels = held_out()
    return audit_subject(subject, images[:n], labels[:n], epsilon=EPSILON, **options)


def random_scale(logits):
    return logits * torch.exp(torch.randn(len(logits), 1))


HONEST = {
    "logits": white(),
    "probabilities": white("probabilities", behind=lambda z: z.softmax(dim=1)),
    "log-probabilities": white("log-probabilities", behind=lambda z: z.log_softmax(dim=1)),
    "capped smoothly": white(behind=lambda z: 20 * torch.tanh(z / 20)),
    "bfloat16": white(behind=lambda z: z.bfloat16()),
    "random scale": white(behind=random_scale),
    "some noise": white(before=lambda x: x + 0.1 * torch.randn_like(x)),
    "black box": black("probabilities", behind=lambda z: z.softmax(dim=1)),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_model_is_not_accused(name):
    report = audit(HONEST[name])
    assert report.verdict == "no illusion found"
    assert report.at_most.percent == pytest.approx(TRUTH, abs=4)
    assert report.exit_status == 0
    report.raise_for_verdict(at_least=20)


@pytest.mark.parametrize("temperature", [1e-4, 1e5])
def test_a_badly_scaled_model_is_miscalibrated_and_told_its_size(temperature):
    report = audit(white(behind=lambda z: z / temperature))
    assert report.verdict == "miscalibration"
    assert report.at_most.percent == pytest.approx(TRUTH, abs=3)
    assert report.gap.low > 0
    assert report.finding("scale.temperature").values["temperature"] == pytest.approx(0.9 / temperature, rel=0.5)


MASKED = {
    "gradient.zero": (white(behind=lambda z: (10 * z).round() / 10, inside=False), "straight-through"),
    "answers.coarse": (white(behind=torch.round, inside=False), "straight-through"),
    "gradient.missing": (white(behind=hard), "inner"),
    "boundary.jump": (white(behind=lambda z: hard(z) * 3 + 0.1 * torch.sin(z), inside=False), None),
    "gradient.differences": (white(before=lambda x: (x * 5).round() / 5), "straight-through"),
    "scale.walls": (white("probabilities", behind=lambda z: (100 * z).softmax(dim=1)), "inner"),
}


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_is_named_and_undone(name):
    subject, found_by = MASKED[name]
    report = audit(subject)
    assert report.verdict in ("masked", "miscalibration") if name == "scale.walls" else report.verdict == "masked"
    assert report.finding(name).severity == "warning"
    assert found_by in (None, report.found_by)
    assert report.at_most.percent < report.as_served.percent - 20
    assert report.rung(report.found_by).accuracy == report.at_most


def test_rounding_that_the_search_inside_survives_is_not_a_mask():
    """What hides nothing is no illusion: labels' gaps are all the same, but the network inside was searched."""
    robust = white(behind=hard)
    images, labels = held_out()
    report = audit_subject(robust, images[:60], labels[:60], epsilon=1e-4)
    assert report.verdict == "no illusion found"
    assert report.finding("inner.sound") is not None


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("labels.permuted", white(behind=lambda z: z.roll(1, dims=1))),
        ("labels.majority", white(behind=lambda z: z * 0 + torch.tensor([1.0, 0, 0, 0]))),
        ("answers.finite", white(behind=lambda z: torch.where(z[:, :1] > 3, torch.nan, z))),
        ("answers.kind", white(behind=lambda z: z.softmax(dim=1))),
        ("input.changed", white(before=lambda x: x.sub_(0.5).add(0.5))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_broken_is_said_first(name, subject):
    report = audit(subject, n=100)
    assert report.verdict == "broken"
    assert report.finding(name).severity == "fatal"
    assert report.finding(name).sentence in report.reason
    assert report.clean is not None and report.exit_status == 5


class Decoy(nn.Module):
    """Rounded logits, which predict as the model does and have no gradient; then the network and a hard maximum."""

    def __init__(self):
        super().__init__()
        self.rounded = white(behind=lambda z: (2 * z).round(), inside=False).module
        self.net = deepcopy(net())
        self.eval()

    def forward(self, images):
        return hard(self.net(images)) + 0 * self.rounded(images)


def test_of_several_parts_that_predict_as_the_model_does_the_best_is_searched_first():
    model = Decoy()
    report = audit(Subject(model, "logits", "image", N_CLASSES, module=model))
    assert (report.verdict, report.found_by) == ("masked", "inner")
    assert report.rung("inner").note.startswith("net")
    assert report.at_most.percent == pytest.approx(TRUTH, abs=3)


def test_dropout_left_on_is_judged_as_it_is_served():
    model = nn.Sequential(nn.Dropout(0.5), net()).train()
    served = audit(Subject(model, "logits", "image", N_CLASSES, module=model))
    resting = audit(Subject(model.eval(), "logits", "image", N_CLASSES, module=model))
    assert served.verdict == "broken" and served.finding("mode.train").severity == "fatal"
    assert resting.verdict == "no illusion found"
    assert served.clean.percent < resting.clean.percent - 5
    assert any(0 < share < 1 for share in served.rung("as served").standing)


def test_statistics_of_a_model_in_training_mode_are_left_as_they_were():
    model = nn.Sequential(nn.BatchNorm2d(1), net()).train()
    before = model[0].running_mean.clone()
    audit(Subject(model, "logits", "image", N_CLASSES, module=model), n=50)
    assert torch.equal(model[0].running_mean, before) and model.training


def test_labels_alone_are_inconclusive():
    report = audit(black("labels", behind=hard), n=100)
    assert report.verdict == "inconclusive"
    assert "scores" in report.remedy
    assert report.at_most.percent < 45  # though decisions alone come near the truth


def test_saturated_probabilities_of_a_black_box_lose_to_decisions():
    report = audit(black("probabilities", behind=lambda z: (100 * z).softmax(dim=1)), n=100)
    assert report.verdict == "masked" and report.found_by == "decisions"


def test_a_targeted_margin_finds_what_label_smoothing_hides():
    model = net(0.6)
    report = audit(Subject(model, "logits", "image", N_CLASSES, module=model))
    served, targeted = report.rung("as served").accuracy, report.rung("targeted").accuracy
    assert targeted.percent <= report.rung("margin").accuracy.percent <= served.percent


def test_nan_gradients_are_named_and_searched_a_hair_inside():
    """sign(NaN) is 0, so that the usual attack leaves every black pixel as it is and says nothing."""
    report = audit(white(before=lambda x: x.sqrt().square()))
    assert report.finding("gradient.nan").severity == "warning"
    assert report.rung("inside").accuracy.percent == pytest.approx(TRUTH, abs=1)
    assert report.verdict in ("no illusion found", "masked")


def test_l2_and_features_of_one_row_are_images_too():
    images, labels = held_out()
    flat = nn.Sequential(nn.Flatten(), *net()[1:])
    subject = Subject(flat, "logits", "image", N_CLASSES, module=flat)
    rows = images.reshape(200, 1, 1, 64)
    report = audit_subject(subject, rows[:60], labels[:60], epsilon=0.4, norm="l2")
    assert report.verdict == "no illusion found" and report.rung("radius").accuracy.percent < 5


def test_forward_passes_are_those_of_the_attacks():
    report = audit(white())
    attacks = sum(rung.forwards for rung in report.rungs) + report.finding("attack.rising").values["forwards"]
    assert report.forwards <= 1.2 * attacks


def test_figures_get_accuracy_by_radius_and_reliability():
    report = audit(white(behind=lambda z: 1e4 * z), n=80)
    served, most = (dict(map(tuple, report.curves["radius"][name])) for name in ("as served", "at most"))
    assert served[0.0] == most[0.0] == report.clean.percent and served[EPSILON] == report.as_served.percent
    assert served[0.5] > 50 and most[0.5] == 0
    assert sum(count for *_, count in report.curves["reliability"]) == 80
    assert report.finding("attack.rising").severity == "fine"


def test_a_search_over_temperatures_is_run_on_request_and_finds_what_calibration_finds():
    subject = white(behind=lambda z: z / 1e-4)
    asked, plain = audit(subject, n=60, thorough=True, figures=False), audit(subject, n=60, figures=False)
    assert plain.rung("opt").status == "skipped"
    assert "thorough=True" in plain.rung("opt").note
    assert asked.rung("opt").accuracy.percent == pytest.approx(asked.rung("calibrated").accuracy.percent, abs=7)
    assert asked.rung("opt").accuracy.percent < asked.as_served.percent - 20
