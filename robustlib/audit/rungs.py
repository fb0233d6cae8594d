"""The ladder of attacks on images: one table, cheap rungs first, each searched its own way and judged as served."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib import attacks
from robustlib.attacks import ball
from robustlib.attacks.result import FAILED
from robustlib.attacks.scores import DLR, CrossEntropy, Margin, Score, TargetedMargin
from robustlib.attacks.signs import rays, sign_hunter
from robustlib.attacks.straight_through import straight_through
from robustlib.attacks.surrogate import fit_image_surrogate
from robustlib.audit import needed
from robustlib.audit.case import Case, taken
from robustlib.calibration.fit import typical_gap
from robustlib.calibration.search import search_log

STEPS = 20  # of gradient ascent
N_TARGETS = 3  # likeliest wrong classes that are aimed at
N_PARTS = 2  # inner parts that are searched, of those that predict as the model does
N_SEARCHED = 30  # examples that every temperature of a search, and every inner part, is tried on
N_AVERAGED = 8  # passes of one step over a random subject
N_QUERIES, N_SIGNS = 300, 300  # of Square, and of a search for signs of pixels
INSIDE = 1e-3  # how far pixels are kept from 0 and 1 where gradients are NaN


@dataclass(frozen=True)
class Plan:
    """A rung that may be climbed.

    Attributes:
        name, adversary, attack, family: as in `Rung`.
        unneeded: why it is left out in this case; "" where it is to run.
        run: the adversarial inputs of the attacked examples.
        passes: what an example costs, in forward passes, at most.
    """

    name: str
    adversary: str
    attack: str
    family: str
    unneeded: Callable[[Case], str]
    run: Callable[[Case], Any]
    passes: int


def climb(case: Case, search: Callable, score: Score, rows: np.ndarray | None = None, **options: Any) -> Tensor:
    """PGD on a search function from the attacked examples (or those at `rows` among them)."""
    images, labels = case.attacked, case.attacked_labels
    if rows is not None:
        images, labels = taken(images, rows), labels[torch.as_tensor(rows, device=labels.device)]
    settings = {"steps": STEPS, "leave_early": not case.random, "seed": case.seed, **_ball(case), **options}
    result = attacks.pgd(search, images, labels, score=score, batch_size=case.served.batch_size, **settings)
    case.served.n_backward += result.n_backward
    return result.adversarial


def strongest(
    case: Case, search: Callable, *, tried: tuple[Tensor, np.ndarray] | None = None, margin: bool = True
) -> tuple[Tensor, np.ndarray]:
    """Margin, then the margin to each of the likeliest wrong classes, each tried on what the served model still stands.

    Args:
        tried: points and judged shares to go on from, which are those returned. margin: False where these come from
            the margin on the same function.
    """
    images, labels = case.attacked, case.attacked_labels
    points, share = tried or (images.clone(), np.ones(len(images)))
    points, share = points.clone(), share.copy()

    def attempt(score: Score, **options: Any) -> None:
        rows = np.flatnonzero(share > 0.5)
        if len(rows):
            chosen = torch.as_tensor(rows, device=images.device)
            score = score.of(chosen) if isinstance(score, TargetedMargin) else score
            found = climb(case, search, score, rows, **options)
            judged = case.judged(found, rows)
            better = judged < share[rows]
            points[chosen[torch.as_tensor(better, device=images.device)]] = found[torch.as_tensor(better)]
            share[rows[better]] = judged[better]

    if margin:
        attempt(Margin())
        # Fooled where it was searched, right as served: the search goes on to its end.
        attempt(Margin(), leave_early=False, random_start=False)
    with torch.no_grad():
        batches = [search(batch) for batch in images.split(case.served.batch_size)]
    wrong = torch.cat(batches).scatter(1, labels[:, None], -torch.inf)
    for target in wrong.topk(min(N_TARGETS, wrong.shape[1] - 1), dim=1).indices.T if wrong.shape[1] > 2 else ():
        attempt(TargetedMargin(target))
    return points, share


def _ball(case: Case) -> dict[str, Any]:
    return {"epsilon": case.threat["epsilon"], "norm": case.threat["norm"]}


def _search(case: Case) -> Callable:
    return case.served.search()


def _ask(case: Case, read: Callable[[Tensor], Tensor] = lambda logits: logits) -> Callable:
    """The black box as a search function, its logits read in some way."""
    return lambda images: read(case.served.logits(images)).to(images.device)


def _noise(case: Case) -> Tensor:
    images = case.attacked
    rows = torch.arange(len(images))
    drawn = ball.random_start(images, rows, case.threat["epsilon"], case.threat["norm"], seed=case.seed, restart=99)
    return ball.project(drawn, images, case.threat["epsilon"], case.threat["norm"], images.dtype)


def _as_served(case: Case) -> Tensor:
    if case.white:
        return climb(case, _search(case), CrossEntropy())
    if case.served.subject.gives == "labels":
        return _decisions(case)
    # As a score is usually taken from an answer: of probabilities where it gives them.
    read = (lambda z: z.exp()) if case.served.subject.gives == "probabilities" else (lambda z: z)
    return _queries(case, read)


def _queries(case: Case, read: Callable[[Tensor], Tensor]) -> Tensor:
    """Square, then signs of pixels on what it leaves: two searches by scores, since either may be the weaker one."""
    search = _ask(case, read)
    # A constant is taken off so that probabilities do not look like it: no margin changes.
    shifted = lambda images: (out := search(images)) - out.amax(dim=1, keepdim=True)  # noqa: E731
    options = {"seed": case.seed, "batch_size": case.served.batch_size, "epsilon": case.threat["epsilon"]}
    images, labels, norm = case.attacked, case.attacked_labels, case.threat["norm"]
    with contextlib.redirect_stdout(io.StringIO()):  # the library prints its own warnings
        result = attacks.square(
            shifted, images, labels, norm=norm, n_queries=N_QUERIES, rescale_schedule=True, **options
        )
    points, rows = result.adversarial, np.flatnonzero(result.outcome == FAILED)
    if norm == "linf" and len(rows):
        chosen = torch.as_tensor(rows, device=images.device)
        left = images[chosen], labels[chosen]
        points[chosen] = sign_hunter(shifted, *left, n_queries=N_SIGNS, **options).adversarial
    return points


def _decisions(case: Case) -> Tensor:
    options = {"epsilon": case.threat["epsilon"], "seed": case.seed, "batch_size": case.served.batch_size}
    images, labels = case.attacked, case.attacked_labels
    if case.threat["norm"] == "l2":
        return attacks.hop_skip_jump(_ask(case), images, labels, **options).adversarial
    return rays(_ask(case), images, labels, n_queries=N_SIGNS, start=case.points.get("transfer"), **options).adversarial


def searched_temperature(case: Case, attack: Callable[[float, np.ndarray], Any]) -> float:
    """The temperature at which an attack breaks most of the first `N_SEARCHED` attacked examples (equation 10).

    Args:
        attack: temperature and rows among the attacked examples to their adversarial inputs.
    """
    few = np.arange(min(N_SEARCHED, len(case.rows)))
    logits = case.served.logits(taken(case.attacked, few))
    objective = lambda temperature: float(case.judged(attack(temperature, few), few).mean())  # noqa: E731
    return search_log(objective, typical_gap(logits) or 1.0).temperature


def _opt(case: Case) -> Tensor:
    search = _search(case)
    climbed = lambda temperature, rows: climb(case, search, CrossEntropy(temperature), rows)  # noqa: E731
    return climbed(searched_temperature(case, climbed), None)


def _ratio(logits: Tensor) -> Tensor:
    """Logits over the difference of the largest and the third: free of a scale that differs from answer to answer."""
    ordered = logits.sort(dim=1, descending=True).values
    spread = ordered[:, :1] - ordered[:, 2:3]
    return logits / torch.where(spread > 0, spread, torch.ones_like(spread))


def _targeted(case: Case) -> Tensor:
    known = case.points.get("margin")
    return strongest(case, _search(case), tried=known, margin=known is None)[0]


def inner(case: Case) -> Callable:
    """The first part that predicts as the model does, as a search function."""
    return case.served.search(case.parts[0][1], "logits")


def _inner(case: Case) -> Tensor:
    """The parts that get furthest with a few examples, the best first; a later one sees what is left."""
    case.parts, tried = _promising(case), None
    for _, part in case.parts:
        tried = strongest(case, case.served.search(part, "logits"), tried=tried)
    return tried[0]


def _promising(case: Case) -> list[tuple[str, Callable]]:
    """At most `N_PARTS` parts, by how few of some examples the model as served still stands after a search of each."""
    if len(case.parts) < 2:
        return case.parts
    few, left, pixels = np.arange(min(N_SEARCHED, len(case.rows))), [], case.attacked[:1]
    for _, part in case.parts:
        search = case.served.search(part, "logits")
        with torch.enable_grad():
            climbable = search(pixels.clone().requires_grad_().clone()).requires_grad
        left.append(case.judged(climb(case, search, Margin(), few), few).mean() if climbable else np.inf)
    return [case.parts[k] for k in np.argsort(left, kind="stable")[:N_PARTS]]


def through(case: Case) -> Callable:
    """The model with a backward pass through its steps and saturation, as a search function."""
    module, gives = case.served.subject.module, case.served.subject.gives
    # Probabilities stay: their logarithm has no slope where they are 0.
    return case.served.search(straight_through(module), "logits" if gives == "probabilities" else None)


def inside(case: Case) -> Callable:
    """The model on pixels that are kept a hair inside their range, as a search function."""
    search = _search(case)
    return lambda images: search(INSIDE + (1 - 2 * INSIDE) * images)


def _strongest_of(search: Callable[[Case], Callable]) -> Callable[[Case], Tensor]:
    return lambda case: strongest(case, search(case))[0]


def averaged(case: Case) -> Callable:
    """The mean of several passes over a random model, as a search function."""
    return case.served.averaged(inner(case) if case.parts else _search(case), N_AVERAGED)


def search_of(case: Case, name: str) -> tuple[Callable, Score] | None:
    """What the rung of that name climbs; None for one that is no ascent."""
    scores = {
        "as served": CrossEntropy(),
        "calibrated": CrossEntropy(case.temperature),
        "margin": Margin(),
        "targeted": Margin(),
        "ratio": DLR(),
    }
    if name in scores:
        return (_search(case), scores[name]) if case.white else None
    others = {"inner": inner, "straight-through": through, "inside": inside, "averaged": averaged}
    return (others[name](case), Margin()) if name in others else None


def _transfer(case: Case) -> Tensor:
    surrogate = case.handed.surrogate
    if surrogate is None:
        known = case.inputs if case.more is None else torch.cat([case.inputs, case.more])
        predictions = case.served.predictions(known)
        known = known[predictions >= 0]
        ask = lambda images: case.served.predictions(images).clamp_min(0)  # noqa: E731
        options = {"epsilon": case.threat["epsilon"] if case.threat["norm"] == "linf" else 0.1, "seed": case.seed}
        surrogate = fit_image_surrogate(ask, known, case.served.subject.n_classes, **options)
    case.points["transfer"] = climb(case, case.served.search(surrogate, "logits"), Margin(), leave_early=False)
    return case.points["transfer"]


def _radius(case: Case) -> Tensor:
    return climb(case, _search(case), Margin(), epsilon=anything(case), steps=max(10, STEPS // 2))


def anything(case: Case) -> float:
    """A radius within which every image can become grey."""
    pixels = case.inputs[0].numel()
    return 0.5 if case.threat["norm"] == "linf" else 0.5 * float(np.sqrt(pixels))


IMAGE_LADDER = (
    Plan("noise", "uniform noise in the ball, no search", "noise", "sanity", needed.always, _noise, 1),
    Plan(
        "as served",
        "the usual attack on the answers as they come",
        "pgd",
        "served",
        needed.always,
        _as_served,
        3 * STEPS,
    ),
    Plan(
        "calibrated",
        "cross-entropy of logits divided by T*",
        "pgd",
        "scale",
        needed.if_white,
        lambda case: climb(case, _search(case), CrossEntropy(case.temperature)),
        3 * STEPS,
    ),
    Plan(
        "margin",
        "logit margin, free of any scale",
        "pgd",
        "scale",
        needed.if_white,
        lambda case: climb(case, _search(case), Margin()),
        3 * STEPS,
    ),
    Plan(
        "ratio",
        "ratio of logit differences, free of a scale that varies",
        "pgd",
        "scale",
        lambda case: needed.if_white(case) or needed.if_ratio(case),
        lambda case: climb(case, _search(case), DLR()),
        3 * STEPS,
    ),
    Plan(
        "opt",
        "cross-entropy at the temperature that breaks most",
        "pgd",
        "scale",
        lambda case: needed.if_white(case) or needed.if_thorough(case),
        _opt,
        3 * STEPS * 4,
    ),
    Plan(
        "log-odds",
        "logarithms of the probabilities, by queries",
        "queries",
        "scale",
        needed.if_log_odds,
        lambda case: _queries(case, lambda z: z),
        N_QUERIES,
    ),
    Plan(
        "ratio by queries",
        "ratio of logit differences, by queries",
        "queries",
        "scale",
        lambda case: needed.if_ratio(case) or needed.if_scale_varies(case),
        lambda case: _queries(case, _ratio),
        N_QUERIES,
    ),
    Plan(
        "targeted",
        "margin to each of the likeliest wrong classes",
        "pgd",
        "strength",
        needed.if_white,
        _targeted,
        9 * STEPS,
    ),
    Plan("inner", "a part that predicts as the model does", "pgd", "unmask", needed.if_parts, _inner, 18 * STEPS),
    Plan(
        "straight-through",
        "steps and saturation passed by in the backward pass",
        "pgd",
        "unmask",
        needed.if_hidden,
        _strongest_of(through),
        12 * STEPS,
    ),
    Plan(
        "inside",
        "a hair inside the pixel range, where gradients exist",
        "pgd",
        "unmask",
        needed.if_nan,
        _strongest_of(inside),
        9 * STEPS,
    ),
    Plan(
        "averaged",
        f"mean of {N_AVERAGED} passes, over the model's own randomness",
        "pgd",
        "unmask",
        needed.if_random,
        _strongest_of(averaged),
        9 * STEPS * N_AVERAGED,
    ),
    Plan("radius", "margin at a radius that allows anything", "pgd", "sanity", needed.if_white, _radius, 30),
    Plan("transfer", "a plain surrogate fitted to the answers", "pgd", "black box", needed.if_blind, _transfer, 80),
    Plan(
        "square",
        "random search by queries, free of any scale",
        "queries",
        "black box",
        needed.if_square,
        lambda case: _queries(case, _ratio if case.served.subject.n_classes > 2 else lambda z: z),
        N_QUERIES,
    ),
    Plan(
        "decisions",
        "predicted classes only, by queries",
        "rays",
        "black box",
        needed.if_decisions,
        _decisions,
        N_QUERIES,
    ),
)
