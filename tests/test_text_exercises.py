"""The checks of the text exercises accept right answers and say what is wrong with wrong ones."""

import numpy as np
import pytest
import torch

from robustlib.course.exercises import texts as exercises


def hidden_share(clean, naive, strong):
    broken = clean & ~strong
    return float((naive & broken).sum() / broken.sum()) if broken.any() else float("nan")


def without_undefined(clean, naive, strong):
    return float((naive & clean & ~strong).sum() / max((clean & ~strong).sum(), 1))


def verdict(low, high, tolerance):
    if high < 0 or low > 0:
        return "lower" if high < 0 else "higher"
    return "equal" if -tolerance < low and high < tolerance else "open"


def via_probabilities(logits, labels):
    p = torch.softmax(logits, dim=1)[torch.arange(len(labels)), labels]
    return torch.log(p) - torch.log(1 - p)


def difference(logits, labels):
    rows = torch.arange(len(labels))
    return logits[rows, labels] - logits[rows, 1 - labels]


RIGHT = {
    "importance_order": lambda scores, clean: sorted(range(len(scores)), key=lambda i: clean - scores[i]),
    "log_odds": difference,
    "verdict": verdict,
    "bfloat16_step": lambda value: torch.finfo(torch.bfloat16).eps * 2.0 ** np.floor(np.log2(value)),
    "constant_accuracy": lambda labels: float(labels.bincount().max() / len(labels)),
    "hidden_share": hidden_share,
}
WRONG = [
    ("importance_order", lambda scores, clean: sorted(range(len(scores)), key=lambda i: scores[i]), "most important"),
    (
        "importance_order",
        lambda scores, clean: sorted(range(len(scores)), key=lambda i: -abs(scores[i] - clean)),
        "absolute value",
    ),
    (
        "importance_order",
        lambda scores, clean: sorted(range(len(scores)), key=lambda i: (-scores[i], -i)),
        "reading order",
    ),
    ("importance_order", lambda scores, clean: [1, 3], "every word position once"),
    ("log_odds", lambda logits, labels: -difference(logits, labels), "sign is turned"),
    ("log_odds", via_probabilities, "infinite or NaN"),
    ("log_odds", lambda logits, labels: logits, "one number per example"),
    ("verdict", lambda low, high, tolerance: "lower" if (low + high) < 0 else "higher", "stays within 5 points"),
    (
        "verdict",
        lambda low, high, tolerance: "equal" if low < 0 < high else verdict(low, high, tolerance),
        "nothing is decided",
    ),
    (
        "verdict",
        lambda low, high, tolerance: "open" if high - low > 5 else verdict(low, high, tolerance),
        "whole interval lies below",
    ),
    ("bfloat16_step", lambda value: 2.0**-7, "between 1 and 2 only"),
    ("bfloat16_step", lambda value: 2.0 ** (np.floor(np.log2(value)) - 8), "7 bits"),
    ("bfloat16_step", lambda value: value * 2.0**-7, "which 2\\*\\*7 steps share"),
    ("constant_accuracy", lambda labels: 1 / len(labels.unique()), "commonest class"),
    ("constant_accuracy", lambda labels: float((labels == 0).double().mean()), "expected 0.6"),
    ("hidden_share", lambda clean, naive, strong: float((naive & ~strong).sum() / (~strong).sum()), "wrong before"),
    ("hidden_share", lambda clean, naive, strong: float((naive & ~strong).sum() / naive.sum() - 0.5), "left standing"),
    ("hidden_share", without_undefined, "undefined"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass(name, capsys):
    getattr(exercises, name)(RIGHT[name])
    assert "correct" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "answer", "message"), WRONG, ids=[f"{name}-{text}" for name, _, text in WRONG])
def test_wrong_answers_are_told_what_is_wrong(name, answer, message):
    with pytest.raises(AssertionError, match=message):
        getattr(exercises, name)(answer)


@pytest.mark.parametrize("name", RIGHT)
def test_the_stub_and_a_forgotten_return_are_named(name):
    with pytest.raises(AssertionError, match="your function returned None: is the `return` missing, or is it still"):
        getattr(exercises, name)(lambda *arguments: None)
