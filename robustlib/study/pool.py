"""Units of work in parallel: joblib's processes on this machine, or the workers of a Dask cluster."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TextIO

import joblib
import psutil
import torch
from joblib.externals.loky import process_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from robustlib.data.folders import cache_dir, folder_variables, is_writable
from robustlib.study.costs import Costs, same_answers
from robustlib.study.units import Unit, forget_studies, key_is_done
from robustlib.training.methods import method_definition

WORKER_BYTES = 1.5 * 2**30  # a worker with a text model, its resources and its memory of answers
GPU_BYTES = 4 * 2**30  # several processes share a GPU
TRIES = 3  # how often units are given to new workers after some were killed
_CHUNK_SECONDS = 15.0  # at least: units of one model that stay together, since a process loads it once
_POLL_SECONDS = 10.0  # how often the bar looks for what workers have left in the cache


class LostWorkersError(RuntimeError):
    """Workers were killed again and again."""


@dataclass
class Outcome:
    """What became of units: how many were computed, which were not, and why those that failed did."""

    computed: int = 0
    left: list[Unit] = field(default_factory=list)
    failures: dict[Unit, str] = field(default_factory=dict)


def default_workers() -> int:
    """As many as processors may be used and memory (that of a GPU, too) holds; ROBUSTLIB_WORKERS decides where set."""
    named = os.environ.get("ROBUSTLIB_WORKERS")
    if named:
        return max(1, int(named))
    limits = [joblib.cpu_count(), psutil.virtual_memory().available // WORKER_BYTES]
    if torch.cuda.is_available():
        limits.append(torch.cuda.mem_get_info()[0] // GPU_BYTES)
    return max(1, int(min(limits)))


def compute(
    units: Iterable[Unit],
    *,
    workers: int | None = None,
    cluster: str | None = None,
    seconds: float | None = None,
    status: TextIO | None = None,
) -> Outcome:
    """Bring the results of units into the cache, several at a time; one that fails stops no other.

    Results do not depend on the number of workers. What is done when the time is over, or at an interrupt, is kept.

    Args:
        workers: processes, each with one thread; default `default_workers()`.
        cluster: address of a Dask scheduler, whose workers compute instead; default ROBUSTLIB_CLUSTER.
        seconds: how long this may take; default: as long as it does.
        status: where the progress bar goes; default standard error.

    Raises:
        LostWorkersError: workers were killed `TRIES` times.
        ValueError, OSError: the cluster is unavailable, or its workers have several threads.
    """
    missing = [unit for unit in dict.fromkeys(units) if not unit.is_done()]
    outcome = Outcome(left=missing)
    if not missing or not is_writable(cache_dir()):
        return outcome
    costs, workers = Costs.remembered(), workers or default_workers()
    cluster = cluster or os.environ.get("ROBUSTLIB_CLUSTER")
    deadline = time.monotonic() + seconds if seconds is not None else float("inf")
    with _Bar(missing, costs, workers, status) as bar:
        for attempt in range(1, TRIES + 1):
            try:
                _compute(outcome, bar, workers, cluster, deadline)
                break
            except TimeoutError:
                outcome.left = [unit for unit in outcome.left if not unit.is_done()]
                break
            except TerminatedWorkerError:
                outcome.left = [unit for unit in outcome.left if not unit.is_done()]
                bar.say(f"a worker was killed; {len(outcome.left)} units are given to new ones")
                if attempt == TRIES:
                    raise LostWorkersError(
                        f"workers were killed {TRIES} times, {len(outcome.left)} units are left: out of memory? "
                        f"Try fewer than {workers} workers (--workers); what is done is kept"
                    ) from None
    costs.remember()
    return outcome


def _compute(outcome: Outcome, bar: _Bar, workers: int, cluster: str | None, deadline: float) -> None:
    """Fill in the outcome. At the deadline, units that several workers are at are given up, those of one are finished.

    Raises:
        TimeoutError: at the deadline.
    """
    chunks = chunked(outcome.left, bar.costs, max(_CHUNK_SECONDS, bar.costs.total(outcome.left) / (2 * workers)))
    left = deadline - time.monotonic()
    with _backend(cluster) as options:
        if workers > 1 and left < float("inf"):
            options["timeout"] = max(1.0, left)
        parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1, **options)
        results = parallel(joblib.delayed(_in_worker)(chunk, _environment()) for chunk in chunks)
        for reports in results:
            seen: set[tuple] = set()
            for unit, seconds, failure in reports:
                outcome.left.remove(unit)
                outcome.computed += not failure
                if failure:
                    if failure not in outcome.failures.values():
                        bar.say(f"{unit}: {failure}")
                    outcome.failures[unit] = failure
                bar.learn(unit, seconds, same_answers(unit) in seen)
                seen.add(same_answers(unit))
            if time.monotonic() > deadline:
                results.close()
                raise TimeoutError


def chunked(units: Iterable[Unit], costs: Costs, seconds: float) -> list[list[Unit]]:
    """Units in the order in which to begin them, the longest first: trainings, for which attacks wait, then attacks.

    Each training stands alone, except those that begin with the same augmentation: one would wait for the other. One
    attack on one model stays together for `seconds`, whoever the adversary is: a process remembers a text model's
    answers, and many adversaries ask the same.
    """
    units = list(units)
    begun: dict[Any, list[Unit]] = {}
    for unit in sorted((unit for unit in units if not unit.attack), key=costs.estimate, reverse=True):
        begun.setdefault(_augmented(unit) or unit, []).append(unit)
    trainings = sorted(begun.values(), key=costs.total, reverse=True)
    attacks: list[list[Unit]] = []
    by_attack = sorted((unit for unit in units if unit.attack), key=_attack_on_model)
    for _, group in groupby(by_attack, key=_attack_on_model):
        chunk: list[Unit] = []
        for unit in group:
            if chunk and costs.total([*chunk, unit]) > seconds:
                attacks.append(chunk)
                chunk = []
            chunk.append(unit)
        attacks.append(chunk)
    return [*trainings, *sorted(attacks, key=costs.total, reverse=True)]


def _augmented(unit: Unit) -> tuple[str, str, int] | None:
    """What attacks the training texts before this training; None where nothing does."""
    victim = unit.victim
    name = victim.variant and method_definition(victim.variant.method).augmentation
    return (name, victim.modality, victim.seed) if name else None


def _attack_on_model(unit: Unit) -> tuple[str, ...]:
    return same_answers(unit)[:2]


def _in_worker(units: list[Unit], environment: dict[str, str]) -> list[tuple[Unit, float | None, str]]:
    """What became of each unit: the seconds it took (None: it was there), and why it failed."""
    if environment["ROBUSTLIB_PARENT"] != str(os.getpid()):  # one worker is the process itself
        if any(os.environ.get(name) != value for name, value in environment.items()):
            forget_studies()  # of another run, whose cache holds what this one's lacks
        os.environ.update(environment)
        # Models and answers that a worker keeps are no leak: loky would start another in its place at 300 MB.
        process_executor._MAX_MEMORY_LEAK_SIZE = int(WORKER_BYTES)
    reports = []
    for unit in units:
        try:
            reports.append((unit, unit.compute(), ""))
        except Exception as error:  # the notebook that needs it will stop at the same error, and show where
            reports.append((unit, None, f"{type(error).__name__}: {error}"))
    return reports


def _environment() -> dict[str, str]:
    """Where a worker finds what this process finds: on another machine under the same paths."""
    return folder_variables() | {
        "ROBUSTLIB_PROGRESS": "0",
        "ROBUSTLIB_PARENT": str(os.getpid()),
        "ROBUSTLIB_REFRESH": os.environ.get("ROBUSTLIB_REFRESH", ""),
    }


@contextmanager
def _backend(cluster: str | None) -> Iterator[dict[str, Any]]:
    """Where units run, as joblib is told; options of `Parallel`."""
    if not cluster:
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            yield {}
        return
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise ValueError("a cluster needs Dask: pip install 'robustlib[cluster]'") from None
    with Client(cluster, timeout=30, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=300)
        known = client.scheduler_info(n_workers=-1)["workers"].values()
        if any(worker["nthreads"] > 1 for worker in known):
            raise ValueError(
                "random numbers belong to a process, so a worker may have one thread only: "
                "dask worker --nthreads 1 --nworkers N"
            )
        shared = {"resources": {"GPU": 1}} if any("GPU" in worker["resources"] for worker in known) else {}
        with joblib.parallel_config("dask", client=client, **shared):
            yield {"pre_dispatch": "all"}


class _Bar:
    """Units done of how many, time used and left; looks into the cache, since workers report whole chunks."""

    def __init__(self, units: list[Unit], costs: Costs, workers: int, stream: TextIO | None) -> None:
        self.costs, self.workers, self.stream = costs, workers, stream or sys.stderr
        self.waiting = {unit: unit.key for unit in units}
        self.bar = tqdm(
            total=len(units),
            desc=f"units on {workers} workers" if workers > 1 else "units",
            bar_format="{desc}: {n_fmt} of {total_fmt} |{bar:20}| {elapsed}{postfix}",
            file=self.stream,
            mininterval=0.5 if self.stream.isatty() else 5.0,
            disable=os.environ.get("ROBUSTLIB_PROGRESS", "1") == "0",
        )
        self.over, self.lock = threading.Event(), threading.Lock()
        self.watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Bar:
        if not self.bar.disable:
            self.watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.bar.close()

    def learn(self, unit: Unit, seconds: float | None, again: bool) -> None:
        """One more is done; what it took corrects what is expected of the others; `again` as in `Costs.estimate`."""
        if seconds is not None:
            self.costs.learn(unit, seconds, again)
        self._count([unit])

    def _watch(self) -> None:
        while not self.over.wait(_POLL_SECONDS):
            self._count([unit for unit, key in list(self.waiting.items()) if key_is_done(key)])
            self.bar.refresh()  # time goes on while long units do

    def _count(self, units: list[Unit]) -> None:
        with self.lock:
            new = [unit for unit in units if unit in self.waiting]
            for unit in new:
                del self.waiting[unit]
            left = tqdm.format_interval(self.costs.total(self.waiting) / self.workers)
            self.bar.set_postfix_str(f"about {left} left", refresh=False)
            self.bar.update(len(new))

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.bar.write(text, file=self.stream)
