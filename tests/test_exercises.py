"""Every exercise check accepts the right answer and rejects, with a reason, the wrong ones that learners give."""

import numpy as np
import pytest
import torch
from notebook_exercises import read_exercises

from robustlib.attacks.scores import DLR, Margin
from robustlib.course import exercises
from robustlib.course.exercises import images, scorecard, texts, training
from robustlib.study.claims.findings import OVER

EXERCISES = read_exercises()


def solved(name):
    """The solution in the notebook."""
    return EXERCISES[name].solution


def test_every_check_belongs_to_one_exercise_and_is_handed_on():
    modules = (images, texts, training, scorecard)
    values = [value for module in modules for value in vars(module).values()]
    checks = [value for value in values if (value.__doc__ or "").startswith("Exercise")]
    assert sorted(check.__name__ for check in checks) == sorted(EXERCISES)
    assert all(getattr(exercises, check.__name__) is check for check in checks)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_notebooks_solution_passes(name, capsys):
    getattr(exercises, name)(solved(name))
    assert "correct" in capsys.readouterr().out


@pytest.mark.parametrize("name", EXERCISES)
def test_the_notebooks_stub_and_a_forgotten_return_are_rejected(name):
    message = "return the changed records" if name == "flip" else "is the `return` missing, or is it still the stub"
    for answer in (EXERCISES[name].stub, lambda *arguments: None):
        with pytest.raises(AssertionError, match=message):
            getattr(exercises, name)(answer)


# --- wrong answers ---------------------------------------------------------------------------------------------


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


def by_probability(logits, labels):
    p = torch.softmax(logits, dim=1)[torch.arange(len(labels)), labels]
    return torch.log(p) - torch.log(1 - p)


def changed(records, low=0.0, number=1, copy=True):
    records = records.copy() if copy else records
    rows = records.index[(records.metric == "accuracy_difference") & (records.method == OVER)]
    records.loc[rows[:number], "low"] = low
    return records


removal, claim_verdict, verdict = solved("removal"), solved("claim_verdict"), solved("verdict")

