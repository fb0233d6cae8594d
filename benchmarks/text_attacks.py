"""Text attacks, ours against TextAttack 0.3.11: the same fine-tuned model, sentences and recipe, in one run.

    python benchmarks/text_attacks.py --textattack-python PATH/bin/python [--recipes dg pwws] [--sentences 100]

See benchmarks/README.md for TextAttack's environment and for what the columns mean. Prints a table, the targets and
whether they are met, and writes text_attacks.csv and text_attacks.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from robustlib.attacks.result import FAILED, SKIPPED
from robustlib.attacks.scores import TrueClassProbability
from robustlib.attacks.words.attack import attack_texts
from robustlib.attacks.words.lexicon import STOP_WORDS
from robustlib.attacks.words.queries import QueryCache
from robustlib.attacks.words.resources import load_recipe
from robustlib.data import load_text, resolve_dataset
from robustlib.data.folders import results_dir
from robustlib.models.texts import TextClassifier
from robustlib.study.environment import environment
from robustlib.training.texts import TextTraining, train_text_classifier

TEMPERATURES = tuple(10.0**power for power in range(-4, 6))
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
AS_IS, DYNAMIC, OURS, PLAIN = "TextAttack", "TextAttack, dynamic padding", "ours", "ours, torch's own products"
SWEEP = ", ten temperatures"


class TimedVictim:
    """A victim that adds up the time of its forward passes alone; tokenising and sorting count as overhead."""

    def __init__(self, model: TextClassifier, clock: Callable[[], float]):
        self.model, self.clock, self.seconds = model, clock, 0.0
        self._handles = (
            model.body.register_forward_pre_hook(lambda *_: self._add(-1)),
            model.body.register_forward_hook(lambda *_: self._add(1)),
        )

    def _add(self, sign: int) -> None:
        self.seconds += sign * self.clock()

    def __call__(self, texts: list[str]) -> torch.Tensor:
        return self.model.logits(texts)

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


def row(system: str, recipe: str, seconds: float, forward_seconds: float, n_forward: int, outcome, queries) -> dict:
    """One line of the table. A skipped sentence is not attacked: it counts in the accuracy only."""
    outcome, queries = np.array(outcome), np.array(queries)
    attacked = outcome != SKIPPED
    return {
        "system": system,
        "recipe": recipe,
        "sentences": len(outcome),
        "attacked": int(attacked.sum()),
        "seconds": seconds,
        "seconds_per_attacked": seconds / attacked.sum(),
        "queries_per_second": queries.sum() / seconds,
        "mean_queries": queries[attacked].mean(),
        "forwards_per_attacked": n_forward / attacked.sum(),
        "adversarial_accuracy": float((outcome == FAILED).mean()),
        "share_outside_forwards": 1 - forward_seconds / seconds,
    }


def run_ours(model: TextClassifier, texts, labels, name: str, system: str, clock, temperatures=(1.0,)) -> list[dict]:
    """One attack a temperature with one query cache for all of them; their sum last, where there are several."""
    victim = TimedVictim(model, clock)
    cache = QueryCache(victim)
    attack_texts(victim, texts[:4], labels[:4], recipe=load_recipe(name))  # loads thesauri, warms the kernels
    recipe, rows, results = load_recipe(name), [], []
    for temperature in temperatures:
        before, began = victim.seconds, clock()
        result = attack_texts(cache, texts, labels, recipe=recipe, score=TrueClassProbability(temperature))
        seconds = clock() - began
        results.append((seconds, victim.seconds - before, result))
        label = system if len(temperatures) == 1 else f"{system}, T = {temperature:g}"
        rows.append(row(label, name, *results[-1][:2], result.n_forward, result.outcome, result.queries))
    victim.close()
    if len(temperatures) > 1:
        totals = [sum(part) for part in zip(*((a, b, c.n_forward) for a, b, c in results), strict=True)]
        outcome, queries = (np.concatenate([getattr(r[2], name) for r in results]) for name in ("outcome", "queries"))
        rows.append({**row(system + SWEEP, name, *totals, outcome, queries), "sentences": len(texts)})
    return rows


def run_textattack(python: str, request: dict[str, Any]) -> dict[str, Any]:
    """Answer of benchmarks/textattack_side.py, run by the interpreter of TextAttack's environment."""
    side = Path(__file__).with_name("textattack_side.py")
    with tempfile.TemporaryDirectory() as folder:
        ask, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        ask.write_text(json.dumps(request))
        settings = {**os.environ, "OMP_NUM_THREADS": str(request["threads"]), "HF_HUB_OFFLINE": "1"}
        settings["PYTHONPATH"] = ""
        if "NLTK_DATA" not in settings:  # enough for dg; pwws needs corpora/wordnet as well
            words = Path(folder, "corpora", "stopwords", "english")
            words.parent.mkdir(parents=True)
            words.write_text("\n".join(sorted(STOP_WORDS)))
            settings["NLTK_DATA"] = folder
        subprocess.run([python, str(side), str(ask), str(answer)], check=True, env=settings, stdout=sys.stderr)
        return json.loads(answer.read_text())


def textattack_rows(answer: dict[str, Any], runs: list[dict[str, Any]]) -> list[dict]:
    """TextAttack's lines; the runs of a sweep are also summed up."""
    names = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": FAILED, "SkippedAttackResult": SKIPPED}
    rows = []
    for run, result in zip(runs, answer["runs"], strict=True):
        outcome = [names[kind] for kind in result["outcomes"]]
        numbers = (result["seconds"], result["forward_seconds"], result["n_forward"])
        rows.append(row(run["system"], run["recipe"], *numbers, outcome, result["queries"]))
    return rows


