"""Every exercise accepts the right answer and names the slip of the wrong ones that learners give."""

import html
import re

import nbformat
import numpy as np
import papermill
import pytest
import torch
from nbclient import NotebookClient

from robustlib import audit
from robustlib.attacks.scores import DLR, Margin
from robustlib.course import exercises
from robustlib.course.exercises import EXERCISES, solutions
from robustlib.course.exercises.scorecard import verdict_on_c1
from robustlib.course.teaching.sheet import lessons, read, tasks
from robustlib.study.claims.findings import OVER

TASKS = [task for lesson in lessons() for task in tasks(read(lesson))]
STUBS = {task.number: task.code for task in TASKS}


def function(source):
    namespace = {"np": np, "torch": torch, "OVER": OVER}
    exec(source, namespace)
    return namespace[re.match(r"def (\w+)", source)[1]]


def test_every_exercise_stands_in_one_notebook_and_its_solution_has_the_stubs_name():
    assert sorted(task.number for task in TASKS) == sorted(EXERCISES)
    for number, source in STUBS.items():
        assert EXERCISES[number].solution.__name__ == function(source).__name__
        assert exercises.solution_source(number).startswith(source.removesuffix(" ..."))


@pytest.mark.parametrize("number", EXERCISES)
def test_the_sample_solution_is_right_the_stub_open_and_nothing_returned_is_wrong(number):
    copy = function(exercises.solution_source(number))
    assert exercises.judge(number, copy).outcome == "correct"
    assert exercises.judge(number, function(STUBS[number])).outcome == "open"
    assert exercises.judge(number, lambda *arguments: len(arguments) and None).outcome == "wrong"


def test_whose_answer_was_judged_is_said_and_the_cells_below_always_have_a_function(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda markdown: shown.append(markdown.data))

    def wrong(outcomes):
        return outcomes.count("succeeded") / len(outcomes)

    def broken(outcomes):
        return outcomes.sum()

    right = lambda outcomes: outcomes.count("failed") / len(outcomes)  # noqa: E731
    stub, sample = function(STUBS["0.1"]), EXERCISES["0.1"].solution
    for solutions_wanted, answer, given_back, whose, sentence in (
        (False, stub, sample, "the sample solution", "is open"),
        (False, sample, sample, "the sample solution", "is open"),  # the check cell run twice
        (True, stub, sample, "the sample solution", "the sample solution"),
        (False, wrong, sample, "the sample solution", r"not right yet:\*\* 0.25 is the share of attacks"),
        (True, wrong, sample, "the sample solution", "not right yet"),
        (False, broken, sample, "the sample solution", r"raised AttributeError: .* line `return outcomes.sum\(\)`"),
        (False, right, right, "your answer", "your answer is correct"),
    ):
        exercises.use_solutions(solutions_wanted)
        assert exercises.check("0.1", answer) is given_back
        assert exercises.whose("0.1") == whose
        assert re.search(sentence, shown[-1])
    exercises.use_solutions(False)
    exercises.solution("0.1")
    assert "def adversarial_accuracy" in shown[-1]
    with pytest.raises(ValueError, match=r"no exercise '99.1': choose one of 0.1"):
        exercises.check("99.1", right)


def at_once(path):
    """Restart and run all."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook).execute()
    return notebook


def one_by_one(path):
    """Shift+Enter on every cell, twice on the checks."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook)
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            for _ in range(1 + ("check(" in cell.source)):
                client.execute_cell(cell, index)
    return notebook


def in_a_batch(path):
    return papermill.execute_notebook(path, None, parameters={"solutions": True}, progress_bar=False)


