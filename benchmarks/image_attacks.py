"""Image attacks and calibration, each timed beside a peer or a floor: the same model, images and budget, in one run."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from measure import Row, plain_rows, take_turns, timing_rows
from torch import Tensor, nn

from robustlib.attacks import pgd
from robustlib.attacks.diagnostics import input_jacobian, masking
from robustlib.attacks.libraries import auto_attack, square
from robustlib.attacks.scores import CrossEntropy
from robustlib.calibration.fit import fit_temperature, fit_temperature_descent
from robustlib.models.forward import evaluating, logits_of
from robustlib.study.images import ImageStudy

BATCH_SIZE = 512
SWEEP = tuple(float(t) for t in np.logspace(-6, 8, 15))
DIAGNOSED = tuple(float(t) for t in np.logspace(-4, 6, 50))


class CountedPasses(nn.Module):
    """A model that counts, per example, the calls made of it and those whose gradient by the input is wanted."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.n_forward, self.n_backward = model, 0, 0

    def forward(self, images: Tensor) -> Tensor:
        self.n_forward += len(images)
        self.n_backward += len(images) * (images.requires_grad and torch.is_grad_enabled())
        return self.model(images)


def foolbox_pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    random_start: bool,
) -> float:
    """Adversarial accuracy that foolbox's LinfPGD leaves, in batches as ours."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import foolbox

    attack = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=steps, random_start=random_start)
    target = foolbox.PyTorchModel(model.eval(), bounds=(0, 1), device=images.device)
    standing = 0
    for some, truth in zip(images.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True):
        _, _, success = attack(target, some, truth, epsilons=epsilon)
        standing += int((~success).sum())
    return standing / len(images)


def against_foolbox(study: ImageStudy, repeats: int) -> list[Row]:
    """PGD, ours with and without leaving early, beside foolbox's: from the image, and from random starts."""
    images, labels, n = study.images, study.labels, len(study.images)
    epsilon, steps = study.settings.epsilon_linf, study.settings.pgd_steps
    budget = {"epsilon": epsilon, "steps": steps, "step_size": 2.5 * epsilon / steps}
    rows = []
    for start, random_start in (("from the image", False), ("random start", True)):
        names = [f"PGD {start}: {system}" for system in ("foolbox", "ours, every step", "ours, leaving early")]
        runs = {names[0]: partial(foolbox_pgd, random_start=random_start, **budget)}
        for name, leave_early in zip(names[1:], (False, True), strict=True):
            runs[name] = partial(
                pgd, random_start=random_start, leave_early=leave_early, batch_size=BATCH_SIZE, **budget
            )
        accuracy, passes = {}, {}
        for name, run in runs.items():
            counted = CountedPasses(study.model)
            with torch.random.fork_rng():
                torch.manual_seed(study.training.seed)
                result = run(counted, images, labels)
            accuracy[name] = getattr(result, "adversarial_accuracy", result)
            passes[name] = (counted.n_forward + counted.n_backward) / n
        with torch.random.fork_rng():
            calls = {name: partial(run, study.model, images, labels) for name, run in runs.items()}
            rows += timing_rows(take_turns(calls, repeats, f"PGD {start}"), names[0], n)
        rows += plain_rows(accuracy, "adversarial accuracy", names[0], n)
        rows += plain_rows(passes, "passes per example", names[0], n)
    return rows


def bare_passes(model: nn.Module, images: Tensor, steps: int) -> None:
    """What PGD cannot do without: `steps` forward-backward passes by the input and a last forward pass."""
    with evaluating(model):
        for batch in images.split(BATCH_SIZE):
            for _ in range(steps):
                point = batch.detach().requires_grad_(True)
                torch.autograd.grad(model(point).sum(), point)
            with torch.no_grad():
                model(batch)


def against_the_floor(study: ImageStudy, repeats: int) -> list[Row]:
    """PGD that takes every step, beside the passes alone, on images that are right when clean: all are attacked."""
    right = logits_of(study.model, study.images).argmax(dim=1) == study.labels.cpu()
    images, labels = study.images[right.to(study.images.device)], study.labels[right.to(study.labels.device)]
    budget = {"epsilon": study.settings.epsilon_linf, "steps": study.settings.pgd_steps, "leave_early": False}
    attack = partial(pgd, study.model, images, labels, batch_size=BATCH_SIZE, **budget)
    floor = "bare passes"
    seconds = take_turns(
        {
            floor: partial(bare_passes, study.model, images, study.settings.pgd_steps),
            "PGD, every step, from the image": partial(attack, random_start=False),
            "PGD, every step, random start": attack,
        },
        repeats,
        floor,
    )
    return timing_rows(seconds, floor, len(images))


