"""Our own claims on the calibrated illusion: made-up records make each verdict come and go."""

import pandas as pd
import pytest
from record_rows import record

from robustlib.study.claims.judge import judge_claims
from robustlib.study.records import COLUMNS, HONEST

LEFT = {  # points above honest, by (disguise, adversary)
    **{("T(x) gap", adversary): 70.0 for adversary in ("naive", "cal-exact", "opt", "margin")},
    ("T(x) gap", "dlr"): 1.0,
    ("T(x) gap", "transfer:seed100"): 30.0,
    ("T(x) gap", "label-only"): 20.0,
    **{("floor 2.5", adversary): 50.0 for adversary in ("naive", "cal-exact", "opt", "margin", "dlr")},
    ("floor 2.5", "warm"): 15.0,
}


def verdicts(changes=(), *, ece=0.0, modality="image"):
    """Verdict and reason of each claim; a value of None is a number that was not recorded."""
    where = {"modality": modality, "experiment": "04_x", "attack": {"image": "pgd", "text": "dg"}[modality]}
    rows = [
        record(mean, method=name, adversary=adversary, metric="accuracy_difference", reference=HONEST, **where)
        for (name, adversary), mean in (LEFT | dict(changes)).items()
        if mean is not None and (modality, name, adversary) != ("text", "T(x) gap", "dlr")  # two classes: no ratio
    ]
    if ece is not None:
        clean = where | {"attack": "clean", "adversary": "naive", "method": "T(x) gap"}
        rows.append(record(ece, half=float("nan"), metric="ece", **clean))
    judgements = judge_claims(pd.DataFrame(rows, columns=COLUMNS)).judgements
    return {j.claim: (j.verdict, j.reason) for j in judgements if j.modality == modality}


def test_in_a_world_where_all_hold_all_are_reproduced():
    image, text = verdicts(), verdicts(modality="text")
    assert {image[claim] for claim in ("O5", "O6", "O8")} == {("reproduced", "")}
    assert {text[claim] for claim in ("O5", "O7", "O8")} == {("reproduced", "")}
    assert image["O7"][0] == "not tested"  # it is about two classes, and a ratio was measured
    # and what hides behind a disguise is no evidence for a constant temperature
    assert {image[claim][0] for claim in ("C1", "C9", "C10", "C14", "O1", "O2")} == {"not tested"}


@pytest.mark.parametrize(
    ("claim", "changes", "expected", "reason"),
    [
        ("O5", {"changes": {("T(x) gap", "cal-exact"): 1.0}}, "not reproduced", "cal-exact behind T(x) gap"),
        ("O5", {"changes": {("T(x) gap", "cal-exact"): 35.0}}, "inconclusive", "open: cal-exact"),
        ("O5", {"changes": {("T(x) gap", "naive"): 4.0}}, "nothing to test", "cal-exact"),
        ("O5", {"ece": 9.0}, "partly", "does not hold: calibration error of T(x) gap"),
        ("O5", {"ece": None}, "partly", "not recorded: calibration error"),
        ("O6", {"changes": {("T(x) gap", "dlr"): 60.0}}, "not reproduced", "dlr behind T(x) gap"),
        ("O7", {"modality": "text", "changes": {("T(x) gap", "margin"): 1.0}}, "partly", "margin behind"),
        ("O7", {"modality": "text", "changes": {("T(x) gap", "label-only"): 60.0}}, "partly", "label-only behind"),
        ("O7", {"modality": "text", "changes": {("T(x) gap", "transfer:seed100"): None}}, "partly", "not recorded"),
        ("O8", {"changes": {("floor 2.5", "dlr"): 1.0}}, "partly", "dlr behind floor 2.5"),
        ("O8", {"changes": {("floor 2.5", "warm"): 40.0}}, "partly", "warm behind floor 2.5"),
    ],
)
def test_each_verdict_changes_with_its_records(claim, changes, expected, reason):
    verdict, why = verdicts(**changes)[claim]
    assert verdict == expected
    assert reason in why
