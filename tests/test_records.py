"""Records: the paper's columns, checked rows, and a join that cannot double numbers."""

import numpy as np
import pandas as pd
import pytest

from robustlib.attacks.adversaries import Evaluation
from robustlib.attacks.crossed import crossed_mean
from robustlib.attacks.statistics import mean_interval, paired_difference, proportion_interval
from robustlib.study.environment import environment
from robustlib.study.records import (
    COLUMNS,
    PAPER_COLUMNS,
    REFERENCE,
    RecordBook,
    Reference,
    beside_paper,
    difference,
    differences,
    load_records,
    over_seeds,
    pack,
    paper_tables,
    unpack,
)

ROW = {"dataset": "d", "model": "m", "method": "baseline", "adversary": "naive", "attack": "pgd", "metric": "accuracy"}


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_RESULTS", str(tmp_path))
    return RecordBook("02_test", profile="smoke", seed=3, modality="image")


def test_rows_carry_their_provenance_and_come_back_from_disk(book, tmp_path):
    assert load_records(tmp_path).empty
    book.add(**ROW, mean=12.5, n=200, epsilon=0.05, norm="linf")
    path = book.save()
    assert path == tmp_path / "smoke" / "records" / "02_test-seed3.csv"
    (row,) = load_records(tmp_path / "smoke").to_dict("records")
    assert list(load_records(tmp_path / "smoke").columns) == COLUMNS
    assert (row["mean"], row["n"], row["seed"], row["profile"], row["norm"]) == (12.5, 200, 3, "smoke", "linf")
    assert "torch 2" in row["versions"]
    assert row["training_temperature"] == 1.0


def test_records_written_before_the_naive_adversary_had_its_name_are_read(book, tmp_path):
    book.add(**ROW, mean=12.5, n=200)
    change = paired_difference(np.ones(20, bool), np.zeros(20, bool))
    about = {name: ROW[name] for name in ("dataset", "model", "method", "attack")}
    book.add_difference(change, reference=Reference("baseline"), adversary="cal", **about)
    path = book.save()
    path.write_text(path.read_text().replace("naive", "none"))
    frame = load_records(tmp_path / "smoke")
    assert list(frame.adversary) == ["naive", "cal"]
    assert difference(frame, reference=Reference("baseline", "naive"), adversary="cal") is not None


def test_evaluations_are_recorded_in_percent_with_their_interval(book):
    correct = np.array([True] * 30 + [False] * 70)
    evaluation = Evaluation("pgd", "cal", correct, np.ones(100, bool), 42.0, "ok", 1, 1)
    book.add_evaluation(evaluation, dataset="d", model="m", method="baseline")
    row = book.frame.iloc[0]
    assert row["mean"] == pytest.approx(30)
    assert row["low"] < 30 < row["high"]
    assert (row["n"], row["adversary"], row["adversary_temperature"], row["metric"]) == (100, "cal", 42.0, "accuracy")
    np.testing.assert_array_equal(unpack(row["outcomes"]), [correct])


def test_accuracies_are_recorded_in_percent_with_wilsons_interval(book):
    about = {**ROW, "attack": "clean"}
    del about["metric"]
    book.add_accuracy(np.ones(200, bool), **about)
    book.add_accuracy(np.arange(200) < 50, **about)
    perfect, quarter = book.frame.to_dict("records")
    assert (perfect["metric"], perfect["attack"], perfect["n"]) == ("accuracy", "clean", 200)
    for row, number in ((perfect, 200), (quarter, 50)):
        expected = 100 * np.array([number / 200, *proportion_interval(number, 200)])
        assert [row["mean"], row["low"], row["high"]] == pytest.approx(expected)
    assert unpack(quarter["outcomes"]).sum() == 50
    with pytest.raises(TypeError, match="correct must be bool"):
        book.add_accuracy(np.zeros(3), **about)


def test_device_and_float32_mode_are_those_of_the_machine_the_numbers_come_from(book, monkeypatch):
    book.add(**ROW, mean=12.5, n=200)
    here = environment()
    assert book.frame.loc[0, ["device", "float32"]].tolist() == [here["device"], here["float32"]]
    elsewhere = here | {"device": "cuda", "float32": "tf32"}
    monkeypatch.setattr("robustlib.study.records.environment", lambda: elsewhere)
    other = RecordBook("02_test", profile="smoke", seed=3, modality="image")
    other.add(**ROW, mean=12.5, n=200)
    assert other.frame.loc[0, ["device", "float32"]].tolist() == ["cuda", "tf32"]


def compared_with(book, *references):
    correct = np.array([True, False] * 50)
    for reference in references:
        measured = {**ROW, "training_temperature": 20.0, "design_temperature": 1e3}
        del measured["metric"]
        book.add_difference(paired_difference(correct, ~correct), reference=reference, **measured)


def test_a_difference_is_found_by_what_it_was_taken_from(book):
    honest, own = Reference("baseline"), Reference("baseline", "margin", 10**3.5, 20.0)
    compared_with(book, honest, own)
    assert len(differences(book.frame)) == len(differences(book.frame, design_temperature=1e3)) == 2
    assert differences(book.frame, design_temperature=2e3).empty
    assert (unpack(differences(book.frame).outcomes.iloc[0]) == [-1, 1] * 50).all()
    found = difference(book.frame, reference=Reference("baseline", "margin", 3162.28, 20.0), attack="pgd")
    assert found[REFERENCE].tolist() == list(vars(own).values())
    assert difference(book.frame, reference=own, method="trades") is None
    assert difference(book.frame.iloc[:0], reference=own) is None


