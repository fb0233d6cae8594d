"""What a unit of work costs beside its work: asking the cache for a result, and sending a call to another process."""

from __future__ import annotations

import json
import resource
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import torch
from measure import Row, plain_rows, take_turns, timing_rows

from robustlib.data.cache import cached
from robustlib.data.folders import results_dir
from robustlib.study.images import ImageStudy

N_CALLS = 20


def _nothing(number: int) -> int:
    return number


def _ask(config: dict[str, Any]) -> dict[str, Any]:
    return cached("benchmark", config, lambda: {"outcomes": torch.zeros(1000, dtype=torch.bool), "mean": 0.5})


def units(study: ImageStudy, repeats: int) -> list[Row]:
    """A result that is in the cache, and an empty call sent to a worker process: seconds of one, in `N_CALLS`."""
    configs = [{"number": number, "epsilon": 0.1, "name": "pgd"} for number in range(N_CALLS)]
    for config in configs:
        _ask(config)
    with joblib.Parallel(n_jobs=2) as pool:
        calls = {
            "a unit whose result is cached": lambda: [_ask(config) for config in configs],
            "an empty call in a worker": partial(pool, [joblib.delayed(_nothing)(n) for n in range(N_CALLS)]),
        }
        seconds = take_turns(calls, repeats, "unit overhead", clock="wall")
    each = {name: [value / N_CALLS for value in values] for name, values in seconds.items()}
    return timing_rows(each, next(iter(each)), N_CALLS)


def memory(study: ImageStudy, repeats: int) -> list[Row]:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux
    return plain_rows({"benchmarks, so far": peak}, "MB", "benchmarks, so far", 1)


def runs(study: ImageStudy, repeats: int) -> list[Row]:
    """Time and peak memory of the profiles that have been run here or are published, from their run.json."""
    parent, rows = results_dir("quick").parent, []
    for path in sorted([*parent.glob("*/run.json"), *parent.glob("published/*/run.json")]):
        rows += _run_rows(path)
    return rows


def _run_rows(path: Path) -> list[Row]:
    lessons = [lesson for lesson in json.loads(path.read_text())["notebooks"].values() if lesson["status"] == "done"]
    if not lessons:
        return []
    name = "/".join(path.parent.parts[-2:])
    whole, most = f"{name}: all lessons", f"{name}: most of a lesson"
    seconds = sum(lesson["seconds"] for lesson in lessons)
    megabytes = max(lesson["peak_memory_mb"] for lesson in lessons)
    n = len(lessons)
    return [*plain_rows({whole: seconds}, "s", whole, n), *plain_rows({most: megabytes}, "MB", most, n)]


PARTS = (units, runs, memory)
