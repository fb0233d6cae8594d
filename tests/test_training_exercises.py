"""The checks of the exercises in notebooks 08 and 09 accept the notebooks' solutions and name what is wrong."""

import math

import nbformat
import pytest
import torch

from robustlib.course.exercises import training as exercises
from robustlib.data.folders import repository_root

# check -> (notebook, the function its solution cell defines)
SOLVED_IN = {
    "gradient_rules": ("08_illusion_by_training", "rescaled"),
    "shortest_of_two": ("08_illusion_by_training", "weight"),
    "tempered_gradient": ("09_high_temperature_training", "gradient"),
    "linear_distance": ("09_high_temperature_training", "distance"),
}


def cells(notebook, tag):
    """Code of the cells with this tag."""
    content = nbformat.read(repository_root() / "notebooks" / f"{notebook}.ipynb", as_version=4)
    return [cell.source for cell in content.cells if tag in cell.metadata.get("tags", [])]


def answer_of(notebook, tag, name):
    """What the cell with this tag that defines `name` gives."""
    (source,) = [source for source in cells(notebook, tag) if f"def {name}(" in source]
    namespace = {"torch": torch, "math": math}
    exec(source, namespace)
    return namespace[name]


def whole_norm(gradients):
    return torch.cat([gradient.flatten() for gradient in gradients]).norm()


def scaled(factor):
    """An answer to 8.1 that multiplies by factor(norm, rule)."""
    return lambda gradients, rule: [gradient * factor(whole_norm(gradients), rule) for gradient in gradients]


def one_norm_each(gradients, rule):
    return [g / g.norm() if rule == "normalise" else g * min(1, 1 / g.norm()) for g in gradients]


def first_only(gradients, rule):
    norm = whole_norm(gradients)
    factor = 1 / norm if rule == "normalise" else min(1, 1 / norm)
    return [gradients[0] * factor * (-1 if len(gradients[0]) == 1 else 1), gradients[1] * factor]


def unclamped(g1, g2):
    difference = g1 - g2
    return float(-(difference @ g2) / (difference @ difference))


def of_lengths(power):
    return lambda g1, g2: float(g2.norm() ** power / (g1.norm() ** power + g2.norm() ** power))


def softmax_minus_truth(logits, label, temperature=1.0):
    error = torch.softmax(logits / temperature, dim=0)
    error[label] -= 1
    return error


