"""Records: the paper's columns, checked rows, and a join that cannot double numbers."""

import numpy as np
import pandas as pd
import pytest

from robustlib.evaluation import Evaluation
from robustlib.records import COLUMNS, PAPER_COLUMNS, RecordBook, beside_paper, load_records, paper_tables

ROW = {"dataset": "d", "model": "m", "method": "baseline", "adversary": "none", "attack": "pgd", "metric": "accuracy"}


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_RESULTS", str(tmp_path))
    return RecordBook("02_test", profile="smoke", seed=3, modality="image")


def test_rows_carry_their_provenance_and_come_back_from_disk(book, tmp_path):
    book.add(**ROW, mean=12.5, n=200, epsilon=0.05, norm="linf")
    path = book.save()
    assert path == tmp_path / "smoke" / "records" / "02_test-seed3.csv"
    (row,) = load_records(tmp_path / "smoke").to_dict("records")
    assert list(load_records(tmp_path / "smoke").columns) == COLUMNS
    assert (row["mean"], row["n"], row["seed"], row["profile"], row["norm"]) == (12.5, 200, 3, "smoke", "linf")
    assert "torch 2" in row["versions"]
    assert row["training_temperature"] == 1.0


def test_evaluations_are_recorded_in_percent_with_their_interval(book):
    correct = np.array([True] * 30 + [False] * 70)
    evaluation = Evaluation("pgd", "cal", correct, np.ones(100, bool), 42.0, "ok", 1, 1)
    book.add_evaluation(evaluation, dataset="d", model="m", method="baseline")
    row = book.frame.iloc[0]
    assert row["mean"] == pytest.approx(30)
    assert row["low"] < 30 < row["high"]
    assert (row["n"], row["adversary"], row["adversary_temperature"], row["metric"]) == (100, "cal", 42.0, "accuracy")


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


def test_no_records_is_an_empty_frame(tmp_path):
    assert load_records(tmp_path).empty