@pytest.mark.parametrize(
    ("run", "untouched"), [(at_once, "is open"), (one_by_one, "is open"), (in_a_batch, "the stub is untouched")]
)
def test_however_cells_are_run_the_verdict_is_on_the_learners_own_answer(run, untouched, tmp_path, write_notebook):
    wrong = "def undo(served_logits, design_temperature):\n    return served_logits"
    right = "def new_temperature(temperature, scale):\n    return scale * temperature"
    answers = {"0.1": (STUBS["0.1"], untouched), "0.2": (wrong, "is not right yet"), "1.2": (right, "is correct")}
    code = ["from robustlib.course import exercises\nexercises.use_solutions(solutions)"]
    for number, (answer, _) in answers.items():
        name = EXERCISES[number].solution.__name__
        code += [answer, f'{name} = exercises.check("{number}", {name})']
    notebook = run(write_notebook(tmp_path / "lesson.ipynb", *code))
    checks = [cell for cell in notebook.cells if "check(" in cell.source]
    assert len(checks) == len(answers)
    for cell, (_, verdict) in zip(checks, answers.values(), strict=True):
        (output,) = cell.outputs
        assert verdict in output.data["text/markdown"]


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


def great(logits, labels, least=0.0, factor=(torch.pi / 2) ** 0.5):
    probs = logits.softmax(1)
    return float(factor * (-Margin()(probs, labels)).clamp(min=least).mean())


def softmax_minus_truth(logits, label, temperature=1.0):
    error = torch.softmax(logits / temperature, dim=0)
    error[label] -= 1
    return error


def by_probability(logits, labels):
    p = torch.softmax(logits, dim=1)[torch.arange(len(labels)), labels]
    return torch.log(p) - torch.log(1 - p)


def halved(label, into=0, times=20):
    """An answer to 12.2 that keeps the half whose end has the class `into`."""
    low, high = 0.0, 1.0
    for _ in range(times):
        middle = (low + high) / 2
        low, high = (middle, high) if label(middle) == into else (low, middle)
    return low


def overconfident(served, images):
    """An answer to 11.2 by confidence alone."""
    return "miscalibration" if served(images).softmax(1).amax(1).mean() > 0.99 else ""


def three_ways(served, scale, low, blind, tolerance=5):
    if served - low <= tolerance:
        return "inconclusive" if blind else "no illusion found"
    return "miscalibration" if scale < (served + low) / 2 else "masked"


def changed(records, low=0.0, number=1, copy=True):
    records = records.copy() if copy else records
    rows = records.index[(records.metric == "accuracy_difference") & (records.method == OVER)]
    records.loc[rows[:number], "low"] = low
    return records


removal, claim_verdict, verdict = solutions.removal, solutions.claim_verdict, solutions.verdict

