"""What the notebooks say to a learner."""

import pytest

from robustlib.course import notebook

OPTIONS = {"a": "lower", "b": "the same", "c": "higher"}


@pytest.fixture
def said(monkeypatch):
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
    ],
)
def test_a_prediction_is_compared_with_every_option_that_the_measurement_supports(prediction, holds, expected, said):
    notebook.reveal(prediction, OPTIONS, {letter: letter in holds for letter in OPTIONS})
    assert said == [expected]


def test_unknown_letters_are_refused():
    with pytest.raises(ValueError, match=r"must use the letters \['a', 'b', 'c'\]"):
        notebook.reveal("d", OPTIONS, dict.fromkeys(OPTIONS, False))
    with pytest.raises(ValueError, match="must use the letters"):
        notebook.reveal("a", OPTIONS, {"a": True})


def test_percentages_with_and_without_interval():
    assert notebook.percent(0.1234) == "12.3 %"
    assert notebook.percent(0.1234, (0.1, 0.15)) == "12.3 % [10.0, 15.0]"
