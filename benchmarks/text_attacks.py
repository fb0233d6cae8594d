"""Text attacks, ours against TextAttack 0.3.11: the same fine-tuned model, sentences and recipe, in one run.

See benchmarks/README.md for TextAttack's environment.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from measure import CLOCKS, Row, plain_rows
from safetensors.torch import save_file

from robustlib.attacks.result import FAILED, SKIPPED
from robustlib.attacks.scores import TrueClassProbability
from robustlib.attacks.words.attack import attack_texts
from robustlib.attacks.words.lexicon import STOP_WORDS
from robustlib.attacks.words.lowered import attack_in_low_precision
from robustlib.attacks.words.queries import QueryCache
from robustlib.attacks.words.resources import load_recipe
from robustlib.data import load_text, resolve_dataset
from robustlib.models.texts import TextClassifier
from robustlib.training.texts import TextTraining, train_text_classifier

TEMPERATURES = tuple(10.0**power for power in range(-4, 6))
AS_IS, DYNAMIC, OURS, PLAIN = "TextAttack", "TextAttack, dynamic padding", "ours", "ours, torch's own products"
LOW = "ours, bfloat16 search"
SWEEP = ", ten temperatures"


class TimedVictim:
    """A victim that adds up the time of its forward passes alone; tokenising and sorting count as overhead."""

    def __init__(self, model: TextClassifier, clock: Callable[[], float]):
        self.model, self.clock, self.seconds = model, clock, 0.0
        self._handles = (
            # A packed pass does not call the body: it begins with the embeddings and ends with the head, as any pass.
            model.body.encoder.embeddings.register_forward_pre_hook(lambda *_: self._add(-1)),
            model.body.head.register_forward_hook(lambda *_: self._add(1)),
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


def run_low(model: TextClassifier, texts, labels, name: str, clock) -> dict:
    """The search in bfloat16, judged and finished in float32; its copy of the model is made on the clock."""
    recipe = load_recipe(name)
    attack_in_low_precision(model, texts[:4], labels[:4], recipe=recipe)
    began = clock()
    result = attack_in_low_precision(model, texts, labels, recipe=recipe)
    seconds = clock() - began
    return row(LOW, name, seconds, float("nan"), result.n_forward, result.outcome, result.queries)


def check(options: argparse.Namespace) -> None:
    """FileNotFoundError before anything is measured: TextAttack's environment or pwws's WordNet is not there."""
    python, corpora = options.textattack_python, os.environ.get("NLTK_DATA", "")
    if python and shutil.which(python) is None:
        raise FileNotFoundError(f"no interpreter {python}: --textattack-python names that of TextAttack's environment")
    if python and "pwws" in options.recipes and not Path(corpora, "corpora", "wordnet", "index.sense").exists():
        raise FileNotFoundError(
            f"TextAttack's pwws needs corpora/wordnet with index.sense under NLTK_DATA ({corpora or 'not set'}): "
            "put it there, or leave pwws out of --recipes"
        )


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


def write_victim(model: TextClassifier, folder: Path) -> None:
    """What `textattack_side.load_victim` reads: weights, tokeniser, and how the encoder is built."""
    weights = {key: value.detach().cpu().contiguous() for key, value in model.body.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    encoder = {key: value for key, value in model.body.config.to_dict().items() if key != "_name_or_path"}
    about = {"n_classes": model.n_classes, "encoder": encoder}
    (folder / "classifier.json").write_text(json.dumps(about, default=str), encoding="utf-8")
    model.tokenizer.save(str(folder / "tokenizer.json"))


def textattack_rows(answer: dict[str, Any], runs: list[dict[str, Any]]) -> list[dict]:
    """TextAttack's lines; the runs of a sweep are also summed up."""
    names = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": FAILED, "SkippedAttackResult": SKIPPED}
    rows = []
    for run, result in zip(runs, answer["runs"], strict=True):
        outcome = [names[kind] for kind in result["outcomes"]]
        numbers = (result["seconds"], result["forward_seconds"], result["n_forward"])
        rows.append(row(run["system"], run["recipe"], *numbers, outcome, result["queries"]))
    return rows


def beside_textattack(
    options: argparse.Namespace, name: str, model: TextClassifier, texts: list, labels: torch.Tensor
) -> list[dict]:
    """TextAttack's lines on the same sentences and weights."""
    one = {"recipe": name, "n": options.sentences, "temperature": 1.0}
    runs = [
        {**one, "system": DYNAMIC, "dynamic_padding": True},
        {**one, "system": AS_IS, "dynamic_padding": False, "n": options.as_is},
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_victim(model, Path(folder))
        request = {"victim": folder, "texts": texts, "labels": labels.tolist(), "seed": 0}
        request |= {"runs": runs, "threads": torch.get_num_threads(), "clock": options.clock}
        answer = run_textattack(options.textattack_python, request)
    difference = (torch.tensor(answer["logits"]) - model(texts)).abs().max().item()
    print(f"same model on both sides: logits differ by at most {difference:.1e}")
    print(f"TextAttack's side: torch {answer['torch']}, transformers {answer['transformers']}")
    return textattack_rows(answer, runs)


def measure(options: argparse.Namespace) -> list[Row]:
    """All systems on the same sentences, as rows of the one table: seconds, texts and queries, adversarial accuracy.

    Args:
        options: recipes, sentences, as_is, textattack_python (None leaves TextAttack out), layers, epochs, clock.
    """
    clock = CLOCKS[options.clock]
    dataset, _ = resolve_dataset(("rotten_tomatoes", "rotten_tomatoes_rated"))
    data, train = load_text(dataset, "test", n=options.sentences), load_text(dataset, "train", n=options.train)
    training = TextTraining(layers=options.layers, epochs=options.epochs, batch_size=32, learning_rate=5e-5)
    model = train_text_classifier(training, train.texts, train.labels)
    table: list[Row] = []
    for name in options.recipes:
        lines = run_ours(model, data.texts, data.labels, name, OURS, clock)
        lines += run_ours(model, data.texts, data.labels, name, OURS, clock, TEMPERATURES)[-1:]
        with patch("robustlib.models.packed.onednn_products", nullcontext):
            lines += run_ours(model, data.texts, data.labels, name, PLAIN, clock)
        lines.append(run_low(model, data.texts, data.labels, name, clock))
        if options.textattack_python:
            lines += beside_textattack(options, name, model, data.texts, data.labels)
        table += as_rows(name, lines)
    return table


def as_rows(recipe: str, lines: list[dict]) -> list[Row]:
    """Lines in the columns of the one table; ratios are to our attack.

    TextAttack as it is, too slow for all sentences, is given the texts a sentence that the mended one asked for: its
    seconds are those of a text times their number.
    """
    systems = {line["system"]: line for line in lines}
    if AS_IS in systems:
        forwards = systems[DYNAMIC]["forwards_per_attacked"]
        as_is = systems[AS_IS]
        as_is["seconds_per_attacked"] *= forwards / as_is["forwards_per_attacked"]
    rows, reference = [], f"{recipe}: {OURS}"
    for column, unit in (
        ("seconds_per_attacked", "s"),
        ("forwards_per_attacked", "texts per attacked sentence"),
        ("mean_queries", "queries per attacked sentence"),
        ("adversarial_accuracy", "adversarial accuracy"),
        ("share_outside_forwards", "share of time outside the network"),
    ):
        for system, line in systems.items():
            if not math.isnan(line[column]):
                values = {reference: systems[OURS][column]} | {f"{recipe}: {system}": line[column]}
                rows.append(plain_rows(values, unit, reference, line["sentences"])[-1])
    return rows
