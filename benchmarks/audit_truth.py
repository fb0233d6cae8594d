"""What is true of a model of the audit's bench, measured without the audit: on its twin, whose mask is off.

gap = accuracy under the standard attack on the model as served - accuracy under the strongest of many attacks on the
twin, judged by the model as served. Up to 5 points: no illusion. Else miscalibration, if a temperature or a scale-free
score closes more of the gap than it leaves; else masked. Not above the majority class without an attack: broken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from math import isnan, nan

import torch
from audit_masks import Served
from torch import Tensor

from robustlib.attacks import DLR, CrossEntropy, Margin, Score, square
from robustlib.attacks.result import FAILED
from robustlib.attacks.scores import TrueClassProbability
from robustlib.attacks.signs import sign_hunter
from robustlib.attacks.words import QueryCache, Rules, attack_texts, load_recipe
from robustlib.calibration import fit_temperature
from robustlib.calibration.checks import looks_like_probabilities
from robustlib.models import seeded

HONEST_GAP = 5.0


@dataclass(frozen=True)
class Truth:
    """Accuracies in % of all examples.

    Attributes:
        standard: under the standard attack on the model as served.
        scale: the least that a fitted temperature or a scale-free score leaves, on the model as served.
        strongest: the least, with the twin to search.
    """

    n: int
    clean: float
    majority: float
    standard: float
    scale: float
    strongest: float

    @classmethod
    def broken(cls, correct: Tensor, labels: Tensor) -> Truth:
        """Of a model that does not answer everything: no attack says anything about it."""
        return cls(len(labels), 100 * float(correct.mean()), _majority(labels), nan, nan, nan)

    @property
    def gap(self) -> float:
        return round(self.standard - self.strongest, 6)

    @property
    def verdict(self) -> str:
        if isnan(self.standard) or not self.clean > self.majority:
            return "broken"
        if self.gap <= HONEST_GAP:
            return "no illusion found"
        return "miscalibration" if self.standard - self.scale > self.scale - self.strongest else "masked"

    @classmethod
    def of(cls, row: dict[str, float | int | str]) -> Truth:
        """From what `as_row` gave."""
        return cls(**{name: row[name] for name in ("n", "clean", "majority", "standard", "scale", "strongest")})

    def with_bounds(self, scale: float, strongest: float) -> Truth:
        """With what other attacks left: what has fallen to anyone does not stand."""
        strongest = min(self.strongest, strongest)
        return replace(self, scale=max(min(self.scale, scale), strongest), strongest=strongest)

    def as_row(self) -> dict[str, float | int | str]:
        return asdict(self) | {"gap": self.gap, "truth": self.verdict}


def _majority(labels: Tensor) -> float:
    return 100 * float(labels.bincount().max()) / len(labels)


class Judge:
    """Which inputs a model as served classifies correctly, (n,) shares of its draws."""

    def __init__(self, served: Served, inputs: Tensor | Sequence[str], labels: Tensor) -> None:
        self.served, self.labels = served, labels
        self.clean = self(inputs.clone() if isinstance(inputs, Tensor) else inputs)

    @torch.no_grad()
    def __call__(self, inputs: Tensor | Sequence[str]) -> Tensor:
        with seeded(1):
            draws = [self.served.answers(inputs).argmax(dim=1) == self.labels for _ in range(self.served.n_draws)]
        return torch.stack(draws).double().mean(dim=0)

    def worst(self, results: Sequence[Tensor | Sequence[str]]) -> float:
        """Accuracy in % after the worst of several results: for each input, or of all where the model is random.

        An input that is wrong without an attack does not stand.
        """
        correct = torch.stack([self(result) for result in results])
        if self.served.n_draws == 1:
            correct = torch.minimum(correct, self.clean)
        accuracy = correct.mean(dim=1).min() if self.served.n_draws > 1 else correct.amin(dim=0).mean()
        return 100 * float(accuracy)


def ascend(
    model: Callable,
    images: Tensor,
    labels: Tensor,
    score: Callable[[Tensor, Tensor], Tensor],
    *,
    epsilon: float,
    steps: int = 20,
    n_draws: int = 1,
    spread: float = 0.0,
    stays: bool = True,
    seed: int = 0,
) -> Tensor:
    """Plain PGD (Linf) from a random start; NaN gradients count as zero. Returns the points it ends in.

    Args:
        n_draws: gradients averaged in each step. spread: of the points at which these are taken, uniform.
        stays: an image stays where it first fools the model that is searched (unless gradients are averaged).
    """
    with seeded(seed):
        point = (images + epsilon * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
        searching = torch.ones_like(labels, dtype=torch.bool)
        for step in range(steps):
            total = torch.zeros_like(images)
            for _ in range(n_draws):
                probe = (point + spread * (2 * torch.rand_like(point) - 1)).requires_grad_()
                logits = model(probe.clone())  # a copy, since the model may change it in place
                if stays and n_draws == 1:
                    searching &= logits.detach().argmax(dim=1) == labels
                values = score(logits, labels)
                if values.requires_grad:
                    (gradient,) = torch.autograd.grad(values.sum(), probe, allow_unused=True)
                    total += torch.zeros_like(images) if gradient is None else gradient.nan_to_num(0.0)
            size = 2.5 * epsilon / steps * (1 if step < steps * 0.6 else 0.3)
            moved = (point + size * total.sign()).clamp(images - epsilon, images + epsilon).clamp(0, 1)
            point = torch.where(searching.reshape(-1, 1, 1, 1), moved, point).detach()
    return point


def towards(place: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The logit of one wrong class of each input minus that of its true class."""
    return lambda logits, labels: (logits.gather(1, place[:, None]) - logits.gather(1, labels[:, None]))[:, 0]