WRONG = {
    "0.1": [
        (lambda o: o.count("succeeded") / len(o), "share of attacks that succeeded"),
        (lambda o: 1 - o.count("succeeded") / len(o), "skipped"),
        (lambda o: o.count("failed") / (len(o) - o.count("skipped")), "below the fraction"),
    ],
    "0.2": [
        (lambda logits, t: logits / t, "divided twice"),
        (lambda logits, t: logits, "as they came"),
        (lambda logits, t: logits / (1 - t), "which T_a makes"),
    ],
    "1.1": [
        (lambda b: np.nansum((b["confidence"] - b["accuracy"]) * b["count"]) / 40, "must not cancel"),
        (lambda b: np.nanmean(np.abs(b["confidence"] - b["accuracy"])), "plain mean"),
        (lambda b: np.mean(b["confidence"] - b["accuracy"]), "empty bin"),
    ],
    "1.2": [
        (lambda t, s: t / s, "that is T / s"),
        (lambda t, s: t, "s times too small"),
        (lambda t, s: t + np.log(s), "which T gives the same quotient"),
    ],
    "2.1": [
        (lambda c, i, g, s, e: solutions.step(i, i, g, s, e), "starts from the clean image"),
        (lambda c, i, g, s, e: solutions.step(c, i, g, s, e) if (c - i).max() < 0.05 else i, "ends on its surface"),
        (lambda c, i, g, s, e: c + s * g, "use the sign"),
        (lambda c, i, g, s, e: c + s * g.sign(), r"left \[0, 1\]"),
        (lambda c, i, g, s, e: (c + s * g.sign()).clamp(0, 1), "left the ball"),
        (lambda c, i, g, s, e: (c + s * g.sign()).flatten(), r"tensor of shape \(1, 1, 1, 4\)"),
        (lambda c, i, g, s, e: c.add_(s), "changed the caller's image"),
    ],
    "2.2": [
        (lambda z, y: z.amax(1) - z.gather(1, y[:, None])[:, 0], "already at T = 1"),
        (lambda z, y: z.scatter_(1, y[:, None], -9.0).amax(1), "changed the caller's logits"),
        (lambda z, y: 1 - torch.softmax(z, 1).gather(1, y[:, None])[:, 0], "signal is gone"),
        (lambda z, y: -z.gather(1, y[:, None])[:, 0], "at least as high"),
        (lambda z, y: z, r"shape \(64,\), got \(64, 5\)"),
        (lambda z, y: 1.0, r"shape \(64,\), got 1.0"),
        (lambda z, y: (z.argmax(1) != y).float(), "nothing to climb"),
        (lambda z, y: Margin()(z, y) + z[:, 0] ** 2, "order of the candidates"),
    ],
    "3.1": [
        (lambda p, y: [True, False, False, False], r"shape \(4,\), got \[True"),
        (lambda p, y: p[:, 0], "one bool per example"),
        (lambda p, y: p.gather(1, y[:, None])[:, 0] == 1, "no gradient at all"),
    ],
    "3.2": [
        (lambda gap, wall: wall / gap, "upside down"),
        (lambda gap, wall: wall * gap, "do not multiply"),
        (lambda gap, wall: gap - wall, "once T is below"),
    ],
    "4.1": [
        (lambda z, y, b: -solutions.slope(z, y, b), "the sign is flipped"),
        (lambda z, y, b: 3 * solutions.slope(z, y, b), "that is the sum"),
        (lambda z, y, b: solutions.slope(z, y, 2 * b), "the slope is"),
        (lambda z, y, b: (z.amax(1) - z.gather(1, y[:, None])[:, 0]).mean(), "got 0.333333"),
        (lambda z, y, b: torch.zeros(len(y)), "the mean over the examples"),
    ],
    "4.2": [
        (lambda a, b: (a.sum(), b.sum()), "where they agree"),
        (lambda a, b: ((b & ~a).sum(), (a & ~b).sum()), "in the other order"),
        (lambda a, b: (a & ~b, b & ~a), "return two numbers"),
        (lambda a, b: (a and not b, b and not a), "truth value"),
    ],
    "5.1": [
        (lambda scores, clean: sorted(range(len(scores)), key=lambda i: scores[i]), "most important"),
        (lambda scores, clean: sorted(range(len(scores)), key=lambda i: -abs(scores[i] - clean)), "absolute value"),
        (lambda scores, clean: sorted(range(len(scores)), key=lambda i: (-scores[i], -i)), "reading order"),
        (lambda scores, clean: [1, 3], "every word position once"),
    ],
    "5.2": [
        (lambda logits, labels: -solutions.log_odds(logits, labels), "sign is flipped"),
        (by_probability, "infinite or NaN"),
        (lambda logits, labels: logits, r"shape \(3,\), got \(3, 2\)"),
    ],
    "6.1": [
        (lambda lo, hi, m: "equal" if -m < lo and hi < m else verdict(lo, hi, m), "ask for the sign first"),
        (lambda lo, hi, m: "lower" if (lo + hi) < 0 else "higher", "stays within 5 points"),
        (lambda lo, hi, m: "equal" if lo < 0 < hi else verdict(lo, hi, m), "nothing is decided"),
        (lambda lo, hi, m: "open" if hi - lo > 5 else verdict(lo, hi, m), "whole interval lies"),
    ],
    "6.2": [
        (lambda value: 2.0**-7, "between 1 and 2 only"),
        (lambda value: 2.0 ** (np.floor(np.log2(value)) - 8), "7 bits"),
        (lambda value: value * 2.0**-7, "which 2\\*\\*7 steps share"),
    ],
    "7.1": [
        (lambda labels: 1 / len(labels.unique()), "most common class"),
        (lambda labels: float((labels == 0).double().mean()), "expected 0.6"),
        (lambda labels: int(labels.bincount().max()), "is a count"),
    ],
    "7.2": [
        (lambda clean, naive, strong: float((naive & ~strong).sum() / (~strong).sum()), "wrong before"),
        (lambda clean, naive, strong: float((naive & ~strong).sum() / naive.sum() - 0.5), "left standing"),
        (lambda clean, naive, strong: (naive & clean & ~strong).sum() / max((clean & ~strong).sum(), 1), "undefined"),
    ],
    "8.1": [
        (one_norm_each, "each tensor has length 1 now: there is one norm"),
        (scaled(lambda norm, rule: 1 / norm), "Clipping never makes a gradient longer"),
        (scaled(lambda norm, rule: 1.0), "a long gradient after 'normalise' should be 1 long, got 5"),
        (scaled(lambda norm, rule: min(1.0, 1 / norm)), "short gradient after 'normalise' should be 1 long, got 0.05"),
        (scaled(lambda n, rule: -1 / n if rule == "normalise" else -min(1.0, 1 / n)), "never its direction"),
        (first_only, "never its direction"),
        (lambda gradients, rule: torch.cat([g.flatten() for g in gradients]), "one tensor per parameter"),
    ],
    "8.2": [
        (unclamped, "beyond the first: it is itself shortest"),
        (lambda g1, g2: min(unclamped(g1, g2), 1.0), "beyond the second: it is itself shortest"),
        (lambda g1, g2: max(unclamped(g1, g2), 0.0), "beyond the first"),
        (lambda g1, g2: 1 - min(max(unclamped(g1, g2), 0), 1), "longer gradient gets the smaller"),
        (lambda g1, g2: 0.5, "by the squares of the lengths"),
        (of_lengths(1), "by the squares of the lengths"),
        (of_lengths(2), "beyond the first"),
        (lambda g1, g2: float(g1.norm() < g2.norm()), "half of each"),
    ],
    "9.1": [
        (softmax_minus_truth, "one more factor"),
        (lambda z, y, t: softmax_minus_truth(z, y) / t, "The softmax is of logits / T"),
        (lambda z, y, t: torch.softmax(z / t, dim=0) / t, "of the true class 1 is subtracted"),
        (lambda z, y, t: -softmax_minus_truth(z, y, t) / t, "of the true class 1 is subtracted"),
        (lambda z, y, t: softmax_minus_truth(z, y, t) * t, "at T = 100 expected"),
        (lambda z, y, t: softmax_minus_truth(z, y, t)[y] / t, r"tensor of shape \(3,\)"),
    ],
    "9.2": [
        (lambda hot, cold: (hot["served"] - hot["log-odds"], hot["log-odds"] - cold["log-odds"]), "how much .more."),
        (lambda hot, cold: (10.0, hot["log-odds"] - cold["served"]), "attacked by the same adversary"),
        (lambda hot, cold: solutions.split(hot, cold)[::-1], "in the other order"),
        (lambda hot, cold: tuple(max(part, 0.0) for part in solutions.split(hot, cold)), "no clipping at 0"),
        (lambda hot, cold: hot["served"] - cold["served"], "return two numbers"),
        (lambda hot, cold: (0.0, hot["served"] - cold["served"]), "both models hide"),
    ],
    "13.1": [
        (lambda w, x, b: (w @ x + b) / w.norm(), "that is the L2 distance"),
        (lambda w, x, b: (w @ x) / w.abs().sum(), "sum of absolute weights"),
        (lambda w, x, b: (w @ x + b) / 3.5, "stretching all logits|sum of absolute weights"),
        (lambda w, x, b: w @ x + b, "stretching all logits|sum of absolute weights"),
    ],
    "13.2": [
        (lambda m, o: any(c > m[0] for c, r in o) and any(r > m[1] for c, r in o), "none at both"),
        (lambda m, o: all(c > m[0] and r > m[1] for c, r in o), "need not all be better"),
        (lambda m, o: any(c + r > sum(m) for c, r in o), "one thing only|a sum hides"),
        (lambda m, o: any(c + r > sum(m) + 10 for c, r in o), "single other model"),
        (lambda m, o: any(c >= m[0] and r >= m[1] for c, r in o), "as accurate is not more"),
    ],
    "10.2": [
        (lambda z, y: great(z, y, least=-1), "a wrong prediction scores 0"),
        (lambda z, y: great(z, y, factor=1), "the root of pi / 2, is missing"),
        (lambda z, y: len(z) * great(z, y), "a mean over examples"),
        (lambda z, y: great(z.exp().log_softmax(1), y), "expected 0.49"),
    ],
    "10.1": [
        (Margin(), "have the same factor|has the same factor"),
        (lambda z, y: -DLR()(z, y), "sign is flipped"),
        (lambda z, y: Margin()(z, y) / (z.amax(1) - z.sort(1).values[:, 1]), "is the margin again"),
        (lambda z, y: Margin()(z, y).abs() / (z.amax(1) - z.amin(1)), "above 0 where it is wrong"),
    ],
    "11.1": [
        (lambda v, s, low, blind: "inconclusive" if blind else three_ways(v, s, low, blind), "fall to another search"),
        (lambda v, s, low, blind: "miscalibration" if v - s > 5 else three_ways(v, s, low, blind), "the larger part"),
        (lambda v, s, low, blind: three_ways(v, s, low, False), "its failure says nothing"),
        (lambda v, s, low, blind: three_ways(v, s, low, blind, tolerance=4), "do not exceed"),
    ],
    "11.2": [
        (lambda served, *rest: "miscalibration", "its scores are rounded"),
        (lambda served, *rest: "masked", "its logits are divided by a constant"),
        (lambda served, x, *rest: overconfident(served, x) or "masked", "a scale alone is no illusion"),
    ],
    "12.1": [
        (lambda p: p.topk(2).values[:, 0] - p.topk(2).values[:, 1], "take logarithms first"),
        (lambda p: p.log().topk(2).values.diff(dim=1).squeeze(1), "sign is flipped"),
        (lambda p: p.log().amax(1) - p.log().amin(1), "the two gaps over T are"),
    ],
    "12.2": [
        (lambda label: next(k / 20000 for k in range(20001) if label(k / 20000)), "halve the part of the line"),
        (lambda label: 0.5, "within 0.0001"),
        (lambda label: halved(label, into=1), "within 0.0001"),
        (lambda label: halved(label, times=10), "within 0.0001"),
    ],
    "14.1": [
        (lambda i, x, s: removal(i, x, s) if x[0] > 0 or x[1] < s * i[0] else "removed", "not shown to be above"),
        (lambda i, x, s: "remains" if x[0] > 0 and i[0] > 5 else removal(i, x, s), "above 0, and below"),
        (lambda i, x, s: "undecided" if x[1] < 0 else removal(i, x, s), "below honest"),
        (lambda i, x, s: "removed" if x[1] < s * i[1] else removal(i, x, s), "compare with the lower end"),
        (lambda i, x, s: "remains" if x[0] > s * i[0] else removal(i, x, s), "compare with the upper end"),
        (lambda i, x, s: removal((max(i[0], 6), i[1]), x, s), "no illusion worth removing"),
        (lambda i, x, s: removal(i, x, 0.2), "use the argument `share`"),
    ],
    "14.2": [
        (lambda o: "reproduced" if set(o) <= {"holds", "void"} else claim_verdict(o), "nothing to remove anywhere"),
        (lambda o: "reproduced" if o.count("holds") > len(o) / 2 else claim_verdict(o), "there is no vote"),
        (lambda o: claim_verdict([x for x in o if x != "missing"]), "nobody measured"),
        (lambda o: claim_verdict(["fails" if x == "void" else x for x in o]), "nothing to remove, nothing"),
        (lambda o: "reproduced" if not o else claim_verdict(o), "a test that cannot fail"),
        (lambda o: "inconclusive" if "open" in o else claim_verdict(o), "does not count as holding"),
        (lambda o: claim_verdict(["fails" if x == "open" else x for x in o]), "the sample was too small"),
    ],
    "14.3": [
        (lambda r: changed(r, copy=False), "the caller's records"),
        (lambda r: r.copy(), "still reproduced"),
        (lambda r: changed(r, low=2.1), "still reproduced"),
        (lambda r: changed(r, number=2), "now nothing holds"),
        (lambda r: changed(r)[1:], "rows or columns"),
        (lambda r: changed(r).assign(n=1), "change mean, low and high only"),
        (lambda r: changed(r, low=r.low.max()).assign(mean=-1.0), "must hold its mean"),
    ],
    "15.1": [
        (lambda ca, cb, a, b: 100 * (a.mean() - b.mean()), "over all six examples"),
        (lambda ca, cb, a, b: 100 * (a[ca].mean() - b[cb].mean()), "over the same examples"),
        (lambda ca, cb, a, b: a[ca & cb].mean() - b[ca & cb].mean(), "times 100"),
        (lambda ca, cb, a, b: 100 * (b[ca & cb].mean() - a[ca & cb].mean()), "not b minus a"),
    ],
    "15.2": [
        (lambda standing, keeps: standing & keeps, "still stands"),
        (lambda standing, keeps: standing | keeps, "does not stand"),
        (lambda standing, keeps: standing, "no adversarial example"),
    ],
}
HINTS = [
    (task.number, phrase)
    for task in TASKS
    for summary in re.findall("Hint: (.*?)</summary>", task.question)
    for phrase in re.findall(r'"([^"]+?)(?: ?\.\.\.)?"', html.unescape(summary))
]
CASES = [(name, *case) for name, cases in WRONG.items() for case in cases]


