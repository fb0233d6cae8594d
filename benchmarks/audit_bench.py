"""Is the audit right? It judges models whose truth is known; the table says where it is wrong, and why.

    python benchmarks/audit_bench.py truth [--only WORDS ...]      # measure what is true of each model, once
    python benchmarks/audit_bench.py audit [--only WORDS ...]      # audit each (again, where the audit has changed)
    python benchmarks/audit_bench.py time                          # a small CNN and a six-layer encoder, by the clock
    python benchmarks/audit_bench.py report                        # benchmarks/audit.md and benchmarks/audit.csv

Truths and audits are kept in the folder `--out` (one JSON file for each model), so that a run may be cut short.
`--kind fresh` takes the models that were held back while rules and thresholds were tuned, `--kind seeds` fifty cheap
honest ones.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import audit_images
import audit_table
import audit_texts
import audit_training
import numpy as np
import torch
from audit_masks import Entry
from audit_truth import Truth, image_truth, text_truth

import robustlib
from robustlib.audit.record import digest
from robustlib.data.folders import cache_dir
from robustlib.models.forward import mixed_seed

N_IMAGES, N_TEXTS, N_VALIDATION = 200, 100, 1_000


def entries_of(kind: str) -> list[Entry]:
    """The models that rules were tuned on ("tuned"), those held back ("fresh"), or honest ones over seeds ("seeds")."""
    if kind == "seeds":
        return [*audit_images.honest_over_seeds(), *audit_texts.honest_over_seeds()]
    both = [*audit_images.entries(), *audit_texts.entries()]
    return [entry for entry in both if entry.fresh == (kind == "fresh")]


def timed() -> list[Entry]:
    """The models whose audits are timed: on free cores, please."""
    return [next(entry for entry in audit_images.entries() if entry.name == "plain"), audit_texts.six_layers()]


def chosen(only: list[str], kind: str) -> list[Entry]:
    """The entries of a kind that are named, or whose names contain one of the words; all without words."""
    entries = entries_of(kind)
    names = {entry.name for entry in entries}

    def wanted(entry: Entry) -> bool:
        return any(word == entry.name if word in names else word in entry.name for word in only)

    return [entry for entry in entries if not only or wanted(entry)]


def data_of(entry: Entry, split: str, n: int) -> tuple[Any, torch.Tensor]:
    if entry.data == "reviews":
        return audit_texts.examples(split, n)
    return audit_training.examples(split, n, shirts=entry.data == "shirts")


def n_of(entry: Entry) -> int:
    return N_TEXTS if entry.data == "reviews" else N_IMAGES


def measure_truth(entry: Entry) -> Truth:
    served = entry.build()
    test, validation = data_of(entry, "test", n_of(entry)), data_of(entry, "validation", N_VALIDATION)
    if entry.data == "reviews":
        return text_truth(served, test, validation)
    return image_truth(served, test, validation, epsilon=audit_images.EPSILON)


def arranged(test: tuple[Any, torch.Tensor], validation: tuple[Any, torch.Tensor], seed: int = 0) -> tuple[Any, Any]:
    """All examples in the order in which an audit with this seed draws the test examples to attack."""
    labels = torch.cat([test[1], validation[1]])
    place = np.argsort(np.random.default_rng(mixed_seed(seed)).permutation(len(labels)))
    if isinstance(test[0], torch.Tensor):
        return torch.cat([test[0], validation[0]])[place], labels[place]
    both = [*test[0], *validation[0]]
    return [both[k] for k in place], labels[place]


def audited(entry: Entry, n: int | None = None) -> dict[str, Any]:
    """The audit's record as JSON values, with its processor time; a refusal with its sentence."""
    served, n = entry.build(), n or n_of(entry)
    test, validation = data_of(entry, "test", n), data_of(entry, "validation", N_VALIDATION)
    inputs, labels = arranged(test, validation)
    if served.flat:
        inputs = inputs.flatten(1)
    threat = {"recipe": "dg"} if entry.data == "reviews" else {"epsilon": audit_images.EPSILON}
    began = time.process_time()
    try:
        record = robustlib.audit(served.model, inputs, labels, gives=served.gives, n=n, **threat)
    except (TypeError, ValueError) as error:
        return {"verdict": "refused", "reason": str(error), "cpu": time.process_time() - began}
    if record.settings["examples"] != digest(*test):
        raise RuntimeError("the audit attacked other examples than those whose truth was measured: mend arranged()")
    spent = {"cpu": time.process_time() - began, "threads": torch.get_num_threads()}
    return json.loads(record.to_json()) | spent


def path_of(out: Path, kind: str, entry: Entry) -> Path:
    name = "".join(letter if letter.isalnum() else "-" for letter in entry.name)
    return out / kind / f"{entry.data}-{name}.json"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("truth", "audit", "both", "time", "report"))
    parser.add_argument("--only", nargs="*", default=[], help="words that names contain")
    parser.add_argument("--data", choices=("images", "texts"), help="only models of these")
    parser.add_argument("--kind", choices=("tuned", "fresh", "seeds"), default="tuned")
    parser.add_argument("--again", action="store_true", help="also where the result is there already")
    parser.add_argument("--out", type=Path, help="folder of truths and audits; default: in the cache")
    options = parser.parse_args(arguments)
    out = options.out or cache_dir() / "audit_bench_results"
    if options.what == "report":
        kinds = {kind: entries_of(kind) for kind in ("tuned", "fresh", "seeds")}
        times = {entry.name: path_of(out, "time", entry) for entry in timed()}
        audit_table.write(out, kinds, path_of, Path(__file__).parent, times, audit_texts.LAST)
        return
    for entry in timed() if options.what == "time" else chosen(options.only, options.kind):
        if options.data and (entry.data == "reviews") != (options.data == "texts"):
            continue
        for what in ("truth", "audit") if options.what == "both" else (options.what,):
            path = path_of(out, what, entry)
            if path.exists() and not options.again:
                continue
            result = measure_truth(entry).as_row() if what == "truth" else audited(entry)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result))
            print(entry.name, audit_table.in_short(result), sep=": ", flush=True)


if __name__ == "__main__":
    main()
