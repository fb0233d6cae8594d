"""The rules of verdicts: three zones, shares of an illusion, and verdicts that never improve with the evidence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustlib.study.claims.rules import VERDICTS, Finding, above, below, equal, halved, removed, standing, verdict

points = st.floats(-100, 100)
intervals = st.tuples(points, points).map(lambda ends: (min(ends), max(ends)))
thresholds = st.floats(0.5, 10)
OUTCOMES = ("holds", "open", "fails", "void", "missing")
outcomes = st.sampled_from(OUTCOMES)
findings = st.lists(
    st.builds(
        Finding, st.just("a"), outcomes, part=st.sampled_from(["", "T_d < 1", "T_d > 1"]), condition=st.booleans()
    )
)


@given(intervals, thresholds)
def test_no_interval_supports_a_claim_and_its_negation(interval, smallest):
    assert [above(smallest)(interval), below(smallest)(interval)] in (
        ["holds", "fails"],
        ["fails", "holds"],
        ["open", "open"],
    )
    raised, lowered, same = above(smallest)(interval), below(-smallest)(interval), equal(smallest)(interval)
    assert [raised, lowered, same].count("holds") <= 1
    assert same != "holds" or (raised, lowered) == ("fails", "fails")


@given(intervals, intervals)
def test_an_illusion_is_not_both_removed_and_left_standing(illusion, left):
    gone, stays, half = (rule(illusion, left) for rule in (removed, standing, halved))
    assert {gone, stays} != {"holds"}
    assert (gone == "void") == (stays == "void") == (illusion[0] <= 5)
    assert gone != "holds" or stays in ("fails", "open")
    assert (stays == "holds") == (half == "fails")


@given(intervals, st.floats(0, 50), thresholds)
def test_a_wider_interval_decides_nothing_that_a_narrower_one_leaves_open(interval, more, smallest):
    wide = interval[0] - more, interval[1] + more
    for rule in (above(smallest), below(smallest), equal(smallest)):
        assert rule(wide) in (rule(interval), "open")


RANK = {"not tested": 0, "nothing to test": 0, "not reproduced": 1, "inconclusive": 2, "partly": 3, "reproduced": 4}


@given(findings, st.data())
def test_a_verdict_never_improves_when_evidence_worsens(group, data):
    judged = [i for i, finding in enumerate(group) if finding.outcome in ("holds", "open")]
    before = verdict(group)
    assert before in VERDICTS
    if judged:
        index = data.draw(st.sampled_from(judged))
        worse = {"holds": "open", "open": "fails"}[group[index].outcome]
        changed = [*group]
        changed[index] = Finding("a", worse, part=group[index].part, condition=group[index].condition)
        assert RANK[verdict(changed)] <= RANK[before]


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("holds holds", "reproduced"),
        ("holds void", "reproduced"),
        ("holds fails", "partly"),
        ("holds open", "partly"),
        ("holds missing", "partly"),
        ("fails open", "not reproduced"),
        ("open void", "inconclusive"),
        ("open missing", "inconclusive"),
        ("void missing", "nothing to test"),
        ("missing", "not tested"),
        ("", "not tested"),
    ],
)
def test_outcomes_make_a_verdict(group, expected):
    assert verdict([Finding("a", outcome) for outcome in group.split()]) == expected


def test_a_part_that_is_void_altogether_caps_the_verdict_and_a_condition_cannot_carry_it():
    over, under = Finding("a", "holds", part="T_d < 1"), Finding("b", "void", part="T_d > 1")
    assert verdict([over, under, under]) == "partly"
    assert verdict([over, under, Finding("c", "holds", part="T_d > 1")]) == "reproduced"
    price = {outcome: Finding("clean accuracy", outcome, condition=True) for outcome in OUTCOMES}
    assert verdict([Finding("gain", "fails"), price["holds"]]) == "not reproduced"
    assert verdict([Finding("gain", "holds"), price["fails"]]) == "partly"
    assert verdict([Finding("gain", "open"), price["fails"]]) == "inconclusive"
    assert verdict([price["holds"]]) == "not tested"


def around(mean, half=0.5):
    return mean - half, mean + half


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (above(2)(around(0.1, 0.05)), "fails"),  # +0.1 was "raised"
        (removed(around(4.5), around(4.3)), "void"),  # +4.5 -> +4.3 was "removed"
        (standing(around(60), around(6)), "fails"),  # +60 -> +6 was "left standing"
        (above(2)((1.0, 4.5)), "open"),  # was an illusion in one claim ...
        (equal(2)((1.0, 4.5)), "open"),  # ... and none in another
        (above(-2)(around(-4.9)), "fails"),  # a search ahead of the margin by 4.9 was "never beats it"
        (equal(2)(around(-10)), "fails"),  # far below counted as equal
        (above(2)((np.nan, np.nan)), "open"),
    ],
)
def test_constructed_intervals_for_which_the_first_rules_were_plainly_wrong(outcome, expected):
    assert outcome == expected