@pytest.mark.parametrize(("name", "answer", "message"), CASES, ids=[f"{name}-{text[:30]}" for name, _, text in CASES])
def test_wrong_answers_are_rejected_with_a_reason(name, answer, message):
    judgement = exercises.judge(name, answer)
    assert judgement.outcome == "wrong"
    assert 0 <= judgement.passed < 1
    assert re.search(message, judgement.slip)


def in_place(gradients, rule):
    norm = torch.nn.utils.get_total_norm(gradients)
    for gradient in gradients:
        gradient /= norm if rule == "normalise" else norm.clamp_min(1)
    return tuple(gradients)


def by_trial(g1, g2):
    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
    return grid[(grid * g1 + (1 - grid) * g2).norm(dim=1).argmin()]


@pytest.mark.parametrize(("name", "phrase"), HINTS)
def test_a_hint_is_named_after_what_the_check_says(name, phrase):
    assert any(phrase in exercises.judge(name, answer).slip for answer, _ in WRONG[name])


def differentiated(logits, label, temperature):
    at = logits.clone().requires_grad_(True)
    return torch.autograd.grad(-torch.log_softmax(at / temperature, dim=0)[label], at)[0]


def differentiated_nll(logits, labels, beta):
    scale = torch.tensor(float(beta), dtype=logits.dtype, requires_grad=True)
    return torch.autograd.grad(torch.nn.functional.cross_entropy(scale * logits, labels), scale)[0]


