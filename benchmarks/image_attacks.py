"""Image attacks and calibration, each timed beside a peer or a floor: the same model, images and budget, in one run.

    python benchmarks/image_attacks.py [--profile quick] [--out results/benchmarks] [--threads 1 2]

The things compared take turns, so that whatever else the machine does falls on all of them alike. A ratio is the
median over the rounds of (time / time of the reference in the same round). Prints a table, writes image_attacks.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustlib.attacks import pgd
from robustlib.attacks.diagnostics import input_jacobian, masking
from robustlib.attacks.scores import CrossEntropy
from robustlib.calibration.fit import fit_temperature, fit_temperature_descent
from robustlib.data.folders import results_dir
from robustlib.data.progress import progress
from robustlib.models.forward import evaluating, logits_of
from robustlib.study.environment import environment, installed_version
from robustlib.study.images import ImageStudy, image_study

BATCH_SIZE = 512
SWEEP = tuple(float(t) for t in np.logspace(-6, 8, 15))
DIAGNOSED = tuple(float(t) for t in np.logspace(-4, 6, 50))

Row = dict[str, Any]


class CountedPasses(nn.Module):
    """A model that counts, per example, the calls made of it and those whose gradient by the input is wanted."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.n_forward, self.n_backward = model, 0, 0

    def forward(self, images: Tensor) -> Tensor:
        self.n_forward += len(images)
        self.n_backward += len(images) * (images.requires_grad and torch.is_grad_enabled())
        return self.model(images)


def take_turns(candidates: dict[str, Callable[[], Any]], repeats: int, description: str) -> dict[str, list[float]]:
    """Seconds of each candidate in each of `repeats` rounds, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    on_cuda = torch.cuda.is_available()
    for turn in progress(range(repeats + 1), description=description):
        for name, run in candidates.items():
            began = time.perf_counter()
            run()
            if on_cuda:
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def timing_rows(seconds: dict[str, list[float]], reference: str, n: int) -> list[Row]:
    """A row per candidate: median, smallest and largest time, and the median ratio to the reference."""
    return [
        {
            "name": name,
            "value": statistics.median(times),
            "unit": "s",
            "low": min(times),
            "high": max(times),
            "reference": reference,
            "n": n,
            "repeats": len(times),
            "ratio": statistics.median(ours / theirs for ours, theirs in zip(times, seconds[reference], strict=True)),
        }
        for name, times in seconds.items()
    ]


def plain_rows(values: dict[str, float], unit: str, reference: str, n: int) -> list[Row]:
    """A row per number that no repetition changes."""
    about = {"unit": unit, "reference": reference, "n": n, "repeats": 1}
    return [
        {
            **about,
            "name": name,
            "value": value,
            "low": value,
            "high": value,
            "ratio": value / values[reference] if values[reference] else float("nan"),
        }
        for name, value in values.items()
    ]


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


def machine() -> dict[str, str]:
    """Versions and device of a row, each in one column."""
    about = environment()
    names = ("robustlib", "python", "torch", "numpy")
    others = (f"{name} {installed_version(name)}" for name in ("foolbox", "matplotlib"))
    versions = "; ".join([*(f"{name} {about[name]}" for name in names), *others, f"commit {about['commit']}"])
    return {"versions": versions, "device": f"{about['device_name']} ({_processor()}), {about['cpu_count']} cores"}


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """That many torch threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure_all(
    parts: Sequence[Callable[[ImageStudy, int], list[Row]]],
    study: ImageStudy,
    profile: str,
    threads: Sequence[int],
    repeats: int,
) -> list[Row]:
    """Every part at each number of threads, with what the rows have in common."""
    rows, about = [], machine()
    for number in dict.fromkeys(threads):
        with torch_threads(number):
            for part in parts:
                measured = part(study, repeats)
                load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan")
                common = {"profile": profile, "dataset": study.dataset, "threads": number, "load": load, **about}
                rows += [row | common for row in measured]
    return rows


def report(rows: list[Row], path: Path) -> None:
    """Print the table and write it as a tidy CSV."""
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        value = f"{row['value']:10.4g} [{row['low']:.4g}, {row['high']:.4g}]"
        count = f"n = {row['n']}, {row['repeats']} times, load {row['load']}, {row['threads']} threads"
        print(f"{row['name']:{width}}  {value:32} {row['unit']:20} x {row['ratio']:7.4g}  {count}")
    print(f"{rows[0]['versions']}\n{rows[0]['device']}")
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [
        "name",
        "value",
        "unit",
        "reference",
        "ratio",
        "low",
        "high",
        "n",
        "repeats",
        "profile",
        "dataset",
        "threads",
        "load",
        "versions",
        "device",
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)
    print(f"written to {path}")


def options(description: str, repeats: int, meaning: str) -> argparse.ArgumentParser:
    """The options that all benchmarks in one process share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--out", type=Path, default=None, help="folder (default: results/benchmarks)")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"{meaning} (default: {repeats})")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = options(__doc__.split("\n")[0], 5, "rounds after the warm-up").parse_args(arguments)
    study = image_study(chosen.profile)
    parts = (against_foolbox, against_the_floor, sweeps, calibration)
    rows = measure_all(parts, study, chosen.profile, chosen.threads, chosen.repeats)
    report(rows, (chosen.out or results_dir("benchmarks")) / "image_attacks.csv")


if __name__ == "__main__":
    main()
