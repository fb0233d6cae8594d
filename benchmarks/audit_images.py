"""The image models of the audit's bench, by name: what they were built as is only a claim, their truth is measured."""

from __future__ import annotations

import copy
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from audit_masks import (
    Entry,
    InPlace,
    KeepLargest,
    MostConfident,
    Noisy,
    Quantised,
    Resized,
    Root,
    Saturated,
    Served,
    Shown,
    Thermometer,
    capped,
    divided,
    hard_max,
    log_of,
    nan_where,
    probabilities,
    random_scale,
    ranks,
    saw,
    sealed,
    see_through,
    shown,
    to_grid,
)
from audit_training import cross_entropy, distilled_from, network, squeezed, trained, training_data
from torch import Tensor, nn

from robustlib.models.images import Ensemble

EPSILON = 0.05


@lru_cache(maxsize=64)
def net(kind: str = "plain", seed: int = 0) -> nn.Module:
    """A network of the bench by the way it was trained."""
    build, settings = NETWORKS[kind]
    if kind == "distilled":
        settings = settings | {"loss": distilled_from(net("distilling", seed), 40.0)}
    return trained(kind, build, seed=seed, **settings)


NETWORKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (network, {}),
    "wide": (partial(network, 24), {}),
    "pgd": (network, {"adversarial": EPSILON, "epochs": 5}),
    "pgd 0.03": (network, {"adversarial": 0.03, "epochs": 5}),
    "trades": (network, {"adversarial": EPSILON, "trades": True, "epochs": 5}),
    "smoothing 0.02": (network, {"loss": partial(cross_entropy, smoothing=0.02)}),
    "smoothing 0.05": (network, {"loss": partial(cross_entropy, smoothing=0.05)}),
    "smoothing 0.5": (network, {"loss": partial(cross_entropy, smoothing=0.5)}),
    "smoothing 0.7": (network, {"loss": partial(cross_entropy, smoothing=0.7)}),
    "dropout": (partial(network, dropout=0.3), {}),
    "batch norm": (partial(network, batch_norm=True), {}),
    "hot": (network, {"loss": partial(cross_entropy, temperature=100.0)}),
    "hot 30": (network, {"loss": partial(cross_entropy, temperature=30.0)}),
    "distilling": (network, {"loss": partial(cross_entropy, temperature=40.0)}),
    "distilled": (network, {}),
    "normalised gradients": (network, {"normalise": 0.2, "n": 2_000, "epochs": 60}),
    "squeezed": (network, {"loss": squeezed}),
    "winners": (partial(network, activation=partial(KeepLargest, 0.2)), {}),
    "winners 0.1": (partial(network, activation=partial(KeepLargest, 0.1)), {}),
    "shirts": (partial(network, n_classes=2), {"shirts": True, "n": 20_000}),
    "noisy": (network, {"noise": 0.3}),
    "resized": (lambda: Resized(network()), {}),
    "4 levels": (lambda: Quantised(network(), 4), {}),
    "6 levels": (lambda: Quantised(network(), 6), {}),
    "thermometer": (lambda: Thermometer(network(channels=10), 10), {}),
    "root": (lambda: Root(network()), {}),
    "tanh": (partial(network, activation=partial(Saturated, 1.0)), {}),
}


def plain_network(kind: str, seed: int = 0) -> Served:
    """A network served as it is, with itself as twin, seen through where it masks itself."""
    model = net(kind, seed)
    return Served(model, model, see_through(model), rugged=any(hasattr(m, "through") for m in model.modules()))


def random_network(model: nn.Module, n_draws: int = 8) -> Served:
    return Served(model, model, model, "logits", n_draws=n_draws)


def saturated() -> Served:
    """A tanh network whose first layers are made steeper after training: it predicts nearly the same."""
    model = copy.deepcopy(net("tanh"))
    for module in model.modules():
        if isinstance(module, Saturated):
            module.gain = 50.0
    return Served(model, model, see_through(model), "logits", rugged=True)


def large_weights() -> Served:
    """The last two layers times 30: the logits, and the gradient of what is saturated behind softmax."""
    model = copy.deepcopy(net("plain", 1))
    with torch.no_grad():
        model.model[-1].weight *= 30
        model.model[-1].bias *= 30
    return Served(model, model, net("plain", 1), "logits")


def train_mode(kind: str) -> Served:
    model = copy.deepcopy(net(kind)).train()
    return Served(model, model, model, "logits", n_draws=8)


def half() -> Served:
    model = copy.deepcopy(net()).half()

    def answer(images: Tensor) -> Tensor:
        return model(images.half())

    return Served(answer, lambda images: answer(images).float(), net(), "logits")


