"""The rules from findings and rungs to a verdict, on made-up audits."""

import numpy as np
import pytest

from robustlib.audit import Finding, Rung
from robustlib.audit.case import accuracy_of, difference_of
from robustlib.audit.verdict import judge

N = 200


def rung(name, percent, family, status="done"):
    standing = np.arange(N) < percent * N / 100
    return Rung(
        name, "somehow", "pgd", family, status, accuracy_of(standing.astype(float)), n=N, standing=tuple(standing * 1.0)
    )


def ladder(served, *, scale=None, strength=None, unmask=None, black_box=None):
    values = {"scale": scale, "strength": strength, "unmask": unmask, "black box": black_box}
    others = [rung(family, value, family) for family, value in values.items() if value is not None]
    return [rung("noise", 99, "sanity"), rung("as served", served, "served"), *others]


def flag(name, severity="warning", **values):
    return Finding(name, "contract", severity, f"{name} was found", values)


@pytest.mark.parametrize(
    ("rungs", "findings", "verdict", "words"),
    [
        (ladder(40, scale=38), [], "no illusion found", "2.0 points apart"),
        (ladder(40, scale=38), [flag("scale.temperature")], "no illusion found", "hides nothing here"),
        (ladder(40, scale=36.5, strength=35), [], "no illusion found", ""),  # 5 points are not more than 5
        (ladder(80, scale=30), [], "miscalibration", "50.0 points fall to scale"),
        (ladder(80, scale=40, unmask=30), [], "miscalibration", "10.0 more to unmask"),
        (ladder(80, scale=70, unmask=30), [flag("answers.coarse", distinct=0.5, blind=0.02)], "masked", "rounded"),
        (ladder(80, scale=80, strength=60), [], "masked", "20.0 points fall to strength"),
        (ladder(80, black_box=60), [flag("answers.labels", "note")], "inconclusive", "answers.labels was found"),
        (ladder(80, black_box=60), [], "inconclusive", "may just be the better attack"),
        (ladder(40, scale=10, black_box=8), [], "miscalibration", "at most 8.0 %: 30.0 points fall to scale"),
        (ladder(80, scale=70, black_box=20), [], "miscalibration", "10.0 points fall to scale"),
        (ladder(80, scale=78, black_box=60), [], "inconclusive", "may just be the better attack"),
        (ladder(80, black_box=60), [flag("boundary.jump")], "masked", "20.0 points fall to black box"),
        (ladder(80, black_box=60), [flag("scores.direction")], "masked", "misleading"),
        (ladder(80, black_box=60), [flag("scale.temperature"), flag("scale.walls")], "inconclusive", "better attack"),
        (
            ladder(80, black_box=60),
            [flag("scale.walls"), flag("answers.kind", "fine", gives="logits")],
            "inconclusive",
            "",
        ),
        (
            ladder(80, black_box=60),
            [flag("scale.walls"), flag("answers.kind", "fine", gives="probabilities")],
            "masked",
            "",
        ),
        (ladder(80, scale=79), [flag("gradient.zero")], "inconclusive", "gradient.zero was found"),
        (ladder(80, scale=79), [flag("answers.labels", "note")], "inconclusive", ""),
        (ladder(4, scale=3), [flag("gradient.differences")], "no illusion found", ""),  # 4 points cannot hide 5
        (ladder(80, scale=79), [flag("answers.coarse", distinct=0.01, blind=0.02)], "inconclusive", ""),
        (ladder(80, scale=79), [flag("answers.coarse", distinct=0.04, blind=0.02)], "no illusion found", ""),
        (
            ladder(80, unmask=79),
            [flag("gradient.zero"), flag("inner.sound", "fine")],
            "inconclusive",
            "beside the usual",
        ),
        (
            ladder(80, scale=80, unmask=79),
            [flag("gradient.zero"), flag("inner.sound", "fine")],
            "no illusion found",
            "",
        ),
        (ladder(80, scale=20), [flag("labels.permuted", "fatal")], "broken", "labels.permuted was found"),
        (ladder(80), [], "inconclusive", "no attack beside the usual one"),
        ([rung("noise", 90, "sanity")], [], "inconclusive", "did not finish"),
    ],
)
def test_rules(rungs, findings, verdict, words):
    result = judge(findings, rungs)
    assert result.verdict == verdict and words in result.reason
    assert result.remedy


def test_a_gap_that_chance_explains_is_no_illusion():
    """Of 20 examples one more falls: 5 points and more, but the interval holds 0."""
    before, after = np.ones(20), np.ones(20)
    after[:2] = 0
    rungs = [
        Rung("as served", "", "pgd", "served", accuracy=accuracy_of(before), standing=tuple(before)),
        Rung("margin", "", "pgd", "scale", accuracy=accuracy_of(after), standing=tuple(after)),
    ]
    assert judge([], rungs).verdict == "no illusion found"
    assert judge([], rungs).gap.low < 0 < judge([], rungs).gap.points


def test_shares_of_draws_get_intervals_of_means():
    shares = np.linspace(0, 1, 50)
    assert accuracy_of(shares).low < accuracy_of(shares).percent == 50 < accuracy_of(shares).high
    difference = difference_of(shares / 2, shares)
    assert difference.points == pytest.approx(-25) and difference.high < 0