WRONG = {
    "adversarial_accuracy": [
        (lambda o: 1 - o.count("succeeded") / len(o), "skipped"),
        (lambda o: o.count("failed") / (len(o) - o.count("skipped")), "below the fraction"),
    ],
    "undo_temperature": [(lambda logits, t: logits / t, "The adversary's temperature divides too")],
    "expected_calibration_error": [
        (lambda b: np.nanmean(np.abs(b["confidence"] - b["accuracy"])), "plain mean"),
        (lambda b: np.mean(b["confidence"] - b["accuracy"]), "empty bin"),
    ],
    "temperature_for_scaled_logits": [(lambda t, s: t / s, "which T gives the same quotient")],
    "pgd_step": [
        (lambda c, i, g, s, e: c + s * g, "use the sign"),
        (lambda c, i, g, s, e: c + s * g.sign(), r"left \[0, 1\]"),
        (lambda c, i, g, s, e: (c + s * g.sign()).clamp(0, 1), "left the ball"),
        (lambda c, i, g, s, e: (c + s * g.sign()).flatten(), r"tensor of shape \(1, 1, 1, 4\)"),
        (lambda c, i, g, s, e: c.add_(s), "changed the caller's image"),
    ],
    "scale_free_score": [
        (lambda z, y: 1 - torch.softmax(z, 1).gather(1, y[:, None])[:, 0], "signal is gone"),
        (lambda z, y: -z.gather(1, y[:, None])[:, 0], "at least as high"),
        (lambda z, y: z, r"shape \(64,\), got \(64, 5\)"),
        (lambda z, y: 1.0, r"shape \(64,\), got 1.0"),
        (lambda z, y: (z.argmax(1) != y).float(), "nothing to climb"),
        (lambda z, y: Margin()(z, y) + z[:, 0] ** 2, "order of the candidates"),
    ],
    "one_sided": [
        (lambda p, y: [True, False, False, False], r"shape \(4,\), got \[True"),
        (lambda p, y: p[:, 0], "one bool per example"),
        (lambda p, y: p.gather(1, y[:, None])[:, 0] == 1, "no gradient at all"),
    ],
    "temperature_of_wall": [(lambda gap, wall: wall / gap, "once T is below")],
    "nll_slope": [
        (lambda z, y, b: -solved("nll_slope")(z, y, b), "the slope is"),
        (lambda z, y, b: torch.zeros(len(y)), "the mean over the examples"),
    ],
    "flips": [
        (lambda a, b: (a.sum(), b.sum()), r"expected \(2, 1\), got \(3, 2\)"),
        (lambda a, b: (a & ~b, b & ~a), "return two numbers"),
    ],
    "importance_order": [
        (lambda scores, clean: sorted(range(len(scores)), key=lambda i: scores[i]), "most important"),
        (lambda scores, clean: sorted(range(len(scores)), key=lambda i: -abs(scores[i] - clean)), "absolute value"),
        (lambda scores, clean: sorted(range(len(scores)), key=lambda i: (-scores[i], -i)), "reading order"),
        (lambda scores, clean: [1, 3], "every word position once"),
    ],
    "log_odds": [
        (lambda logits, labels: -solved("log_odds")(logits, labels), "sign is flipped"),
        (by_probability, "infinite or NaN"),
        (lambda logits, labels: logits, r"shape \(3,\), got \(3, 2\)"),
    ],
    "verdict": [
        (lambda low, high, margin: "lower" if (low + high) < 0 else "higher", "stays within 5 points"),
        (lambda low, high, margin: "equal" if low < 0 < high else verdict(low, high, margin), "nothing is decided"),
        (lambda low, high, margin: "open" if high - low > 5 else verdict(low, high, margin), "whole interval lies"),
    ],
    "bfloat16_step": [
        (lambda value: 2.0**-7, "between 1 and 2 only"),
        (lambda value: 2.0 ** (np.floor(np.log2(value)) - 8), "7 bits"),
        (lambda value: value * 2.0**-7, "which 2\\*\\*7 steps share"),
    ],
    "constant_accuracy": [
        (lambda labels: 1 / len(labels.unique()), "most common class"),
        (lambda labels: float((labels == 0).double().mean()), "expected 0.6"),
    ],
    "hidden_share": [
        (lambda clean, naive, strong: float((naive & ~strong).sum() / (~strong).sum()), "wrong before"),
        (lambda clean, naive, strong: float((naive & ~strong).sum() / naive.sum() - 0.5), "left standing"),
        (lambda clean, naive, strong: (naive & clean & ~strong).sum() / max((clean & ~strong).sum(), 1), "undefined"),
    ],
    "gradient_rules": [
        (one_norm_each, "each tensor has length 1 now: there is one norm"),
        (scaled(lambda norm, rule: 1 / norm), "Clipping never makes a gradient longer"),
        (scaled(lambda norm, rule: 1.0), "a long gradient after 'normalise' should be 1 long, got 5"),
        (scaled(lambda norm, rule: min(1.0, 1 / norm)), "short gradient after 'normalise' should be 1 long, got 0.05"),
        (scaled(lambda norm, rule: 1 / norm**2), "should be 1 long, got 0.2"),
        (scaled(lambda n, rule: -1 / n if rule == "normalise" else -min(1.0, 1 / n)), "never its direction"),
        (first_only, "never its direction"),
        (lambda gradients, rule: torch.cat([g.flatten() for g in gradients]), "one tensor per parameter"),
    ],
    "shortest_of_two": [
        (unclamped, "beyond the first: it is itself shortest"),
        (lambda g1, g2: min(unclamped(g1, g2), 1.0), "beyond the second: it is itself shortest"),
        (lambda g1, g2: max(unclamped(g1, g2), 0.0), "beyond the first"),
        (lambda g1, g2: 1 - min(max(unclamped(g1, g2), 0), 1), "longer gradient gets the smaller"),
        (lambda g1, g2: 0.5, "by the squares of the lengths"),
        (of_lengths(1), "by the squares of the lengths"),
        (of_lengths(2), "beyond the first"),
        (lambda g1, g2: float(g1.norm() < g2.norm()), "half of each"),
    ],
    "tempered_gradient": [
        (softmax_minus_truth, "one more factor"),
        (lambda z, y, t: softmax_minus_truth(z, y) / t, "The softmax is of logits / T"),
        (lambda z, y, t: torch.softmax(z / t, dim=0) / t, "of the true class 1 is subtracted"),
        (lambda z, y, t: -softmax_minus_truth(z, y, t) / t, "of the true class 1 is subtracted"),
        (lambda z, y, t: softmax_minus_truth(z, y, t) * t, "at T = 100 expected"),
        (lambda z, y, t: softmax_minus_truth(z, y, t)[y] / t, r"tensor of shape \(3,\)"),
    ],
    "linear_distance": [
        (lambda w, x, b: (w @ x + b) / w.norm(), "that is the L2 distance"),
        (lambda w, x, b: (w @ x) / w.abs().sum(), "sum of absolute weights"),
        (lambda w, x, b: (w @ x + b) / w.sum(), "sum of absolute weights"),
        (lambda w, x, b: (w @ x + b) / w.abs().max(), "sum of absolute weights"),
        (lambda w, x, b: (w @ x + b) / 3.5, "stretching all logits|sum of absolute weights"),
        (lambda w, x, b: w @ x + b, "stretching all logits|sum of absolute weights"),
    ],
    "removal": [
        (lambda i, x, s: removal(i, x, s) if x[0] > 0 or x[1] < s * i[0] else "removed", "not shown to be above"),
        (lambda i, x, s: "remains" if x[0] > 0 and i[0] > 5 else removal(i, x, s), "above 0, and below"),
        (lambda i, x, s: "undecided" if x[1] < 0 else removal(i, x, s), "below honest"),
        (lambda i, x, s: "removed" if x[1] < s * i[1] else removal(i, x, s), "compare with the lower end"),
        (lambda i, x, s: "remains" if x[0] > s * i[0] else removal(i, x, s), "compare with the upper end"),
        (lambda i, x, s: removal((max(i[0], 6), i[1]), x, s), "no illusion worth removing"),
        (lambda i, x, s: removal(i, x, 0.2), "use the argument `share`"),
    ],
    "claim_verdict": [
        (lambda o: "reproduced" if set(o) <= {"holds", "void"} else claim_verdict(o), "nothing to remove anywhere"),
        (lambda o: "reproduced" if o.count("holds") > len(o) / 2 else claim_verdict(o), "there is no vote"),
        (lambda o: claim_verdict([x for x in o if x != "missing"]), "nobody measured"),
        (lambda o: claim_verdict(["fails" if x == "void" else x for x in o]), "nothing to remove, nothing"),
        (lambda o: "reproduced" if not o else claim_verdict(o), "a test that cannot fail"),
        (lambda o: "inconclusive" if "open" in o else claim_verdict(o), "does not count as holding"),
        (lambda o: claim_verdict(["fails" if x == "open" else x for x in o]), "the sample was too small"),
    ],
    "flip": [
        (lambda r: changed(r, copy=False), "the caller's records"),
        (lambda r: r.copy(), "still reproduced"),
        (lambda r: changed(r, low=2.1), "still reproduced"),
        (lambda r: changed(r, number=2), "now nothing holds"),
        (lambda r: changed(r)[1:], "rows or columns"),
        (lambda r: changed(r).assign(n=1), "change mean, low and high only"),
        (lambda r: changed(r, low=r.low.max()).assign(mean=-1.0), "must hold its mean"),
    ],
}
CASES = [(name, *case) for name, cases in WRONG.items() for case in cases]


