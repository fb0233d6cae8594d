"""Claims on training: made-up records make each verdict come and go."""

import pandas as pd
import pytest
from record_rows import record

from robustlib.study.claims import trained as claims_training
from robustlib.study.claims.findings import evidence
from robustlib.study.claims.judge import TESTS, smallest_effects
from robustlib.study.claims.rules import SMALLEST, verdict
from robustlib.study.records import COLUMNS, HONEST, Reference

STAR = "baseline_gradnorm"
MODELS = {  # (method, T) -> points above the scale-free answer as served
    ("baseline", 1): 0,
    ("baseline_gradclip", 1): 0,
    (STAR, 1): 30,
    ("pgd", 1): 0,
    ("pgd_gradnorm", 1): 20,
    ("ddi-at(M=3,K=3)_gradnorm", 1): 40,
    ("ddi-at(M=3,K=7)_gradnorm", 1): 10,
    ("dg-aug_gradnorm", 1): 20,
    (STAR, 100): 40,
    (STAR, 2000): 40,
    ("pgd_gradnorm", 100): 20,
    ("dg-aug_gradnorm", 100): 20,
    ("baseline", 100): 30,
    (f"{STAR}(epochs=10)", 1): 20,
    (f"{STAR}(epochs=10)", 100): 20,
    (f"{STAR}(linear)", 100): 20,
}
GAINS = {  # (method, T, adversary, attack, reference method, reference T) -> points
    **{(STAR, 100, a, "dg", STAR, 1): 10 for a in ("cal", "margin")},
    (STAR, 100, "margin", "pwws", STAR, 1): 8,
    **{("pgd_gradnorm", 100, a, "dg", "pgd_gradnorm", 1): 7 for a in ("cal", "margin")},
    ("dg-aug_gradnorm", 100, "margin", "dg", "dg-aug_gradnorm", 1): 0,
    ("dg-aug_gradnorm", 100, "margin", "pwws", "dg-aug_gradnorm", 1): 8,
    **{(method, 100, "none", "clean", method, 1): -1 for method in (STAR, "pgd_gradnorm", f"{STAR}(epochs=10)")},
    (STAR, 2000, "none", "clean", STAR, 1): -9,
    (STAR, 100, "none", "clean", "baseline", 100): 6,
    (f"{STAR}(epochs=10)", 100, "margin", "dg", f"{STAR}(epochs=10)", 1): 9,
    (f"{STAR}(linear)", 100, "margin", "dg", STAR, 100): 8,
    (f"{STAR}(linear)", 100, "none", "clean", STAR, 100): 0,
    ("ddi-at(M=3,K=7)_gradnorm", 1, "none", "dg", "ddi-at(M=3,K=3)_gradnorm", 1): -25,
    ("ddi-at(M=3,K=7)_gradnorm", 1, "margin", "dg", "ddi-at(M=3,K=3)_gradnorm", 1): 6,
}
STANDING = {1: 10.0, 100: 20.0, 2000: 12.0}  # under log-odds, of STAR, by T
RANGES = {1: 20.0, 100: 200.0, 2000: 900.0}
CONFIDENCE = {STAR: 3.0, "baseline_gradclip": 0.1}


def world(
    models=(), gains=(), ranges=(), standing=(), confidence=(), transfer=30.0, divided=30.0, attacks=("dg", "pwws")
):
    """The claims these records give, by name; a value of None is a number that was not recorded."""
    rows, levels = [], STANDING | dict(standing)

    def add(method, t, adversary, metric, mean, attack="dg", reference=None, half=1.5, **served):
        if mean is not None:
            measured = {
                "adversary": adversary,
                "attack": attack,
                "metric": metric,
                "reference": reference,
                "half": half,
            }
            trained = {"method": method, "training_temperature": t, "modality": "text", "experiment": "09_x_text"}
            rows.append(record(mean, **measured, **trained, **served))

    for (method, t), illusion in (MODELS | dict(models)).items():
        for attack in attacks:
            add(method, t, "margin", "accuracy", levels[t] if method == STAR else 20.0, attack=attack)
        add(method, t, "none", "accuracy_difference", illusion, reference=Reference(method, "margin", 1, t))
    for (method, t, adversary, attack, other, at), mean in (GAINS | dict(gains)).items():
        add(method, t, adversary, "accuracy_difference", mean, attack, Reference(other, adversary, 1, at))
    for t, mean in (RANGES | dict(ranges)).items():
        add(STAR, t, "none", "logit_range", mean, "clean")
    for method, mean in (CONFIDENCE | dict(confidence)).items():
        add(method, 1, "none", "confidence_difference", mean, "clean", HONEST, half=0.5)
    add(STAR, 100, f"transfer:{STAR}", "accuracy_difference", transfer, reference=Reference(STAR, "margin", 1, 100))
    margin = Reference(STAR, "margin", 1, 100)
    add(STAR, 100, "none", "accuracy_difference", divided, reference=margin, design_temperature=100.0)
    (data,) = evidence(pd.DataFrame(rows, columns=COLUMNS), "text").values()
    return {name: verdict(test(data, smallest_effects()[name])) for name, (test, _) in claims_training.TESTS.items()}