def image_truth(
    served: Served, data: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], *, epsilon: float
) -> Truth:
    """Of an image model; `data`, `validation`: images in [0, 1] and labels."""
    images, labels = data
    judge = Judge(served, images, labels)
    run = partial(ascend, images=images, labels=labels, epsilon=epsilon, stays=served.n_draws == 1)
    with torch.no_grad():
        if not torch.isfinite(served.answers(images.clone())).all():
            return Truth.broken(judge.clean, labels)
    differentiable = not served.black_box and served.answers(images[:2].clone().requires_grad_() * 1.0).requires_grad
    if differentiable:
        standard = judge.worst([run(served.answers, score=CrossEntropy())])
        with torch.no_grad():
            logits = served.answers(validation[0].clone()).double()
        scores: list[Score] = []
        if not looks_like_probabilities(logits):
            fitted = fit_temperature(logits, validation[1])
            scores += [CrossEntropy(fitted.temperature)] if 0 < fitted.temperature < 1e30 else []
        scores += [Margin()] + ([DLR()] if logits.shape[1] > 2 else [])
        scale = min(standard, *(judge.worst([run(served.answers, score=score)]) for score in scores))
    else:
        standard = scale = judge.worst([by_queries(served.answers, images, labels, epsilon)])
    if served.black_box:  # the same access and the same budget, without the mask
        attacked = [by_queries(served.twin, images, labels, epsilon, seed=seed) for seed in (0, 1)]
    else:
        attacked = strongest_images(served, images, labels, epsilon)
    return Truth(
        n=len(labels),
        clean=100 * float(judge.clean.mean()),
        majority=_majority(labels),
        standard=standard,
        scale=scale,
        strongest=min(standard, scale, judge.worst(attacked)),
    )


def by_queries(ask: Callable, images: Tensor, labels: Tensor, epsilon: float, *, seed: int = 0) -> Tensor:
    """Square, then signs of pixels on what it leaves, 300 queries each: either may be the weaker one."""
    options = {"epsilon": epsilon, "n_queries": 300, "seed": seed}
    result = square(ask, images, labels, rescale_schedule=True, **options)
    points, left = result.adversarial, torch.as_tensor(result.outcome == FAILED)
    if left.any():
        points[left] = sign_hunter(ask, images[left], labels[left], **options).adversarial
    return points


def strongest_images(served: Served, images: Tensor, labels: Tensor, epsilon: float) -> list[Tensor]:
    """Results of many attacks on the twin."""
    results = on_twin(served.twin, images, labels, epsilon, served.n_draws > 1)
    if not served.rugged:
        return results
    averaged = ascend(served.twin, images, labels, Margin(), epsilon=epsilon, steps=40, spread=0.02, n_draws=6)
    longer = ascend(served.answers, images, labels, Margin(), epsilon=epsilon, steps=100)
    searched = square(served.answers, images, labels, epsilon=epsilon, n_queries=1_000).adversarial
    return [*results, averaged, longer, searched]


@lru_cache(maxsize=16)  # many models of the bench share a twin
def on_twin(twin: Callable, images: Tensor, labels: Tensor, epsilon: float, random: bool) -> list[Tensor]:
    """Cross-entropy, margin from two starts, and the margin to each of the three likeliest wrong classes."""
    steps = 30 if random else 50
    # To the end: where the twin is fooled, the model as served (rounded, for example) need not be.
    run = partial(ascend, twin, images, labels, epsilon=epsilon, steps=steps, n_draws=8 if random else 1, stays=False)
    with torch.no_grad():
        logits = twin(images.clone())
    order = logits.scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True)
    results = [run(score=CrossEntropy()), run(score=Margin()), run(score=Margin(), seed=9, stays=True)]
    return results + [run(score=towards(order[:, k]), seed=k) for k in range(min(3, logits.shape[1] - 1))]


def text_truth(served: Served, data: tuple[list[str], Tensor], validation: tuple[list[str], Tensor]) -> Truth:
    """Of a text model, under DeepWordBug's edits, each word at most once."""
    texts, labels = data
    judge, recipe = Judge(served, texts, labels), load_recipe("dg")
    if not torch.isfinite(served.answers(texts)).all():
        return Truth.broken(judge.clean, labels)
    # A random model must not be remembered: what it said once is not what it says.
    asked = QueryCache(served.answers) if served.n_draws == 1 else served.answers
    search = partial(attack_texts, asked, texts, labels, recipe=recipe)
    standard_texts = search(score=TrueClassProbability()).adversarial
    standard = judge.worst([standard_texts])
    logits = QueryCache(served.answers)(validation[0]).double()
    fitted = fit_temperature(logits, validation[1])
    scores: list[Score] = [Margin()]
    scores += [TrueClassProbability(fitted.temperature)] if 0 < fitted.temperature < 1e30 else []
    each = [judge.worst([search(score=score).adversarial]) for score in scores]
    scale = min(standard, *each)
    attacked = strongest_texts(served.twin, tuple(texts), labels)
    return Truth(
        n=len(labels),
        clean=100 * float(judge.clean.mean()),
        majority=_majority(labels),
        standard=standard,
        scale=scale,
        strongest=min(standard, scale, judge.worst(attacked)),
    )


@lru_cache(maxsize=16)
def strongest_texts(twin: Callable, texts: tuple[str, ...], labels: Tensor) -> list[list[str]]:
    """Results of greedy searches of the twin in log-odds: two orders of words, stopping early and not."""
    search = partial(attack_texts, QueryCache.of(twin), texts, labels, score=Margin())
    recipe = load_recipe("dg")
    deleting = replace(recipe, ranking="delete")
    spending = Rules(leave_early=False)
    results = [search(recipe=recipe), search(recipe=deleting), search(recipe=recipe, rules=spending)]
    return [result.adversarial for result in results]
