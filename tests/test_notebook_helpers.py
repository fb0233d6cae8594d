"""What a notebook says to a learner, and what the lessons measure in the same way."""

import numpy as np
import pytest
import torch

from robustlib.attacks.adversaries import Evaluation
from robustlib.attacks.statistics import PairedDifference
from robustlib.calibration import calibration_report
from robustlib.course import notebook
from robustlib.course.words import plain
from robustlib.study.profiles import get_profile

OPTIONS = {"a": "lower", "b": "the same", "c": "higher"}
DESIGNS, ADVERSARIES = (1.0, 1e-3), ("naive", "cal-exact", "margin")


@pytest.fixture
def sentences(monkeypatch):
    lines = []
    monkeypatch.setattr(notebook, "say", lines.append)
    return lines


@pytest.mark.parametrize(
    ("prediction", "holds", "expected"),
    [
        ("c", {"c"}, "You predicted **c** (higher), and so it is."),
        ("a", {"c"}, "You predicted **a** (lower). The measurement says: **c** (higher)."),
        ("a", set(), "You predicted **a** (lower). The measurement says: none of these."),
        ("a", {"a", "b"}, "You predicted **a** (lower). The measurement says: **a** (lower) and **b** (the same)."),
        (None, {"b"}, "*You made no prediction.* The measurement says: **b** (the same)."),
        ("A", {"a"}, "You predicted **a** (lower), and so it is."),
        (" b ", {"b"}, "You predicted **b** (the same), and so it is."),
    ],
)
def test_a_prediction_is_compared_with_every_option_that_the_measurement_supports(
    prediction, holds, expected, sentences
):
    notebook.reveal(prediction, OPTIONS, {letter: letter in holds for letter in OPTIONS})
    assert sentences == [expected]


@pytest.mark.parametrize("prediction", ["d", "ab", "", 2, ["a"]])
def test_a_prediction_that_is_no_letter_stops_nothing_and_stays_open(prediction, sentences):
    notebook.reveal(prediction, OPTIONS, dict.fromkeys(OPTIONS, True))
    (sentence,) = sentences
    assert sentence.startswith("> **Your prediction is open:**") and repr(prediction) in sentence
    assert "a, b, c" in sentence and "The measurement says" not in sentence


def test_a_measurement_must_have_the_letters_of_the_options():
    with pytest.raises(ValueError, match=r"must use the letters \['a', 'b', 'c'\]"):
        notebook.reveal("a", OPTIONS, {"a": True})


def test_numbers_are_readable():
    assert notebook.rounded(1039.6) == "1040" and notebook.rounded(0.00123456) == "0.00123"
    assert notebook.interval({"mean": -0.04, "low": -1.0, "high": 1.0}, signed=True) == "+0.0 [-1.0, 1.0]"


def evaluation(*correct):
    correct = np.array(correct, dtype=bool)
    return Evaluation("pgd", "naive", correct, correct, 1.0, "ok", 0, 0)


def test_a_number_is_shown_with_its_interval_wherever_it_comes_from():
    assert notebook.interval({"mean": 12.34, "low": 10.0, "high": 15.0}) == "12.3 [10.0, 15.0]"
    difference = PairedDifference(0.05, -0.01, 0.11, 0.1, 100, 3, 8)
    assert notebook.interval(difference, signed=True) == "+5.0 [-1.0, 11.0]"
    assert notebook.interval(evaluation(1, 1, 1, 0)) == "75.0 [30.1, 95.4]"


def test_evaluations_and_calibration_reports_become_tables_in_percent():
    table = notebook.tabulate({("pgd", 1.0): evaluation(1, 0), ("pgd", 0.1): evaluation(1, 1)}, "attack", "T_d")
    assert table[["attack", "T_d", "mean", "n"]].values.tolist() == [["pgd", 1.0, 50.0, 2], ["pgd", 0.1, 100.0, 2]]
    assert (table.low < table["mean"]).all()
    assert notebook.tabulate({0.1: evaluation(1)}, "T_d")["T_d"].tolist() == [0.1]
    report = calibration_report(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0]))
    row = notebook.calibration_table({"a": report}).loc["a"]
    assert (row["accuracy %"], row["NLL (nats)"]) == (50.0, report.negative_log_likelihood)