def removal_by_cases(illusion, left, share):
    surely_removed, surely_left = left[1] < share * illusion[0], left[0] > share * illusion[1]
    return "void" if not illusion[0] > 5 else ["undecided", "remains", "removed"][surely_left + 2 * surely_removed]


def verdict_by_cases(outcomes):
    seen = {one: one in outcomes for one in ("holds", "fails", "open", "missing", "void")}
    if seen["holds"]:
        return "partly" if seen["fails"] or seen["open"] or seen["missing"] else "reproduced"
    for one, verdict_on_all in (("fails", "not reproduced"), ("open", "inconclusive"), ("void", "nothing to test")):
        if seen[one]:
            return verdict_on_all
    return "not tested"


RIGHT = [
    ("2.2", DLR()),
    ("2.2", lambda z, y: Margin()(z, y) / (z.amax(1) - z.amin(1))),
    ("2.2", lambda z, y: Margin()(z.double(), y)),
    ("1.1", lambda b: np.nansum(np.abs(b["confidence"] - b["accuracy"]) * b["count"]) / 40),
    ("4.2", lambda a, b: np.array([(a > b).sum(), (b > a).sum()])),
    ("5.1", lambda scores, clean: np.argsort(-np.array(scores), kind="stable")),
    ("6.2", lambda value: torch.finfo(torch.bfloat16).eps * 2.0 ** np.floor(np.log2(value))),
    ("8.1", in_place),
    ("8.2", by_trial),
    ("9.1", differentiated),
    (
        "9.2",
        lambda hot, cold: [
            (hot["served"] - hot["log-odds"]) - (cold["served"] - cold["log-odds"]),
            np.float64(hot["log-odds"] - cold["log-odds"]),
        ],
    ),
    ("13.2", lambda model, others: bool(sum(o[0] > model[0] and o[1] > model[1] for o in others))),
    ("13.1", lambda w, x, b: (w.double() @ x.double() + b) / w.double().abs().sum()),
    ("10.1", DLR()),
    ("0.1", lambda o: float(np.mean([one == "failed" for one in o]))),
    ("0.2", lambda logits, t: t * logits),
    ("1.2", lambda t, s: np.float64(s) * t),
    ("2.1", lambda c, x, g, s, e: (c + s * torch.sign(g)).clamp(x - e, x + e).clamp(min=0, max=1)),
    ("3.1", lambda p, y: (p.gather(1, y[:, None])[:, 0] == 1) & (p.count_nonzero(dim=1) > 1)),
    ("3.2", lambda gap, wall: np.exp(np.log(gap) - np.log(wall))),
    ("4.1", lambda z, y, b: differentiated_nll(z, y, b)),
    ("5.2", lambda z, y: (z[:, 1] - z[:, 0]) * (2 * y - 1)),
    ("6.1", lambda lo, hi, m: ("open", "equal")[max(-lo, hi) < m] if lo <= 0 <= hi else ("higher", "lower")[hi < 0]),
    ("7.1", lambda labels: (labels == labels.mode().values).float().mean()),
    ("7.2", lambda clean, naive, strong: np.float32(naive[clean > strong].mean() if any(clean > strong) else np.nan)),
    ("10.2", lambda z, y: great(z.double(), y)),
    ("11.1", three_ways),
    ("11.2", lambda served, x, y, epsilon: audit(served, x[:60], y[:60], epsilon=epsilon).verdict),
    ("12.2", lambda label: halved(label, times=24)),
    ("14.1", removal_by_cases),
    ("14.2", verdict_by_cases),
    ("14.3", lambda records: changed(records, low=-0.5)),
    ("15.1", lambda ca, cb, a, b: 100 * (a[ca * cb].sum() - b[ca * cb].sum()) / (ca * cb).sum()),
    ("15.2", lambda standing, keeps: ~(~standing & keeps)),
    ("12.1", lambda p: p.log().amax(1) - p.log().sort(1).values[:, -2]),
]


def test_every_exercise_was_tried_with_three_wrong_answers_and_one_right_one_written_differently():
    assert {number for number, cases in WRONG.items() if len(cases) >= 3} == set(EXERCISES)
    assert {number for number, _ in RIGHT} == set(EXERCISES)


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_right_answers_that_differ_from_the_solution_pass(name, answer):
    assert exercises.judge(name, answer) == exercises.base.Judgement(name, "correct", passed=1.0)


def test_the_made_up_world_is_one_in_which_the_claim_holds():
    assert verdict_on_c1(exercises.made_up_records()) == "reproduced"