@lru_cache(maxsize=2)
def estimator(seed: int = 0):
    """A multilayer perceptron of scikit-learn on flattened pixels."""
    from sklearn.neural_network import MLPClassifier

    images, labels = training_data(8_000)
    model = MLPClassifier((64,), max_iter=12, random_state=seed, early_stopping=False)
    return model.fit(images.flatten(1).numpy(), labels.numpy())


def perceptron(seed: int = 0) -> Served:
    model = estimator(seed)

    def answers(images: Tensor) -> Tensor:
        probs = model.predict_proba(images.flatten(1).numpy())
        return torch.from_numpy(np.log(np.maximum(probs, 1e-38)))

    return Served(model, answers, answers, None, black_box=True, flat=True)


def single_logit() -> Served:
    """Two classes from one logit: (n, 1), positive for class 1."""
    pair = net("shirts")
    return Served(lambda images: pair(images).diff(dim=1), pair, pair, "logits")


def labels_only(model: nn.Module) -> Served:
    def ask(images: Tensor) -> Tensor:
        with torch.no_grad():
            return model(images).argmax(dim=1)

    return Served(ask, lambda images: hard_max(model(images).detach()), model, "labels", black_box=True)


def permuted(model: nn.Module, order: list[int]) -> Served:
    return Served(Shown(model, lambda logits: logits[:, order]), lambda x: model(x)[:, order], model, "logits")


def most_confident() -> Served:
    members = [net("plain"), net("plain", 1), net("wide")]
    model = MostConfident(members, 0.002)
    return Served(model, model, MostConfident(members, 1.0), "logits", rugged=True)


def nan_answers(share: float) -> Served:
    return shown(net(), nan_where(share))


def swapped(i: int, j: int) -> list[int]:
    order = list(range(10))
    order[i], order[j] = j, i
    return order


BROKEN = ("broken",)

# name, built as, how; then what Entry's other fields need
_ROWS: list[tuple] = [
    ("plain", "honest", lambda: plain_network("plain")),
    ("MLP of scikit-learn", "honest", perceptron),
    ("PGD training", "honest", lambda: plain_network("pgd")),
    ("TRADES", "honest", lambda: plain_network("trades")),
    ("label smoothing 0.05", "honest", lambda: plain_network("smoothing 0.05")),
    ("dropout, evaluated", "honest", lambda: plain_network("dropout")),
    ("batch norm, evaluated", "honest", lambda: plain_network("batch norm")),
    ("log-softmax", "honest", lambda: shown(net(), lambda z: z.log_softmax(dim=1), gives="log-probabilities")),
    ("capped smoothly", "honest", lambda: shown(net(), capped(30.0))),
    ("float16", "honest", half),
    ("probabilities, declared", "honest", lambda: softmax_of(net())),
    ("one logit", "honest", single_logit, {"data": "shirts"}),
    ("mean of two", "honest", lambda: plain_module(Ensemble([net(), net("pgd")]))),
    ("T = 1e-4", "miscalibrated", lambda: shown(net(), divided(1e-4))),
    ("T = 1e4", "miscalibrated", lambda: shown(net(), divided(1e4))),
    ("T = 0.05", "miscalibrated", lambda: shown(net(), divided(0.05))),
    ("T = 20", "miscalibrated", lambda: shown(net(), divided(20.0))),
    ("normalised gradients", "miscalibrated", lambda: plain_network("normalised gradients")),
    ("trained at T = 100", "miscalibrated", lambda: plain_network("hot")),
    ("distilled", "miscalibrated", lambda: plain_network("distilled")),
    ("label smoothing 0.5", "miscalibrated", lambda: plain_network("smoothing 0.5")),
    ("logit squeezing", "miscalibrated", lambda: plain_network("squeezed")),
    ("large weights", "miscalibrated", large_weights),
    ("hard-max", "masked", lambda: shown(net(), hard_max)),
    ("rounded logits", "masked", lambda: shown(net(), to_grid(1.0))),
    ("rounded probabilities", "masked", lambda: softmax_of(net(), decimals=2)),
    ("random scale", "masked", lambda: shown(net(), random_scale(1.5), n_draws=8)),
    ("saw-tooth", "masked", lambda: shown(net(), saw(6.0))),
    ("inputs of 4 levels", "masked", lambda: plain_network("4 levels")),
    ("random resizing", "masked", lambda: random_network(net("resized"))),
    ("random noise", "masked", lambda: random_network(Noisy(net("noisy"), 0.3))),
    ("k winners", "masked", lambda: plain_network("winners")),
    ("thermometer code", "masked", lambda: plain_network("thermometer")),
    ("most confident of three", "masked", most_confident),
    ("saturated tanh", "masked", saturated),
    ("probabilities of hot", "masked", lambda: softmax_of(net("hot"))),
    ("root of pixels", "masked", lambda: plain_network("root")),
    ("labels only", "masked", lambda: labels_only(net()), {"reachable": False}),
    ("dropout left on", "unsound", lambda: train_mode("dropout"), {"accepts": BROKEN}),
    ("batch norm left on", "unsound", lambda: train_mode("batch norm"), {"accepts": BROKEN}),
    ("permuted labels", "unsound", lambda: permuted(net(), [3, 0, 1, 2, 5, 6, 4, 9, 7, 8]), {"accepts": BROKEN}),
    ("two classes swapped", "unsound", lambda: permuted(net("plain", 6), swapped(2, 7)), {"accepts": BROKEN}),
    ("NaN answers", "unsound", lambda: nan_answers(0.03), {"accepts": BROKEN}),
    ("probabilities as logits", "unsound", lambda: shown(net(), probabilities()), {"accepts": BROKEN}),
    ("normalises in place", "unsound", lambda: in_place(), {"accepts": BROKEN}),
]