def targets(rows: list[dict], recipe: str) -> list[dict]:
    """What is aimed at, what was measured, and whether that is enough."""
    by_system = {line["system"]: line for line in rows if line["recipe"] == recipe}
    ours, checks = by_system[OURS], []

    def check(what: str, value: float, limit: float, at_least: bool) -> None:
        met = value >= limit if at_least else value <= limit
        checks.append({"recipe": recipe, "target": what, "limit": limit, "measured": value, "met": bool(met)})

    if AS_IS in by_system:
        ratio = by_system[AS_IS]["seconds_per_attacked"] / ours["seconds_per_attacked"]
        check("times faster than TextAttack", ratio, 20, True)
    if DYNAMIC in by_system:
        dynamic = by_system[DYNAMIC]
        check("times faster, dynamic padding", dynamic["seconds_per_attacked"] / ours["seconds_per_attacked"], 2, True)
        difference = 100 * abs(dynamic["adversarial_accuracy"] - ours["adversarial_accuracy"])
        check("difference of adversarial accuracy, points", difference, 3, False)
        swept = sum(line["seconds"] for name, line in by_system.items() if name.startswith(f"{DYNAMIC}, T = "))
        ten = swept or len(TEMPERATURES) * dynamic["seconds"]
        check(
            "sweep: times faster than ten runs with dynamic padding", ten / by_system[OURS + SWEEP]["seconds"], 6, True
        )
    check("sweep: cost in single attacks", by_system[OURS + SWEEP]["seconds"] / ours["seconds"], 3, False)
    check("share of wall time outside forwards", ours["share_outside_forwards"], 0.25, False)
    return checks


def show(rows: list[dict]) -> None:
    """Print dictionaries with the same keys as an aligned table."""
    cells = [list(rows[0]), *([f"{v:.4g}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print()


def beside_textattack(
    options: argparse.Namespace, model: TextClassifier, texts: list, labels: torch.Tensor
) -> tuple[list[dict], str]:
    """TextAttack's lines on the same sentences and weights, and the versions of its side."""
    runs = []
    for name in options.recipes:
        one = {"recipe": name, "n": options.sentences, "temperature": 1.0, "dynamic_padding": True}
        runs.append({**one, "system": DYNAMIC})
        runs.append({**one, "system": AS_IS, "dynamic_padding": False, "n": options.as_is})
        if options.sweep_textattack:
            runs += [{**one, "system": f"{DYNAMIC}, T = {t:g}", "temperature": t} for t in TEMPERATURES]
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        request = {"victim": folder, "texts": texts, "labels": labels.tolist(), "seed": 0}
        request |= {"runs": runs, "threads": options.threads, "clock": options.clock}
        answer = run_textattack(options.textattack_python, request)
    difference = (torch.tensor(answer["logits"]) - model(texts)).abs().max().item()
    print(f"same model on both sides: logits differ by at most {difference:.1e}")
    return textattack_rows(answer, runs), f"torch {answer['torch']}, transformers {answer['transformers']}"


def write(rows: list[dict], about: dict[str, Any], output: Path) -> None:
    """text_attacks.csv holds the rows, text_attacks.json all there is."""
    output.mkdir(parents=True, exist_ok=True)
    with (output / "text_attacks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (output / "text_attacks.json").write_text(json.dumps({**about, "rows": rows}, indent=1, default=float))
    print(f"written to {output}")


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--textattack-python", default=os.environ.get("TEXTATTACK_PYTHON"), help="or TEXTATTACK_PYTHON")
    parser.add_argument("--recipes", nargs="+", default=["dg"], choices=["dg", "pwws"])
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--as-is", type=int, default=25, help="sentences for TextAttack as it is (3 s a sentence)")
    parser.add_argument("--sweep-textattack", action="store_true", help="run TextAttack at the ten temperatures too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads, for both")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu, with one thread: for a busy machine")
    parser.add_argument("--layers", type=int, default=None)
    parser.add_argument("--output", type=Path, default=None, help="folder (default: results/benchmarks)")
    return parser.parse_args()


def main() -> None:
    options = parsed_arguments()
    torch.set_num_threads(options.threads)
    clock = CLOCKS[options.clock]

    dataset, _ = resolve_dataset(("rotten_tomatoes", "rotten_tomatoes_rated"))
    data, train = load_text(dataset, "test", n=options.sentences), load_text(dataset, "train")
    training = TextTraining(layers=options.layers, epochs=2, batch_size=32, learning_rate=5e-5)
    model = train_text_classifier(training, train.texts, train.labels)
    accuracy = (model(data.texts).argmax(dim=1) == data.labels).double().mean()
    print(f"{dataset}, {len(data.texts)} sentences, clean accuracy {accuracy:.3f}")
    print(f"{options.threads} threads, {options.clock} time")

    rows = []
    for name in options.recipes:
        rows += run_ours(model, data.texts, data.labels, name, OURS, clock)
        rows += run_ours(model, data.texts, data.labels, name, OURS, clock, TEMPERATURES)
        with patch("robustlib.models.texts.onednn_products", nullcontext):
            rows += run_ours(model, data.texts, data.labels, name, PLAIN, clock)
    about = {"dataset": dataset, "training": str(training), "clock": options.clock, "threads": options.threads}
    about["environment"] = environment()
    if options.textattack_python:
        theirs, about["environment"]["textattack_side"] = beside_textattack(options, model, data.texts, data.labels)
        rows += theirs
    show(rows)
    about["targets"] = [check for name in options.recipes for check in targets(rows, name)]
    show(about["targets"])
    write(rows, about, options.output or results_dir("benchmarks"))


if __name__ == "__main__":
    main()
