"""A small bench in the manner of benchmarks/audit_bench.py: the audit must be right about models of known truth."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

import robustlib
from robustlib.data import load_images
from robustlib.data.folders import repository_root
from robustlib.models import seeded

N, EPSILON = 80, 0.1


@pytest.fixture(scope="module")
def bench():
    """The modules of the bench, which import each other by their plain names."""
    names = (
        "audit_masks",
        "audit_truth",
        "audit_table",
        "audit_training",
        "audit_images",
        "audit_texts",
        "audit_bench",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository_root() / "benchmarks"))
        yield {name: __import__(name) for name in names}
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def digits():
    data = {split: load_images("digits", split) for split in ("train", "validation", "test")}
    return {split: (part.images, part.labels) for split, part in data.items()}


@pytest.fixture(scope="module")
def net(digits):
    """An honest network, trained in a second, whose parts cannot be looked into (`sealed` hides them in a function)."""
    images, labels = digits["train"]
    with seeded(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(40):
            for rows in torch.randperm(len(images)).split(128):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
                optimiser.step()
    return model.eval().requires_grad_(False)


MODELS = {  # name: how it is made of the honest network, and the verdicts that are right
    "as it is": (lambda m, net: net, {"no illusion found"}),
    "log-softmax": (lambda m, net: m.shown(net, lambda z: z.log_softmax(1)).model, {"no illusion found"}),
    "T = 1e-4": (lambda m, net: m.shown(net, m.divided(1e-4)).model, {"miscalibration"}),
    "T = 1e-4, sealed": (lambda m, net: m.sealed(net, m.divided(1e-4)).model, {"miscalibration"}),
    "hard-max": (lambda m, net: m.shown(net, m.hard_max).model, {"masked"}),
    "rounded to 5": (lambda m, net: m.shown(net, m.to_grid(5.0)).model, {"masked"}),
    "saw-tooth": (lambda m, net: m.shown(net, m.saw(10.0)).model, {"masked"}),
    "inputs of 3 levels": (lambda m, net: m.Quantised(net, 3), {"masked"}),
    "labels permuted": (lambda m, net: m.shown(net, lambda z: z.roll(1, 1)).model, {"broken"}),
    "two labels swapped": (lambda m, net: m.shown(net, lambda z: z[:, [1, 0, *range(2, 10)]]).model, {"broken"}),
    "normalised in place": (lambda m, net: m.InPlace(net), {"broken"}),
    "batch norm in training mode": (lambda m, net: nn.Sequential(nn.BatchNorm2d(1), net).train(), {"broken"}),
    "NaN answers": (lambda m, net: m.shown(net, m.nan_where(0.1)).model, {"broken"}),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_audit_is_right_about(name, bench, digits, net):
    build, right = MODELS[name]
    inputs, labels = bench["audit_bench"].arranged(tuple(part[:N] for part in digits["test"]), digits["validation"])
    report = robustlib.audit(build(bench["audit_masks"], net), inputs, labels, epsilon=EPSILON, n=N)
    assert report.verdict in right, str(report)


def test_permuted_labels_are_found_where_the_classes_alternate(bench, digits, net):
    def alternating(images, labels):
        halves = [(labels < 5).nonzero()[:, 0], (labels >= 5).nonzero()[:, 0]]
        n = min(map(len, halves))
        order = torch.stack([half[:n] for half in halves], dim=1).flatten()
        return images[order], labels[order]

    parts = (alternating(*digits[split]) for split in ("test", "validation"))
    flipped = bench["audit_masks"].shown(net, lambda logits: logits.flip(1)).model
    inputs, labels = bench["audit_bench"].arranged(*parts)
    report = robustlib.audit(flipped, inputs, labels, epsilon=EPSILON, n=100)
    assert report.finding("labels.permuted").severity == "fatal"


def test_examples_are_arranged_so_that_the_audit_attacks_those_whose_truth_was_measured(bench, digits, net):
    test = tuple(part[:N] for part in digits["test"])
    report = robustlib.audit(net, *bench["audit_bench"].arranged(test, digits["validation"]), epsilon=EPSILON, n=N)
    truth = bench["audit_truth"].image_truth(
        bench["audit_images"].plain_module(net), test, digits["validation"], epsilon=EPSILON
    )
    assert report.clean.percent == pytest.approx(truth.clean)
    assert truth.strongest <= truth.scale <= truth.standard


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ({"clean": 88, "standard": 30, "scale": 29, "strongest": 25}, "no illusion found"),
        ({"clean": 88, "standard": 80, "scale": 20, "strongest": 15}, "miscalibration"),
        ({"clean": 88, "standard": 80, "scale": 75, "strongest": 15}, "masked"),
        ({"clean": 10, "standard": 0, "scale": 0, "strongest": 0}, "broken"),
        ({"clean": 88, "standard": np.nan, "scale": np.nan, "strongest": np.nan}, "broken"),
    ],
)
def test_a_truth_is_read_off_the_accuracies(numbers, verdict, bench):
    assert bench["audit_truth"].Truth(n=100, majority=10.0, **numbers).verdict == verdict


def test_inconclusive_is_right_only_where_the_truth_cannot_be_had(bench):
    truth = bench["audit_truth"].Truth(100, 88.0, 10.0, 80.0, 75.0, 15.0).as_row()
    for reachable in (True, False):
        entry = bench["audit_masks"].Entry("x", "fashion", "masked", lambda: None, reachable=reachable)
        assert bench["audit_table"].Result(entry, truth, {"verdict": "inconclusive"}).right is not reachable
        assert bench["audit_table"].Result(entry, truth, {"verdict": "masked"}).right


def test_what_fell_to_the_audit_does_not_stand(bench):
    truth = bench["audit_truth"].Truth(100, 88.0, 10.0, 80.0, 75.0, 15.0)
    assert truth.with_bounds(20.0, 10.0).as_row() == truth.as_row() | {
        "scale": 20.0,
        "strongest": 10.0,
        "gap": 70.0,
        "truth": "miscalibration",
    }
    assert truth.with_bounds(100.0, 100.0) == truth


def test_names_in_the_bench_are_unique(bench):
    entries = [entry for kind in ("tuned", "fresh", "seeds") for entry in bench["audit_bench"].entries_of(kind)]
    assert len({(entry.data, entry.name) for entry in entries}) == len(entries) >= 100
