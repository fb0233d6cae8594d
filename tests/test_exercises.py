"""Every exercise check accepts the right answer and rejects, with a reason, the wrong ones learners give."""

import numpy as np
import pytest
import torch

from robustlib.course.exercises import images as exercises


def right_step(current, image, gradient, step_size, epsilon):
    moved = current + step_size * gradient.sign()
    return torch.max(torch.min(moved, image + epsilon), image - epsilon).clamp(0, 1)


def margin(logits, labels):
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - logits.gather(1, labels[:, None])[:, 0]


def one_sided(probs, labels):
    gradient = probs - torch.nn.functional.one_hot(labels, probs.shape[1])
    own = gradient.gather(1, labels[:, None])[:, 0]
    return (own == 0) & (gradient != 0).any(dim=1)


def slope(logits, labels, beta):
    expected = (torch.softmax(beta * logits, dim=1) * logits).sum(dim=1)
    return (expected - logits.gather(1, labels[:, None])[:, 0]).mean()


def ece(bins):
    gap = np.abs(bins["confidence"] - bins["accuracy"])
    return np.nansum(gap * bins["count"]) / bins["count"].sum()


RIGHT = [
    (exercises.adversarial_accuracy, lambda outcomes: outcomes.count("failed") / len(outcomes)),
    (exercises.undo_temperature, lambda logits, t: logits * t),
    (exercises.expected_calibration_error, ece),
    (exercises.temperature_for_scaled_logits, lambda t, s: t * s),
    (exercises.pgd_step, right_step),
    (exercises.scale_free_score, margin),
    (exercises.one_sided, one_sided),
    (exercises.temperature_of_wall, lambda gap, wall: gap / wall),
    (exercises.nll_slope, slope),
    (exercises.flips, lambda a, b: ((a & ~b).sum(), (b & ~a).sum())),
]
WRONG = [
    (exercises.adversarial_accuracy, lambda o: 1 - o.count("succeeded") / len(o), "skipped"),
    (exercises.adversarial_accuracy, lambda o: o.count("failed") / (len(o) - o.count("skipped")), "below the fraction"),
    (exercises.undo_temperature, lambda logits, t: logits / t, "The adversary's temperature divides too"),
    (exercises.expected_calibration_error, lambda b: np.nanmean(np.abs(b["confidence"] - b["accuracy"])), "plain mean"),
    (exercises.expected_calibration_error, lambda b: np.mean(b["confidence"] - b["accuracy"]), "empty bin"),
    (exercises.temperature_for_scaled_logits, lambda t, s: t / s, "which T gives the same quotient"),
    (exercises.pgd_step, lambda c, i, g, s, e: c + s * g, "use the sign"),
    (exercises.pgd_step, lambda c, i, g, s, e: c + s * g.sign(), r"left \[0, 1\]"),
    (exercises.pgd_step, lambda c, i, g, s, e: (c + s * g.sign()).clamp(0, 1), "left the ball"),
    (exercises.pgd_step, lambda c, i, g, s, e: (c + s * g.sign()).flatten(), "tensor of the image's shape"),
    (exercises.pgd_step, lambda c, i, g, s, e: c.add_(s), "changed the caller's image"),
    (
        exercises.scale_free_score,
        lambda z, y: 1 - torch.softmax(z, 1).gather(1, y[:, None])[:, 0],
        "signal is gone|order",
    ),
    (exercises.scale_free_score, lambda z, y: -z.gather(1, y[:, None])[:, 0], "at least as high"),
    (exercises.scale_free_score, lambda z, y: z, "one number per example"),
    (exercises.scale_free_score, lambda z, y: 1.0, "one number per example"),
    (exercises.one_sided, lambda p, y: [True, False, False, False], "one bool per example"),
    (exercises.one_sided, lambda p, y: p.gather(1, y[:, None])[:, 0] == 1, "no gradient at all"),
    (exercises.temperature_of_wall, lambda gap, wall: wall / gap, "once T is below"),
    (exercises.nll_slope, lambda z, y, b: -slope(z, y, b), "the slope is"),
    (exercises.nll_slope, lambda z, y, b: torch.zeros(len(y)), "the mean over the examples"),
    (exercises.flips, lambda a, b: (a.sum(), b.sum()), r"expected \(2, 1\), got \(3, 2\)"),
    (exercises.flips, lambda a, b: (a & ~b, b & ~a), "return two numbers"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT, ids=lambda value: getattr(value, "__name__", ""))
def test_the_right_answer_passes(check, answer, capsys):
    check(answer)
    assert "correct" in capsys.readouterr().out


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_wrong_answers_are_rejected_with_a_reason(check, answer, message):
    with pytest.raises(AssertionError, match=message):
        check(answer)


@pytest.mark.parametrize("check", [check for check, _ in RIGHT], ids=lambda check: check.__name__)
def test_the_stub_and_a_forgotten_return_are_named(check):
    with pytest.raises(AssertionError, match="your function returned None: is the `return` missing, or is it still"):
        check(lambda *arguments: None)