@pytest.fixture(scope="module")
def lesson():
    return notebook.begin("99_test", "smoke", 3, "image")


@pytest.fixture(scope="module")
def audit(lesson):
    return lesson.audit("pgd", DESIGNS, ADVERSARIES, 40)


def test_a_lesson_describes_its_data_and_model_and_its_seed_shifts_the_profiles(lesson):
    for part in (lesson.study.title, plain(lesson.study.model_title), "100 attacked images", "seeds 3"):
        assert part in lesson.describe()
    assert lesson.seeds == tuple(3 + number for number in get_profile("smoke").seeds)
    assert lesson.study.training.seed == lesson.studies[3].training.seed == 3
    lesson.record("tied_scores", 12.5, 7, 1e-3, note="by hand")
    row = lesson.book.frame.iloc[-1]
    assert (row.metric, row["mean"], row.n, row.note, row.seed) == ("tied_scores", 12.5, 7, "by hand", 3)
    assert (row.method, row.adversary, row.attack) == ("conf_up(T_d<<1)", "naive", "clean")


def test_an_audit_holds_every_adversary_at_every_temperature(lesson, audit):
    assert set(audit.evaluations) == {(3, design, adversary) for design in DESIGNS for adversary in ADVERSARIES}
    assert audit.honest is audit[1.0, "naive"]
    assert audit.means.shape == (len(DESIGNS), len(ADVERSARIES))
    assert audit.means.loc["T_d = 0.001", "margin"] == 100 * audit[1e-3, "margin"].adversarial_accuracy
    accuracies = lesson.book.frame.query("metric == 'accuracy' and attack == 'pgd'")
    assert len(accuracies) == len(audit.table) == len(audit.evaluations)
    assert (accuracies.n == 40).all()
    assert audit.pierced(1e-3) == ["cal-exact", "margin"]
    assert audit.pierced(1.0) == []  # no illusion worth removing
    assert [audit.removal(1e-3, name) for name in ADVERSARIES] == ["fails", "holds", "holds"]
    assert audit.removal(1.0, "margin") == "void"


@pytest.mark.parametrize(
    ("reference", "other"), [("honest", (1.0, "naive")), ("margin", (1e-3, "margin")), ("naive", (1e-3, "naive"))]
)
def test_an_audit_compares_with_honest_margin_and_as_served(audit, reference, other):
    row = audit.difference(1e-3, "cal-exact", reference)
    expected = audit[1e-3, "cal-exact"].minus(audit[other])
    assert (row["mean"], row["low"]) == pytest.approx((100 * expected.difference, 100 * expected.low))


def test_clean_accuracy_has_an_interval_and_stays_while_confidence_moves(lesson, audit):
    clean = lesson.clean(DESIGNS, ("naive", "cal-exact")).set_index(["metric", "design_temperature", "adversary"])
    accuracy, confidence = clean.loc["accuracy"], clean.loc["confidence_clean"]["mean"]
    assert accuracy["mean"].nunique() == 1
    assert ((accuracy.low < accuracy["mean"]) & (accuracy["mean"] < accuracy.high)).all()
    assert confidence[1e-3, "naive"] > 99.9
    assert confidence[1e-3, "cal-exact"] == pytest.approx(confidence[1.0, "cal-exact"], abs=1e-3)


def test_readings_of_cal_are_recorded_beside_honest(lesson, audit):
    table = lesson.readings("pgd", (1e-3,), 20)
    assert len(table) == table.adversary.nunique() == 12
    assert (table.low <= table["mean"]).all()
    for _, same in table.groupby("T_a"):  # readings that share a temperature share the attack
        assert same["mean"].nunique() == 1
    naive = table.set_index("adversary")
    assert naive.loc["cal:sum-sgd-T", "status"] in ("ok", "unconverged", "diverged")
    assert naive.loc["cal:mean-adam-log T", "mean"] <= naive["mean"].max()


def test_the_temperature_lab_shows_the_attacked_images(lesson, audit):
    stored = lesson.temperature_lab(lesson.book.frame).stored
    assert {t for t, *_ in stored["adversarial_accuracy"]["PGD, naive attacker"]} == set(DESIGNS)
    assert stored["pictures"]["shape"][0] == len(stored["examples"]) == 6