WRONG = [
    ("gradient_rules", one_norm_each, "each tensor has length 1 now: there is one norm"),
    ("gradient_rules", scaled(lambda norm, rule: 1 / norm), "Clipping never makes a gradient longer"),
    (
        "gradient_rules",
        scaled(lambda norm, rule: 1 / norm if rule == "normalise" else max(1.0, 1 / norm)),
        "a long gradient after 'clip' should be 1 long, got 5",
    ),
    ("gradient_rules", scaled(lambda norm, rule: 1.0), "a long gradient after 'normalise' should be 1 long, got 5"),
    (
        "gradient_rules",
        scaled(lambda norm, rule: min(1.0, 1 / norm)),
        "a short gradient after 'normalise' should be 1 long, got 0.05",
    ),
    ("gradient_rules", scaled(lambda norm, rule: 1 / norm**2), "should be 1 long, got 0.2"),
    (
        "gradient_rules",
        scaled(lambda norm, rule: -1 / norm if rule == "normalise" else -min(1.0, 1 / norm)),
        "never its direction",
    ),
    ("gradient_rules", first_only, "never its direction"),
    ("gradient_rules", lambda gradients, rule: torch.cat([g.flatten() for g in gradients]), "one tensor per parameter"),
    ("shortest_of_two", unclamped, "beyond the first: it is itself shortest"),
    ("shortest_of_two", lambda g1, g2: min(unclamped(g1, g2), 1.0), "beyond the second: it is itself shortest"),
    ("shortest_of_two", lambda g1, g2: max(unclamped(g1, g2), 0.0), "beyond the first"),
    ("shortest_of_two", lambda g1, g2: 1 - min(max(unclamped(g1, g2), 0), 1), "longer gradient gets the smaller"),
    ("shortest_of_two", lambda g1, g2: 0.5, "by the squares of the lengths"),
    ("shortest_of_two", of_lengths(1), "by the squares of the lengths"),
    ("shortest_of_two", of_lengths(2), "beyond the first"),
    ("shortest_of_two", lambda g1, g2: float(g1.norm() < g2.norm()), "half of each"),
    ("tempered_gradient", softmax_minus_truth, "one more factor"),
    ("tempered_gradient", lambda z, y, t: softmax_minus_truth(z, y) / t, "The softmax is of logits / T"),
    ("tempered_gradient", lambda z, y, t: torch.softmax(z / t, dim=0) / t, "of the true class 1 is subtracted"),
    ("tempered_gradient", lambda z, y, t: -softmax_minus_truth(z, y, t) / t, "of the true class 1 is subtracted"),
    ("tempered_gradient", lambda z, y, t: softmax_minus_truth(z, y, t) * t, "at T = 100 expected"),
    ("tempered_gradient", lambda z, y, t: softmax_minus_truth(z, y, t)[y] / t, r"tensor of shape \(3,\)"),
    ("linear_distance", lambda w, x, b: (w @ x + b) / w.norm(), "that is the L2 distance"),
    ("linear_distance", lambda w, x, b: (w @ x) / w.abs().sum(), "sum of absolute weights"),
    ("linear_distance", lambda w, x, b: (w @ x + b) / w.sum(), "sum of absolute weights"),
    ("linear_distance", lambda w, x, b: (w @ x + b) / w.abs().max(), "sum of absolute weights"),
    ("linear_distance", lambda w, x, b: (w @ x + b) / 3.5, "stretching all logits|sum of absolute weights"),
    ("linear_distance", lambda w, x, b: w @ x + b, "stretching all logits|sum of absolute weights"),
]


@pytest.mark.parametrize("name", SOLVED_IN)
def test_the_notebook_s_solution_passes(name, capsys):
    getattr(exercises, name)(answer_of(SOLVED_IN[name][0], "solution", SOLVED_IN[name][1]))
    assert "correct" in capsys.readouterr().out


@pytest.mark.parametrize("name", SOLVED_IN)
def test_the_notebook_s_stub_fails(name):
    with pytest.raises((AssertionError, TypeError)):
        getattr(exercises, name)(answer_of(SOLVED_IN[name][0], "exercise", SOLVED_IN[name][1]))


@pytest.mark.parametrize("notebook", sorted({notebook for notebook, _ in SOLVED_IN.values()}))
def test_every_exercise_of_the_notebook_is_checked(notebook):
    calls = [f"exercises.{check}({name})" for check, (where, name) in SOLVED_IN.items() if where == notebook]
    assert [source.strip() for source in cells(notebook, "check")] == calls
    assert len(cells(notebook, "exercise")) == len(cells(notebook, "solution")) == len(calls)


@pytest.mark.parametrize(("name", "answer", "message"), WRONG, ids=[f"{name}-{text[:30]}" for name, _, text in WRONG])
def test_wrong_answers_are_told_what_is_wrong(name, answer, message):
    with pytest.raises(AssertionError, match=message):
        getattr(exercises, name)(answer)


def test_other_right_answers_pass():
    """The same in other words: in place, as tensors, in another precision."""

    def in_place(gradients, rule):
        norm = torch.nn.utils.get_total_norm(gradients)
        for gradient in gradients:
            gradient /= norm if rule == "normalise" else norm.clamp_min(1)
        return tuple(gradients)

    def by_trial(g1, g2):
        grid = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
        return grid[(grid * g1 + (1 - grid) * g2).norm(dim=1).argmin()]

    def differentiated(logits, label, temperature):
        at = logits.clone().requires_grad_(True)
        return torch.autograd.grad(-torch.log_softmax(at / temperature, dim=0)[label], at)[0]

    exercises.gradient_rules(in_place)
    exercises.shortest_of_two(by_trial)
    exercises.tempered_gradient(differentiated)
    exercises.linear_distance(lambda w, x, b: (w.double() @ x.double() + b) / w.double().abs().sum())