def sweeps(study: ImageStudy, repeats: int) -> list[Row]:
    """15 attacks beside one; 50 diagnoses from a stored Jacobian beside the Jacobian."""
    attack = partial(
        pgd,
        study.model,
        study.images,
        study.labels,
        epsilon=study.settings.epsilon_linf,
        steps=study.settings.pgd_steps,
        batch_size=BATCH_SIZE,
    )
    one = "one attack, T = 1"
    seconds = take_turns(
        {one: attack, f"{len(SWEEP)} attacks, a T each": lambda: [attack(score=CrossEntropy(t)) for t in SWEEP]},
        repeats,
        "sweep of attacks",
    )
    rows = timing_rows(seconds, one, len(study.images))
    images, labels = study.images[: study.settings.n_diagnosed], study.labels[: study.settings.n_diagnosed].cpu()
    logits, jacobian = (tensor.cpu() for tensor in input_jacobian(study.model, images))
    once = "one input Jacobian"
    seconds = take_turns(
        {
            once: partial(input_jacobian, study.model, images),
            f"{len(DIAGNOSED)} diagnoses, with it": lambda: [
                masking(logits, labels, temperature=t, jacobian=jacobian) for t in DIAGNOSED
            ],
            f"{len(DIAGNOSED)} diagnoses, logits only": lambda: [
                masking(logits, labels, temperature=t) for t in DIAGNOSED
            ],
        },
        repeats,
        "sweep of diagnoses",
    )
    return rows + timing_rows(seconds, once, len(labels))


def calibration(study: ImageStudy, repeats: int) -> list[Row]:
    """The exact fit of the temperature beside gradient descent, which is given 5,000 steps and takes them all."""
    logits, labels = logits_of(study.model, study.validation_inputs), study.validation_labels.cpu()
    # on the mean, at a small step: the sum of equation 8 diverges, or stands still, long before 5,000 steps
    slow = partial(fit_temperature_descent, logits, labels, reduction="mean", learning_rate=1e-3)
    exact, descent = "temperature: exact fit", f"temperature: {slow().iterations} steps of descent"
    calls = {descent: slow, exact: partial(fit_temperature, logits, labels)}
    rows = timing_rows(take_turns(calls, repeats, "calibration"), descent, len(labels))
    nll = {descent: slow().nll_after, exact: fit_temperature(logits, labels).nll_after}
    return rows + plain_rows(nll, "NLL (nats)", descent, len(labels))


def expert_attacks(study: ImageStudy, repeats: int) -> list[Row]:
    """AutoAttack and Square on a few images, beside PGD on the same ones; a round each, since they are slow."""
    n = min(study.settings.n_slow, 50)
    images, labels, epsilon = study.images[:n], study.labels[:n], study.settings.epsilon_linf
    budget = {"epsilon": epsilon, "batch_size": BATCH_SIZE}
    once = f"PGD, {study.settings.pgd_steps} steps"
    calls = {
        once: partial(pgd, study.model, images, labels, steps=study.settings.pgd_steps, **budget),
        f"Square, {study.settings.square_queries} queries": partial(
            square, study.model, images, labels, n_queries=study.settings.square_queries, **budget
        ),
        "AutoAttack, standard": partial(auto_attack, study.model, images, labels, **budget),
    }
    rows = timing_rows(take_turns(calls, 1, "AutoAttack"), once, n)
    accuracy = {name: call().adversarial_accuracy for name, call in calls.items()}
    return rows + plain_rows(accuracy, "adversarial accuracy", once, n)


def calibrators(study: ImageStudy, repeats: int) -> list[Row]:
    """The exact temperature of 10,000 rows of ten logits, beside scikit-learn's and, where it is installed, netcal's.

    netcal is given probabilities, as it asks for. Logits are drawn, since no time depends on the images behind them.
    """
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(10_000, 10, generator=generator)
    labels = torch.multinomial((logits / 2.5).softmax(dim=1), 1, generator=generator).squeeze(1)
    ours = "exact fit, 10,000 x 10"
    calls, temperatures = {ours: partial(fit_temperature, logits, labels)}, {}
    temperatures[ours] = fit_temperature(logits, labels).temperature
    peer, fit = _sklearn_temperature(logits.numpy(), labels.numpy())
    calls[peer], temperatures[peer] = fit, fit()
    if importlib.util.find_spec("netcal"):
        from netcal.scaling import TemperatureScaling

        probabilities = logits.double().softmax(dim=1).numpy()

        def netcal_fit() -> float:
            return 1 / float(TemperatureScaling().fit(probabilities, labels.numpy()).temperature[0])

        calls["netcal, 10,000 x 10"], temperatures["netcal, 10,000 x 10"] = netcal_fit, netcal_fit()
    rows = timing_rows(take_turns(calls, repeats, "calibrators"), ours, len(labels))
    return rows + plain_rows(temperatures, "temperature", ours, len(labels))


def _sklearn_temperature(logits: np.ndarray, labels: np.ndarray) -> tuple[str, Callable[[], float]]:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    class Given(ClassifierMixin, BaseEstimator):
        """A fitted classifier whose decision function is its input."""

        def fit(self, X, y):
            self.classes_ = np.unique(y)
            return self

        def decision_function(self, X):
            return X

        def predict(self, X):
            return X.argmax(axis=1)

    given = FrozenEstimator(Given().fit(logits, labels))

    def fit() -> float:
        fitted = CalibratedClassifierCV(given, method="temperature").fit(logits, labels)
        return 1 / float(fitted.calibrated_classifiers_[0].calibrators[0].beta_)

    return "scikit-learn, 10,000 x 10", fit


PARTS = (against_foolbox, against_the_floor, sweeps, expert_attacks, calibration, calibrators)