def of_seeds(means, half, **columns):
    rows = [{**ROW, "mean": m, "low": m - half, "high": m + half, "n": 100, "seed": s} for s, m in enumerate(means)]
    return pd.DataFrame(rows, columns=COLUMNS).assign(**columns)


def interval(*means):
    return dict(zip(("mean", "low", "high"), mean_interval(means), strict=True))


SINGLE = {"adversary_temperature": 7.0, "note": "p = 0.1"}


@pytest.mark.parametrize(
    ("means", "half", "columns", "expected"),
    [
        ([40.0], 3.0, SINGLE, {"mean": 40, "low": 37, "high": 43, "n_seeds": 1, **SINGLE}),
        ([30.0, 40.0, 53.0], 3.0, {}, {**interval(30, 40, 53), "n_seeds": 3, "n": 100}),  # Student's
        ([40.0] * 4, 3.0, {}, {"mean": 40, "low": 37, "high": 43, "seeds": "0 1 2 3"}),  # they share the examples
        ([40.0, 42.0], np.nan, {}, interval(40, 42)),  # a metric without interval
        ([40.0], 1.96, {}, {"smallest": 1.96 * (1 + 0.8416212 / 1.959964)}),  # what the sample could have shown
        ([10.0, 20.0], 3.0, SINGLE, SINGLE),
        ([10.0, 20.0], 3.0, {"adversary_temperature": [7, 8], "note": ["a", "b"]}, {"adversary_temperature": np.nan}),
        ([10.0, 20.0], 3.0, {"note": ["ok", "stalled"]}, {"note": ""}),
    ],
)
def test_seeds_become_one_row(means, half, columns, expected):
    (row,) = over_seeds(of_seeds(means, half, **columns)).to_dict("records")
    assert {name: row[name] for name in expected} == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("metric", "extremes"), [("accuracy", (0, 1)), ("accuracy_difference", (-1, 1))])
def test_outcomes_give_the_interval_for_new_seeds_and_new_examples(tmp_path, metric, extremes):
    table = np.random.default_rng(0).integers(extremes[0], 2, (3, 80))
    rows = of_seeds([100 * seed.mean() for seed in table], 3.0, metric=metric, outcomes=[pack(seed) for seed in table])
    (tmp_path / "records").mkdir()
    rows.assign(n=80).iloc[::-1].to_csv(tmp_path / "records" / "a.csv", index=False)
    (row,) = over_seeds(load_records(tmp_path)).to_dict("records")
    expected = crossed_mean(table, extremes=extremes)
    for name in ("mean", "low", "high", "smallest"):
        assert row[name] == pytest.approx(100 * getattr(expected, name))
    np.testing.assert_array_equal(unpack(row["outcomes"]), table)
    one = rows.assign(outcomes=[None, *rows.outcomes[1:]], n=80)  # a file from before outcomes were recorded
    assert over_seeds(one).iloc[0][["low", "high"]].tolist() != pytest.approx([row["low"], row["high"]])


def test_a_seed_that_recorded_a_setting_twice_counts_once_as_recorded_last():
    first, again = of_seeds([10.0, 20.0], 3.0), of_seeds([30.0], 3.0)
    (row,) = over_seeds(pd.concat([first, again], ignore_index=True)).to_dict("records")
    assert (row["mean"], row["n_seeds"]) == (25, 2)
    (alone,) = over_seeds(pd.concat([again, again], ignore_index=True)).to_dict("records")
    assert (alone["low"], alone["high"], alone["n_seeds"]) == (27, 33, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"colour": "red"}, "unknown columns"), ({"n": None}, r"without \['n'\]"), ({"mean": float("nan")}, "is NaN")],
)
def test_bad_rows_are_refused(book, change, message):
    with pytest.raises(ValueError, match=message):
        book.add(**{**ROW, "mean": 1.0, "n": 5, **change})


def test_the_papers_tables_are_complete_and_hold_the_anchors():
    paper = paper_tables()
    assert list(paper.columns) == PAPER_COLUMNS
    assert len(paper) == 955
    row = paper[(paper.table == 2) & (paper.method == "conf_up(T_d<<1)") & (paper.attack == "dg")]
    assert row["mean"].item() == 65.60


def test_the_join_brings_the_papers_number_or_nothing():
    keys = ["method", "adversary", "attack", "metric"]
    ours = pd.DataFrame(
        [("conf_up(T_d<<1)", "cal", "dg", "accuracy", 20.0), ("conf_up(T_d<<1)", "cal", "pgd", "accuracy", 7.0)],
        columns=[*keys, "mean"],
    )
    joined = beside_paper(ours, keys, table=3)
    assert joined["paper_mean"].tolist()[0] == 21.64
    assert np.isnan(joined["paper_mean"].tolist()[1])
    assert len(joined) == 2
    with pytest.raises(ValueError, match="does not name one number"):
        beside_paper(ours, keys)
