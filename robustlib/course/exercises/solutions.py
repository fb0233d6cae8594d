"""Sample solutions of the exercises, named as the stubs of the lessons; `exercises.solution("0.1")` shows one."""

import numpy as np
import torch

from robustlib.study.claims.findings import OVER


def adversarial_accuracy(outcomes):
    return outcomes.count("failed") / len(outcomes)


def undo(served_logits, design_temperature):
    adversary_temperature = 1 / design_temperature
    return served_logits / adversary_temperature


def ece(bins):
    filled = bins["count"] > 0
    gap = np.abs(bins["confidence"][filled] - bins["accuracy"][filled])
    return float((bins["count"][filled] / bins["count"].sum() * gap).sum())


def new_temperature(temperature, scale):
    return temperature * scale


def step(current, image, gradient, step_size, epsilon):
    moved = current + step_size * gradient.sign()
    inside = torch.max(torch.min(moved, image + epsilon), image - epsilon)
    return inside.clamp(0, 1)


def my_score(logits, labels):
    rows = torch.arange(len(logits))
    others = logits.clone()
    others[rows, labels] = -torch.inf
    return others.max(dim=1).values - logits[rows, labels]


def one_sided(probs, labels):
    gradient = probs - torch.nn.functional.one_hot(labels, probs.shape[1])
    own = gradient[torch.arange(len(labels)), labels]
    return (own == 0) & (gradient != 0).any(dim=1)


def wall_temperature(gap, wall):
    return gap / wall


def slope(logits, labels, beta):
    expected = (torch.softmax(beta * logits, dim=1) * logits).sum(dim=1)
    return float((expected - logits[torch.arange(len(labels)), labels]).mean())


def flips(a, b):
    return int((a & ~b).sum()), int((b & ~a).sum())


def importance_order(score_without, clean_score):
    return sorted(range(len(score_without)), key=lambda i: -(score_without[i] - clean_score))


def log_odds(logits, labels):
    rows = torch.arange(len(logits))
    return logits[rows, labels] - logits[rows, 1 - labels]


def verdict(low, high, tolerance):
    if high < 0:
        return "lower"
    if low > 0:
        return "higher"
    return "equal" if -tolerance < low and high < tolerance else "open"


def bfloat16_step(value):
    return 2.0 ** (np.floor(np.log2(value)) - 7)


def constant_accuracy(labels):
    return float(labels.bincount().max() / len(labels))


def hidden_share(clean, naive, strong):
    broken = clean & ~strong
    return float((naive & broken).sum() / broken.sum()) if broken.any() else float("nan")


def rescaled(gradients, rule):
    norm = torch.sqrt(sum((gradient**2).sum() for gradient in gradients))
    factor = 1 / norm if rule == "normalise" else min(1.0, 1 / norm)
    return [gradient * factor for gradient in gradients]


def weight(g1, g2):
    difference = g1 - g2
    return float((-(difference @ g2) / (difference @ difference)).clamp(0, 1))


def gradient(logits, label, temperature):
    error = torch.softmax(logits / temperature, dim=0)
    error[label] -= 1
    return error / temperature


def split(hot, cold):
    real = hot["log-odds"] - cold["log-odds"]
    return hot["served"] - cold["served"] - real, real


def distance(w, x, b):
    return float((w @ x + b) / w.abs().sum())


def dominated(model, others):
    return any(clean > model[0] and robust > model[1] for clean, robust in others)


def removal(illusion, left, share):
    if illusion[0] <= 5:
        return "void"
    if left[1] < share * illusion[0]:
        return "removed"
    return "remains" if left[0] > share * illusion[1] else "undecided"


def claim_verdict(outcomes):
    judged = set(outcomes) - {"void"}
    if judged == {"holds"}:
        return "reproduced"
    if "holds" in judged:
        return "partly"
    if "fails" in judged:
        return "not reproduced"
    if "open" in judged:
        return "inconclusive"
    return "nothing to test" if "void" in outcomes else "not tested"


def flip(records):
    changed = records.copy()
    differences = changed[(changed.metric == "accuracy_difference") & (changed.method == OVER)]
    changed.loc[differences.index[0], "low"] = 0.0
    return changed


def rule(served, scale, low, blind):
    if served - low > 5:
        return "miscalibration" if served - scale > scale - low else "masked"
    return "inconclusive" if blind else "no illusion found"


def judge(served, images, labels, epsilon):
    from robustlib import audit

    return audit(served, images, labels, epsilon=epsilon, n=60).verdict


def great_score(logits, labels):
    probs = torch.softmax(logits, dim=1)
    rows = torch.arange(len(labels))
    others = probs.clone()
    others[rows, labels] = -1
    gaps = (probs[rows, labels] - others.max(dim=1).values).clamp(min=0)
    return float((torch.pi / 2) ** 0.5 * gaps.mean())


def ratio(logits, labels):
    rows = torch.arange(len(labels))
    others = logits.clone()
    others[rows, labels] = -torch.inf
    margin = others.max(dim=1).values - logits[rows, labels]
    ordered = logits.sort(dim=1, descending=True).values
    return margin / (ordered[:, 0] - ordered[:, 2])


def log_ratio(probs):
    top = probs.log().topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def boundary(label):
    first, low, high = label(0.0), 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if label(middle) == first:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def difference(clean_a, clean_b, changed_a, changed_b):
    both = clean_a & clean_b
    return float(100 * (changed_a[both].mean() - changed_b[both].mean()))


def within(standing, keeps):
    return standing | ~keeps
