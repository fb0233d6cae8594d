"""Units of work in parallel: equal results for any number of workers, after a kill, on a cluster; estimates."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open

from robustlib.data.cache import computed
from robustlib.study import pool
from robustlib.study.costs import Costs, kind, same_answers
from robustlib.study.plan import units_of
from robustlib.study.pool import LostWorkersError, chunked, compute
from robustlib.study.units import Unit, Victim, forget_studies
from robustlib.study.variants import Variant

IMAGES = units_of("00_first_result", "smoke")
UNITS = [*IMAGES[:12], *(unit for unit in units_of("05_text_illusion", "smoke") if unit.attack in ("", "dg"))][:18]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """`cache(name)`: an empty cache folder that is in use from then on."""

    monkeypatch.setenv("ROBUSTLIB_PROGRESS", "1")

    def use(name: str) -> Path:
        monkeypatch.setenv("ROBUSTLIB_CACHE", str(tmp_path / name))
        forget_studies()
        return tmp_path / name

    return use


def results(folder: Path) -> dict[str, str]:
    """Sums over all bytes of the models and evaluations of a cache; receipts of units hold times."""
    kinds = ("image_model", "text_model", "evaluation")
    paths = [path for kind in kinds for path in (folder / kind).glob("*.safetensors")]
    sums = {}
    for path in paths:
        with safe_open(path, framework="pt") as file:
            sums[str(path.relative_to(folder))] = file.metadata()["checksum"]
    return sums


def killing(how_often: int, folder: Path) -> threading.Thread:
    """A thread that kills a worker of this process when there is an entry, and others later, as a full memory would."""

    def kill() -> None:
        for _ in range(how_often):
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                workers = [p for p in psutil.Process().children(recursive=True) if is_worker(p)]
                if workers and len(results(folder)) > 1:
                    workers[0].send_signal(signal.SIGKILL)
                    workers[0].wait(10)
                    break
                time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def is_worker(process: psutil.Process) -> bool:
    try:
        return "LokyProcess" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def test_results_do_not_depend_on_how_many_workers_there_are_or_on_one_that_is_killed(cache):
    alone = cache("alone")
    status = io.StringIO()
    assert compute(UNITS, workers=1, status=status).computed == len(set(UNITS))
    expected = results(alone)
    assert len(expected) > 12
    assert f"{len(set(UNITS))} of {len(set(UNITS))}" in status.getvalue() and "left" in status.getvalue()

    two = cache("two")
    compute(UNITS, workers=2)
    assert results(two) == expected

    killed = cache("killed")
    thread, status = killing(1, killed), io.StringIO()
    outcome = compute(UNITS, workers=2, status=status)
    thread.join()
    assert (outcome.left, outcome.failures) == ([], {})
    assert "a worker was killed" in status.getvalue()
    assert results(killed) == expected

    before = computed.copy()
    assert compute(UNITS, workers=2).computed == 0  # nothing is left to do
    assert computed == before


def test_workers_that_are_killed_again_and_again_are_an_error_that_names_the_way_out(cache, monkeypatch):
    monkeypatch.setattr(pool, "TRIES", 1)
    thread = killing(1, cache("killed"))
    with pytest.raises(LostWorkersError, match=r"out of memory\? Try fewer than 2 workers \(--workers\); what is done"):
        compute(UNITS, workers=2)
    thread.join()


@pytest.fixture
def cluster(tmp_path):
    """Address of a Dask scheduler with two workers of one thread, processes of their own as on other machines."""
    pytest.importorskip("distributed", reason="needs the extra cluster")
    address = tmp_path / "scheduler.json"
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    scheduler = ["scheduler", "--scheduler-file", str(address), "--port", "0", "--host", "127.0.0.1", "--no-dashboard"]
    worker = ["worker", "--scheduler-file", str(address), "--nworkers", "2", "--nthreads", "1", "--no-dashboard"]
    processes = [subprocess.Popen([*dask, *command], **options) for command in (scheduler, worker)]
    deadline = time.monotonic() + 60
    while not address.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield address
    for process in reversed(processes):
        process.terminate()
        process.wait(30)


def test_a_cluster_gives_the_same_results(cache, cluster):
    alone = cache("alone")
    compute(IMAGES[:6], workers=1)
    shared = cache("shared")
    outcome = compute(IMAGES[:6], cluster=json.loads(cluster.read_text())["address"])
    assert (outcome.computed, outcome.left) == (6, [])
    assert results(shared) == results(alone)


def test_a_unit_that_fails_stops_no_other_and_says_why(cache):
    cache("failing")
    bad = Unit(IMAGES[0].victim, "pgd", "no such adversary")
    outcome = compute([bad, IMAGES[0]], workers=1)
    assert outcome.computed == 1
    assert "unknown adversary" in outcome.failures[bad]
    assert not bad.is_done() and IMAGES[0].is_done()


def test_when_the_time_is_over_what_is_done_is_kept(cache):
    cache("short")
    outcome = compute(IMAGES, workers=1, seconds=0.0)
    assert 0 < outcome.computed < len(IMAGES)
    assert len(outcome.left) == len(IMAGES) - outcome.computed
    assert not any(unit.is_done() for unit in outcome.left)


def test_trainings_come_first_and_an_attack_on_one_model_stays_together():
    costs = Costs({"small_cnn on digits, cpu": 1e-3})
    first, second = (Victim("smoke", "image", seed) for seed in (0, 1))
    attacks = [Unit(victim, "pgd", design_temperature=T) for T in (1.0, 2.0, 3.0) for victim in (first, second)]
    chunks = chunked([*attacks, Unit(first), Unit(second)], costs, 1e9)
    assert [unit.attack for chunk in chunks[:2] for unit in chunk] == ["", ""]
    assert [{unit.victim.seed for unit in chunk} for chunk in chunks[2:]] == [{0}, {1}]
    assert [len(chunk) for chunk in chunked(attacks, costs, 0.0)] == [1] * 6


def test_trainings_that_begin_with_the_same_augmentation_do_not_wait_for_each_other():
    def training(method, rule="none", seed=0):
        return Unit(Victim("smoke", "text", seed, Variant(method, rule)))

    same = [training("dg-aug"), training("dg-aug", "normalise")]
    others = [training("dg-aug", seed=1), training("pgd"), training("pgd", "normalise")]
    chunks = chunked([*same, *others], Costs(seconds={"a layer of MiniLM, cpu": 1e-3}), 1.0)
    assert set(same) in [set(chunk) for chunk in chunks]
    assert [len(chunk) for chunk in chunks] == [2, 1, 1, 1]  # the longest first


def test_estimates_follow_what_units_took_and_are_remembered(cache):
    cache("costs")
    costs = Costs({"small_cnn on digits, cpu": 1e-4})
    unit = IMAGES[1]
    first = costs.estimate(unit)
    costs.learn(unit, 10 * first)
    assert costs.estimate(unit) == pytest.approx(10 * first)
    costs.remember()
    assert Costs.remembered().factors == {kind(unit): pytest.approx(10)}
    (Path(os.environ["ROBUSTLIB_CACHE"]) / "costs.json").write_text("{")
    assert Costs.remembered() == Costs()


def test_what_another_adversary_asked_costs_a_text_model_little(cache):
    cache("costs")
    costs, victim = Costs({"a layer of MiniLM, cpu": 1e-3}), Victim("smoke", "text", 0)
    naive, margin, blind = (Unit(victim, "dg", name) for name in ("naive", "margin", "label-only"))
    alone = {unit: costs.estimate(unit) for unit in (naive, margin, blind)}
    assert costs.total([naive, margin]) < alone[naive] + 0.5 * alone[margin]
    assert costs.total([naive, blind]) == pytest.approx(alone[naive] + alone[blind])
    rounded = Unit(replace(victim, precision="2-decimals"), "dg", "naive")
    assert same_answers(rounded) == same_answers(naive) != same_answers(Unit(replace(victim, seed=1), "dg", "naive"))
    costs.learn(margin, 5.0, again=True)
    assert costs.estimate(margin) == alone[margin]
    assert costs.estimate(margin, again=True) == pytest.approx(5.0)
    assert costs.estimate(Unit(replace(victim, precision="bfloat16"))) < 1.0 < costs.estimate(Unit(victim))