def test_in_a_world_where_all_hold_all_are_reproduced():
    assert set(world().values()) == {"reproduced"}


@pytest.mark.parametrize(
    ("claim", "changes", "expected"),
    [
        ("C4", {"confidence": {"baseline_gradclip": 3.0}}, "partly"),
        ("C4", {"confidence": {STAR: 0.2, "baseline_gradclip": 3.0}}, "not reproduced"),
        ("C4", {"confidence": {"baseline_gradclip": None}}, "partly"),
        ("C5", {"models": {("pgd_gradnorm", 1): 1}}, "partly"),
        ("C12", {"models": {("pgd", 1): 10}}, "not reproduced"),
        ("C12", {"models": {("pgd", 1): 1}}, "inconclusive"),  # not surely within the margin
        ("C12", {"models": {("pgd_gradnorm", 1): 0}}, "nothing to test"),  # the star hides nothing either
        ("C15", {"models": {("ddi-at(M=3,K=3)_gradnorm", 1): 1}}, "nothing to test"),
        ("C17", {"gains": {(STAR, 100, "none", "clean", STAR, 1): -40}}, "partly"),
        ("C17", {"gains": {(STAR, 100, a, "dg", STAR, 1): 0.1 for a in ("cal", "margin")}}, "not reproduced"),
        ("C15", {"gains": {("ddi-at(M=3,K=7)_gradnorm", 1, "none", "dg", "ddi-at(M=3,K=3)_gradnorm", 1): 1}}, "partly"),
        ("C17", {"gains": {(STAR, 100, "margin", "dg", STAR, 1): 1}}, "partly"),
        ("C18", {"gains": {("pgd_gradnorm", 100, "margin", "dg", "pgd_gradnorm", 1): -3}}, "partly"),
        ("C19", {"gains": {("dg-aug_gradnorm", 100, "margin", "dg", "dg-aug_gradnorm", 1): 9}}, "not reproduced"),
        ("C19", {"gains": {("dg-aug_gradnorm", 100, "margin", "pwws", "dg-aug_gradnorm", 1): 0}}, "nothing to test"),
        ("C20", {"gains": {(STAR, 100, "margin", "pwws", STAR, 1): 0}}, "partly"),
        ("C20", {"standing": {2000: 20.0}}, "partly"),  # no decline under attack
        ("C20", {"standing": {2000: 30.0}}, "partly"),  # another temperature is better
        ("C23", {"gains": {(STAR, 100, "none", "clean", "baseline", 100): -1}}, "not reproduced"),
        ("C24", {"models": {(STAR, 100): 2.8}}, "inconclusive"),
        ("C24", {"models": {(STAR, 100): 0}}, "not reproduced"),
        ("C24", {"divided": 0}, "partly"),
        ("C25", {"transfer": 6.0}, "inconclusive"),  # above, but not surely by 5 points
        ("C25", {"transfer": 3.0}, "not reproduced"),
        ("C25", {"transfer": None}, "not tested"),
        ("C26", {"gains": {(f"{STAR}(epochs=10)", 100, "margin", "dg", f"{STAR}(epochs=10)", 1): 0}}, "not reproduced"),
        ("C27", {"ranges": {2000: 150.0}}, "partly"),
        ("O4", {"gains": {(f"{STAR}(linear)", 100, "none", "clean", STAR, 100): -5}}, "partly"),
        ("O4", {"gains": {(f"{STAR}(linear)", 100, "margin", "dg", STAR, 100): 0}}, "not reproduced"),
    ],
)
def test_each_verdict_changes_with_its_records(claim, changes, expected):
    assert world(**changes)[claim] == expected


def test_one_attack_cannot_show_that_one_temperature_serves_all():
    assert world(attacks=("dg",))["C20"] == "partly"


def test_the_temperature_nearest_to_the_paper_s_is_judged():
    """T = 2000 loses here, T = 100 gains: the claim is about 200, ten times nearer to the former in decades."""
    changed = world(gains={(STAR, 2000, "margin", "dg", STAR, 1): -30, (STAR, 2000, "cal", "dg", STAR, 1): -30})
    assert changed["C17"] == "reproduced"


def test_the_models_of_the_training_notebooks_are_no_evidence_for_other_claims():
    where = {"modality": "text", "experiment": "08_x", "method": "baseline"}
    measured = {"metric": "accuracy", "adversary": "none", "attack": "dg"}
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