@pytest.mark.parametrize(("name", "answer", "message"), CASES, ids=[f"{name}-{text[:30]}" for name, _, text in CASES])
def test_wrong_answers_are_rejected_with_a_reason(name, answer, message):
    with pytest.raises(AssertionError, match=message):
        getattr(exercises, name)(answer)


# --- other right answers ---------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("scale_free_score", DLR()),
        ("scale_free_score", lambda z, y: Margin()(z, y) / (z.amax(1) - z.amin(1))),
        ("scale_free_score", lambda z, y: Margin()(z.double(), y)),
        ("expected_calibration_error", lambda b: np.nansum(np.abs(b["confidence"] - b["accuracy"]) * b["count"]) / 40),
        ("flips", lambda a, b: np.array([(a > b).sum(), (b > a).sum()])),
        ("importance_order", lambda scores, clean: np.argsort(-np.array(scores), kind="stable")),
        ("bfloat16_step", lambda value: torch.finfo(torch.bfloat16).eps * 2.0 ** np.floor(np.log2(value))),
        ("gradient_rules", in_place),
        ("shortest_of_two", by_trial),
        ("tempered_gradient", differentiated),
        ("linear_distance", lambda w, x, b: (w.double() @ x.double() + b) / w.double().abs().sum()),
    ],
)
def test_right_answers_that_differ_from_the_solution_pass(name, answer):
    getattr(exercises, name)(answer)


def test_the_made_up_world_is_one_in_which_the_claim_holds():
    assert scorecard.verdict_on_c1(exercises.made_up_records()) == "reproduced"
