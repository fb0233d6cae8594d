"""What the benchmarks share: taking turns at a clock, rows with ratios, the machine they were measured on, one table.

The things compared take turns, so that whatever else the machine does falls on all of them alike. A ratio is the median
over the rounds of (time / time of the reference in the same round).
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
from pathlib import Path
from typing import Any

import torch

from robustlib.data.progress import progress
from robustlib.study.environment import environment, installed_version
from robustlib.study.images import ImageStudy

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

Row = dict[str, Any]


def take_turns(
    candidates: dict[str, Callable[[], Any]], repeats: int, description: str, *, clock: str | None = None
) -> dict[str, list[float]]:
    """Seconds of each candidate in each of `repeats` rounds, after one round that is not counted.

    By the wall, or with ROBUSTLIB_CLOCK=cpu in CPU time, which other work on the machine changes less; `clock` decides
    otherwise for what other processes do.
    """
    read = CLOCKS[clock or os.environ.get("ROBUSTLIB_CLOCK", "wall")]
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    on_cuda = torch.cuda.is_available()
    for turn in progress(range(repeats + 1), description=description):
        for name, run in candidates.items():
            began = read()
            run()
            if on_cuda:
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(read() - began)
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
        with torch_threads(number), torch.random.fork_rng():  # peers draw from the generator of whoever runs this
            for part in parts:
                measured = part(study, repeats)
                load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan")
                common = {"profile": profile, "dataset": study.dataset, "threads": number, "load": load, **about}
                rows += [row | common for row in measured]
    return rows


def report(rows: list[Row]) -> None:
    """Print the table."""
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        value = f"{row['value']:10.4g} [{row['low']:.4g}, {row['high']:.4g}]"
        count = f"n = {row['n']}, {row['repeats']} times, load {row['load']}, {row['threads']} threads"
        print(f"{row['name']:{width}}  {value:32} {row['unit']:20} x {row['ratio']:7.4g}  {count}")
    print(f"{rows[0]['versions']}\n{rows[0]['device']}")


def write(rows: list[Row], path: Path) -> None:
    """A tidy CSV of the rows."""
    columns = [
        *(["part", "clock"] if "part" in rows[0] else []),
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
    path.parent.mkdir(parents=True, exist_ok=True)
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