_FRESH_ROWS: list[tuple] = [
    ("wide, another seed", "honest", lambda: plain_network("wide", 5)),
    ("PGD training at 0.03", "honest", lambda: plain_network("pgd 0.03", 3)),
    ("label smoothing 0.02", "honest", lambda: plain_network("smoothing 0.02", 4)),
    ("T = 3e-3", "miscalibrated", lambda: sealed(net("plain", 6), divided(3e-3))),
    ("T = 300", "miscalibrated", lambda: shown(net("wide", 6), divided(300.0))),
    ("trained at T = 30", "miscalibrated", lambda: plain_network("hot 30", 7)),
    ("label smoothing 0.7", "miscalibrated", lambda: plain_network("smoothing 0.7", 8)),
    ("cubed logits", "miscalibrated", lambda: shown(net("plain", 6), lambda z: (z - z.mean(1, keepdim=True)) ** 3)),
    ("ranks", "masked", lambda: shown(net("plain", 6), ranks)),
    ("sealed grid of 0.5", "masked", lambda: sealed(net("plain", 7), to_grid(0.5))),
    ("sealed saw-tooth", "masked", lambda: sealed(net("wide", 5), saw(3.0))),
    ("sealed hard-max", "masked", lambda: sealed(net("plain", 7), hard_max)),
    ("inputs of 6 levels", "masked", lambda: plain_network("6 levels", 6)),
    ("random noise 0.15", "masked", lambda: random_network(Noisy(net("noisy", 6), 0.15))),
    ("10 % winners", "masked", lambda: plain_network("winners 0.1", 6)),
    ("random scale 3", "masked", lambda: shown(net("plain", 6), random_scale(3.0), n_draws=8)),
    ("NaN in 1 %", "unsound", lambda: shown(net("plain", 6), nan_where(0.01)), {"accepts": BROKEN}),
]


def softmax_of(model: nn.Module, decimals: int | None = None) -> Served:
    """A model that answers with probabilities and says so."""
    show = probabilities(decimals=decimals)
    return shown(model, show, gives="probabilities", answers=lambda images: log_of(show)(model(images)))


def plain_module(model: nn.Module) -> Served:
    return Served(model, model, model, "logits")


def in_place() -> Served:
    model = InPlace(net())
    return Served(model, lambda images: model(images.clone()), lambda images: model(images.clone()), "logits")


def honest_over_seeds(n: int = 30) -> list[Entry]:
    """Small plain networks, trained on another 1,000 images for 8 to 16 epochs: none hides anything."""
    widths, epochs = (8, 12, 16), (8, 12, 16)

    def build(seed: int) -> Served:
        width = widths[seed % 3]
        settings = {"n": 1_000, "epochs": epochs[seed // 3 % 3], "seed": seed}
        return plain_module(trained(f"width {width}", partial(network, width), **settings))

    return [Entry(f"plain, seed {seed}", "fashion", "honest", partial(build, seed)) for seed in range(100, 100 + n)]


def entries() -> list[Entry]:
    rows = [(row, False) for row in _ROWS] + [(row, True) for row in _FRESH_ROWS]
    return [
        Entry(name, **{"data": "fashion"} | (extra[0] if extra else {}), built_as=kind, build=build, fresh=fresh)
        for (name, kind, build, *extra), fresh in rows
    ]
