"""What the large profiles and the paper's whole grid would take on 1, 8 and 64 workers: writes scaling.md.

    python benchmarks/scaling.py [--benchmarks FOLDER/benchmarks.csv] [--gpu FOLDER/gpu.csv] [--out scaling.md]

Unit costs are read from what run.py and gpu.py wrote; a device without a measurement is named as such and no number is
given for it. The growth of a sweep, of `opt` and of the cache is measured here, on the model and sentences of `smoke`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measure import machine

from robustlib.attacks.adversaries import plan_adversary
from robustlib.attacks.scores import TrueClassProbability
from robustlib.attacks.words import QueryCache, attack_texts
from robustlib.models.pretrained import ENCODERS
from robustlib.study.profiles import get_profile
from robustlib.study.texts import text_study
from robustlib.training.methods import Method

# Training texts of the paper's six sets as they are split here, and its trainings: five epochs in batches of eight.
TEXTS = {"rotten_tomatoes": 8530, "emotion": 16000, "cola": 7695, "mrpc": 3668, "qnli": 94268, "ag_news": 114000}
GRID_ENCODERS = ("microsoft/deberta-base", "roberta-base", "bert-base-uncased")
METHODS = (
    *(Method(),) * 4,  # without and with normalised gradients, at a high temperature, and clipped
    *(Method("pgd", steps=3),) * 2,
    *(Method("freelb", steps=3),) * 2,
    *(Method("ascc", steps=5),) * 2,
    *(Method("ddi", steps=3, solutions=3),) * 2,
)
EPOCHS, BATCH, SEEDS, TOKENS = 5, 8, 3, 25
ADVERSARIES, ATTACKS = 4, 4  # a model
QUERIES, ATTACKED = 100, 800  # a sentence under a recipe; sentences a model
WORKERS = (1, 8, 64)
ASSUMPTIONS = f"""Work is counted as parameters of the layers x tokens, so that one rate serves encoders of all sizes. A
larger encoder uses a GPU better than MiniLM does, and an estimate from MiniLM is then too long; on a CPU it
is too short for attacks on others, since only MiniLM's texts share a pass (`models.packed`). Units are spread evenly
over the workers, and no run is shorter than its longest training. Assumed: {TOKENS} tokens a sentence, {QUERIES}
queries a sentence and recipe, {ATTACKS} recipes and {ADVERSARIES} adversaries a model, {ATTACKED} attacked sentences in
the grid, and that temperatures cost nothing beyond the first, which the curves below put a number on. Left out: images,
data loading, calibration."""


@dataclass(frozen=True)
class Work:
    """A profile or grid in passes of one sentence through MiniLM-sized units, and its longest undivided part."""

    name: str
    training: float  # parameters x tokens of all forward-backward passes
    longest: float  # of the longest single training, which no further worker shortens
    queries: float  # parameters x tokens of all queries


def paper_grid() -> Work:
    """Six data sets, three encoders, all methods, three seeds."""
    size = max(ENCODERS[name].parameters(12) - ENCODERS[name].of_embeddings for name in GRID_ENCODERS)
    passes = sum(method.passes for method in METHODS)
    per_pass = size * TOKENS * EPOCHS
    training = per_pass * sum(TEXTS.values()) * passes * len(GRID_ENCODERS) * SEEDS
    longest = per_pass * max(TEXTS.values()) * max(method.passes for method in METHODS)
    models = len(TEXTS) * len(GRID_ENCODERS) * len(METHODS) * SEEDS
    return Work("the paper's grid", training, longest, models * _queries(ATTACKED) * size * TOKENS)


def full_texts() -> Work:
    """The text lessons of `full`: the trainings of lessons 08 and 09 and the attacks on each, with MiniLM."""
    profile = get_profile("full")
    texts = profile.texts[0]
    lessons = texts.lessons
    size = ENCODERS["minilm"].layers * ENCODERS["minilm"].of_a_layer
    methods = [Method(name, steps=lessons.steps) for name in lessons.methods if name != "dg-aug"]
    passes = 2 * (1 + sum(m.passes for m in methods)) + len(lessons.temperatures) + len(lessons.schedules)
    passes += sum(Method("ddi", steps=k, solutions=m).passes for m, k in lessons.solutions_and_steps)
    per_pass = size * TOKENS * lessons.epochs * TEXTS["rotten_tomatoes"]
    models = 2 * (1 + len(methods)) + len(lessons.temperatures) + len(lessons.schedules)
    queries = len(profile.seeds) * models * _queries(lessons.n_test) * size * TOKENS
    dearest = max([m.passes for m in methods] + [1])
    return Work("text lessons of `full`", per_pass * passes * len(profile.seeds), per_pass * dearest, queries)


def _queries(sentences: int) -> float:
    """Texts asked of one model: temperatures share most of them, see the curve below; adversaries do not."""
    return sentences * QUERIES * ATTACKS * ADVERSARIES


def rates(benchmarks: pd.DataFrame | None, gpu: pd.DataFrame | None) -> dict[str, tuple[float, float] | None]:
    """(parameters x tokens trained a second, the same answered a second) by device; None where it was not measured."""
    of_layers = ENCODERS["minilm"].of_a_layer
    known: dict[str, tuple[float, float] | None] = {"one CPU core": None, "one GPU": None}
    if benchmarks is not None:
        if set(benchmarks.profile) == {"smoke"}:
            raise ValueError("the benchmarks of `smoke` time other models than MiniLM: run those of `quick`")
        rows = benchmarks.set_index(["name", "unit"])
        step = rows.value.get(("texts, float32: standard", "s"))
        attack, texts = (rows.value.get(("dg: ours", unit)) for unit in ("s", "texts per attacked sentence"))
        if step is not None and attack is not None:
            n = rows.n[("texts, float32: standard", "s")]
            known["one CPU core"] = (2 * of_layers * TOKENS * n / step, 6 * of_layers * TOKENS * texts / attack)
    if gpu is not None:
        per_second = gpu.set_index("name").per_second
        known["one GPU"] = (
            6 * of_layers * TOKENS * 32 * per_second["steps, 16 models at a time"],
            6 * of_layers * TOKENS * per_second["queries, 16 processes"],
        )
    return known


def hours(work: Work, rate: tuple[float, float], workers: int) -> float:
    """Wall time where units are spread evenly and the longest training ends last."""
    trained, answered = rate
    return max((work.training / trained + work.queries / answered) / workers, work.longest / trained) / 3600


def growth() -> dict[str, pd.DataFrame]:
    """Measured: texts asked for k temperatures on one cache, by sentences; by opt; bytes of the cache by classes."""
    study = text_study("smoke")
    texts, labels = study.validation_inputs, study.validation_labels  # of which there are more than attacked ones
    sweep = []
    for k in (1, 2, 5, 10):
        cache = QueryCache(study.model)
        for temperature in np.logspace(-4, 5, 10)[np.linspace(5, 5 + k - 1, k).astype(int) % 10]:
            attack_texts(cache, texts, labels, score=TrueClassProbability(float(temperature)))
        sweep.append({"temperatures": k, "texts asked": cache.n_forward, "bytes": cache.n_bytes})
    sentences = []
    for n in (len(texts) // 4, len(texts) // 2, len(texts)):
        cache = QueryCache(study.model)
        attack_texts(cache, texts[:n], labels[:n])
        sentences.append({"sentences": n, "texts asked": cache.n_forward, "bytes": cache.n_bytes})
    searches = []
    for n in (8, 16, 32):
        fresh = replace(study, settings=replace(study.settings))
        examples = fresh.validation_inputs, fresh.validation_labels
        before = fresh.cache.n_forward + len(examples[0])  # all of which are asked once, whatever n is
        plan_adversary("opt", fresh.served(1e-3), fresh.attacks["dg"], *examples, n_search=n)
        searches.append({"sentences of the search": n, "texts asked by opt": fresh.cache.n_forward - before})
    classes = []
    for c in (2, 6, 100):
        cache = QueryCache(lambda questions, c=c: torch.randn(len(questions), c))
        cache(texts)
        classes.append({"classes": c, "bytes a text": cache.n_bytes / len(texts)})
    tables = {"T sweep": sweep, "sentences": sentences, "opt": searches, "classes": classes}
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def table_text(frame: pd.DataFrame) -> str:
    """A Markdown table."""
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(object).to_numpy().tolist()]
    cells = [[f"{value:,.4g}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def page(known: dict[str, tuple[float, float] | None], curves: dict[str, pd.DataFrame]) -> str:
    """The whole of scaling.md."""
    estimates = []
    for work in (full_texts(), paper_grid()):
        for device, rate in known.items():
            for n in WORKERS:
                took = "not measured" if rate is None else f"{hours(work, rate, n):,.1f}"
                estimates.append({"what": work.name, "worker": device, "workers": n, "hours": took})
    costs = []
    for device, rate in known.items():
        steps, texts = ("not measured",) * 2 if rate is None else _as_minilm(rate)
        costs.append({"worker": device, "MiniLM steps of 8 sentences a second": steps, "texts a second": texts})
    exponents = {
        name: float(np.polyfit(np.log(frame.iloc[:, 0].astype(float)), np.log(frame.iloc[:, 1].astype(float)), 1)[0])
        for name, frame in curves.items()
    }
    fits = [{"grows with": name, "exponent": f"{value:.2f}"} for name, value in exponents.items()]
    about = machine()
    return (
        "\n\n".join(
            [
                "# What the large runs take",
                f"Written by `python benchmarks/scaling.py`. Machine: {about['device']}; {about['versions']}.",
                "## Unit costs",
                table_text(pd.DataFrame(costs)),
                "## Estimates",
                ASSUMPTIONS,
                table_text(pd.DataFrame(estimates)),
                "## Growth, measured on the model and sentences of `smoke`",
                *(f"### {name}\n\n{table_text(frame)}" for name, frame in curves.items()),
                "Slopes of the curves on logarithmic axes: 1 is proportional, 0 does not grow.",
                table_text(pd.DataFrame(fits)),
            ]
        )
        + "\n"
    )


def _as_minilm(rate: tuple[float, float]) -> tuple[str, str]:
    layers = 6 * ENCODERS["minilm"].of_a_layer * TOKENS
    return f"{rate[0] / layers / BATCH:,.1f}", f"{rate[1] / layers:,.0f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--benchmarks", type=Path, help="what run.py wrote")
    parser.add_argument("--gpu", type=Path, help="what gpu.py wrote")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("scaling.md"))
    chosen = parser.parse_args(arguments)
    tables = [None if path is None else pd.read_csv(path) for path in (chosen.benchmarks, chosen.gpu)]
    chosen.out.write_text(page(rates(*tables), growth()), encoding="utf-8")
    print(f"written to {chosen.out}")


if __name__ == "__main__":
    main()
