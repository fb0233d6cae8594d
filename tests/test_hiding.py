"""What hides and what pierces: recorded behind each disguise, and read back as one table."""

import pandas as pd
import pytest

from robustlib.attacks import Margin, transfer, warm
from robustlib.models import logits_of
from robustlib.study import hiding, image_study
from robustlib.study.records import COLUMNS, REFERENCE, RecordBook

OVER, UNDER = "conf_up(T_d<<1)", "conf_down(T_d>>1)"


@pytest.fixture(scope="module")
def measured():
    study = image_study("smoke")
    book = RecordBook("04_test", profile="smoke", seed=0, modality="image")
    attack, found = study.attacks["pgd"], hiding.disguises(study)
    adversaries = ["naive", "margin", "dlr", transfer("transfer:itself", study.model, attack)]
    adversaries.append(warm("warm", study.model, attack, score=Margin()))
    hiding.measure_behind(study, book, found, "pgd", adversaries, n=30)
    hiding.measure_behind(study, book, found[:1], "hopskipjump-long", ["naive"], n=10, honest="pgd")
    return study, found, book


def test_disguises_keep_predictions_and_have_a_cell_for_each_adversary(measured):
    study, found, book = measured
    plain = logits_of(study.model, study.images).argmax(dim=1)
    for hidden in found:
        served = study.disguised(hidden.name, hidden.disguise).served(hidden.design_temperature)
        assert (logits_of(served, study.images).argmax(dim=1) == plain).double().mean() > 0.97, hidden.name
    table = hiding.hiding_table(book.frame)
    assert sorted(table.hides.value_counts()) == [5] * (len(found) - 1) + [6]
    cells = table.set_index(["hides", "pierces"])
    assert cells.loc[("T(x) gap", "margin"), "mark"] == "counterexample"
    assert cells.loc[("T(x) gap", "dlr"), "mark"] == cells.loc[("T(x) gap", "labels only"), "mark"] == "theorem"
    assert cells.loc[("T(x) gap", "dlr"), "mean"] < 10 < cells.loc[("T(x) gap", "margin"), "low"]
    assert "probabilities, T_d = 0.01" in set(table.hides)
    chosen = hiding.hiding_table(book.frame, ("transfer", "warm"))
    assert set(chosen.pierces) == {"transfer", "warm"}
    warm_start = chosen.pivot(index="hides", columns="pierces", values="mean")
    assert (warm_start["warm"] <= warm_start["transfer"]).all()


def difference(method, design, adversary, low=0.0, modality="text", attack="dg", **row):
    reference = dict(zip(REFERENCE, ("baseline", "naive", 1.0, 1.0), strict=True))
    facts = {"metric": "accuracy_difference", "experiment": "06_x", "modality": modality, "model": "m", "dataset": "d"}
    numbers = {"mean": low + 5, "low": low, "high": low + 10, "n": 9, "seed": 0, "training_temperature": 1.0}
    own = {"method": method, "design_temperature": design, "adversary": adversary, "attack": attack}
    return facts | reference | numbers | own | row


def test_only_the_most_extreme_constant_temperature_and_this_lesson_are_shown():
    rows = [difference(OVER, design, "margin") for design in (1e-2, 1e-3)]
    rows += [difference(OVER, 1e-6, "naive"), difference(OVER, 1e-3, "naive", 40), difference(UNDER, 1e6, "margin", 20)]
    rows += [difference(OVER, 1e-3, "margin", 70, **other) for other in ({"model": "m@int8"}, {"experiment": "07_x"})]
    rows += [difference("pgd_gradnorm", 1.0, "margin", 30), difference(OVER, 1e-3, "margin", 60, attack="pwws")]
    rows += [difference("T per query", 1.0, "margin", 20), difference("T(x) gap", 1.0, "label-only", attack="x")]
    rows += [difference("float16", 1e-6, "label-only", 2, attack="x")]  # which may tie two classes: no theorem
    table = hiding.hiding_table(pd.DataFrame(rows).reindex(columns=COLUMNS))
    shown = [(row["hides"], row["pierces"], row["low"], row["mark"]) for row in table.to_dict("records")]
    assert shown == [
        ("one T = 0.001", "margin", 0, "theorem"),
        ("one T = 0.001", "naive", 40, ""),
        ("one T = 1e+06", "margin", 20, "theorem"),
        ("T per query", "margin", 20, "counterexample"),
        ("T(x) gap", "labels only", 0, "theorem"),
        ("float16, T_d = 1e-06", "labels only", 2, ""),
    ]
