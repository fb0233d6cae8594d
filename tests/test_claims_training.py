"""Claims on training: made-up records make each verdict come and go."""

from pathlib import Path

import pandas as pd
import pytest
from record_rows import record

from robustlib.study.claims import trained as claims_training
from robustlib.study.claims.findings import evidence
from robustlib.study.claims.judge import TESTS, smallest_effects
from robustlib.study.claims.rules import SMALLEST, verdict
from robustlib.study.records import COLUMNS, HONEST, Reference

STAR = "baseline_gradnorm"
GOLDEN = Path(__file__).parent / "golden"
# Points by what they measure: "illusion METHOD T" above the scale-free answer as served, "standing T" under log-odds,
# "gain METHOD T ADVERSARY ATTACK OTHER_METHOD OTHER_T", and so on.
WORLD = pd.read_csv(GOLDEN / "training_world.csv", index_col="number")["points"].to_dict()
VERDICTS = pd.read_csv(GOLDEN / "training_verdicts.csv").to_dict("records")


def world(changes="", attacks=("dg", "pwws")):
    """The verdicts in that world, by claim, after changes such as "range 2000 150; transfer absent"."""
    rows, numbers = [], dict(WORLD)
    for number, value in (change.rsplit(" ", 1) for change in changes.split("; ") if change):
        numbers[number] = None if value == "absent" else float(value)

    def add(method, t, adversary, metric, mean, attack="dg", reference=None, half=1.5, **served):
        measured = {"adversary": adversary, "attack": attack, "metric": metric, "reference": reference, "half": half}
        trained = {"method": method, "training_temperature": t, "modality": "text", "experiment": "09_x_text"}
        rows.append(record(mean, **measured, **trained, **served))

    for number, mean in numbers.items():
        kind, *words = number.split()
        key = [int(word) if word.isdigit() else word for word in words]
        if mean is None:
            continue
        if kind == "illusion":
            method, t = key
            for attack in attacks:
                standing = numbers[f"standing {t}"] if method == STAR else 20.0
                add(method, t, "margin", "accuracy", standing, attack=attack)
            add(method, t, "naive", "accuracy_difference", mean, reference=Reference(method, "margin", 1, t))
        elif kind == "gain":
            method, t, adversary, attack, other, at = key
            add(method, t, adversary, "accuracy_difference", mean, attack, Reference(other, adversary, 1, at))
        elif kind == "range":
            add(STAR, *key, "naive", "logit_range", mean, "clean")
        elif kind == "confidence":
            add(*key, 1, "naive", "confidence_difference", mean, "clean", HONEST, half=0.5)
        elif kind in ("transfer", "divided"):
            adversary, served = (f"transfer:{STAR}", 1.0) if kind == "transfer" else ("naive", 100.0)
            margin = {"reference": Reference(STAR, "margin", 1, 100), "design_temperature": served}
            add(STAR, 100, adversary, "accuracy_difference", mean, **margin)
    (data,) = evidence(pd.DataFrame(rows, columns=COLUMNS), "text").values()
    return {name: verdict(test(data, smallest_effects()[name])) for name, (test, _) in claims_training.TESTS.items()}


def test_in_a_world_where_all_hold_all_are_reproduced():
    verdicts = world()
    assert verdicts.pop("C21") == "not tested"  # about other encoders, which lesson 07 trains
    assert set(verdicts.values()) == {"reproduced"}


@pytest.mark.parametrize("row", VERDICTS, ids=lambda row: f"{row['claim']}: {row['changes']}")
def test_each_verdict_changes_with_its_records(row):
    assert world(row["changes"])[row["claim"]] == row["verdict"]


def test_one_attack_cannot_show_that_one_temperature_serves_all():
    assert world(attacks=("dg",))["C20"] == "partly"


def test_the_temperature_nearest_to_the_paper_s_is_judged():
    """T = 2000 loses here, T = 100 gains: the claim is about 200, ten times nearer to the former in decades."""
    changes = (f"gain {STAR} 2000 {adversary} dg {STAR} 1 -30" for adversary in ("margin", "cal"))
    assert world("; ".join(changes))["C17"] == "reproduced"


def test_the_models_of_the_training_notebooks_are_no_evidence_for_other_claims():
    where = {"modality": "text", "experiment": "13_x", "part": "training", "method": "baseline"}
    measured = {"metric": "accuracy", "adversary": "naive", "attack": "dg"}
    rows = pd.DataFrame([record(50.0, **measured, **where)], columns=COLUMNS)
    (data,) = evidence(rows, "text").values()
    assert data.rows.empty and len(data.training) == 1
    assert data.accuracy("baseline", 1.0) is None
    assert all(verdict(test(data, SMALLEST)) == "not tested" for test, _ in TESTS.values())


def test_blind_edits_of_as_many_words_stand_beside_the_transfer_they_control():
    trained = {"method": STAR, "training_temperature": 100, "modality": "text", "experiment": "09_x_text"}
    rows = [record(20.0, adversary="margin", attack="dg", metric="accuracy", **trained)]
    for adversary, mean in ((f"transfer:{STAR}", 1.0), (f"blind:transfer:{STAR}", 50.0)):
        reference = Reference(STAR, "margin", 1, 100)
        measured = {"attack": "dg", "metric": "accuracy_difference", "half": 0.5}
        rows.append(record(mean, adversary=adversary, reference=reference, **measured, **trained))
    (data,) = evidence(pd.DataFrame(rows, columns=COLUMNS), "text").values()
    (finding,) = claims_training.TESTS["C25"][0](data, SMALLEST)
    assert finding.outcome == "fails" and "(blind edits +50.0 [+49.5, +50.5])" in finding.measured
