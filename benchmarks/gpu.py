"""Unit costs of one GPU: what an estimate of the large profiles needs, and nothing else. Resumes where it was stopped.

    python benchmarks/gpu.py --out FOLDER [--sizes small] [--only images]

Measured: image passes a second (forward and backward, ResNet-18, 32 x 32) in float32, TF32 and bfloat16; steps of
MiniLM alone and of several at a time on as many streams; texts a second that MiniLM answers, asked by 1, 4, 8 and 16
processes. Each number is written to FOLDER/gpu.csv at once, and a second run leaves out what is there, so that pieces
of a few minutes add up. `--sizes small` runs everything in seconds, on a CPU too.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from measure import machine

from robustlib.models.forward import float32_mode
from robustlib.models.images import build_image_model
from robustlib.models.texts import TextClassifier
from robustlib.study.environment import pick_device

COLUMNS = ["name", "per_second", "unit", "seconds", "n", "device", "versions"]


@dataclass(frozen=True)
class Sizes:
    """What is run, and for how many seconds each."""

    architecture: str = "resnet18"
    batch: int = 512
    encoder: str = "minilm"
    texts: int = 1024
    text_batch: int = 32
    models: tuple[int, ...] = (1, 4, 16)
    processes: tuple[int, ...] = (1, 4, 8, 16)
    seconds: float = 4.0


SMALL = Sizes("small_cnn", 8, "tiny-bert", 8, 4, (1, 2), (1, 2), 0.05)


def rate(step: Callable[[], int], seconds: float, device: torch.device) -> tuple[float, float, int]:
    """(things a second, seconds, things) of a step that says how many it did, after two that are not counted."""
    for _ in range(2):
        step()
    _wait(device)
    began, done = time.perf_counter(), 0
    while not done or time.perf_counter() - began < seconds:
        done += step()
        _wait(device)
    spent = time.perf_counter() - began
    return done / spent, spent, done


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def image_passes(sizes: Sizes, precision: str, device: torch.device) -> Callable[[], int]:
    """A forward and backward pass of a batch, channels last; `precision` as in `models.forward.float32_mode`."""
    side = 32 if sizes.architecture == "resnet18" else 28
    channels = 3 if sizes.architecture == "resnet18" else 1
    model = build_image_model(sizes.architecture, channels, side, 10, seed=0).to(device)
    model = model.to(memory_format=torch.channels_last).train()
    images = torch.rand(sizes.batch, channels, side, side, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (sizes.batch,), device=device)
    low = torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()

    def step() -> int:
        with float32_mode("tf32" if precision == "tf32" else "ieee"), low:
            torch.nn.functional.cross_entropy(model(images), labels).backward()
        return sizes.batch

    return step


def text_steps(sizes: Sizes, n_models: int, device: torch.device) -> Callable[[], int]:
    """A training step of each of several models in bfloat16, on a stream of its own where there is a GPU."""
    models = [TextClassifier.from_name(sizes.encoder, 2, seed=seed).to(device).train() for seed in range(n_models)]
    optimisers = [torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True) for model in models]
    batch = models[0].collate(models[0].tokenise(_sentences(sizes.text_batch)))
    labels = torch.randint(0, 2, (sizes.text_batch,), device=device)
    on_gpu = device.type == "cuda"
    streams = [torch.cuda.stream(torch.cuda.Stream()) if on_gpu else nullcontext() for _ in models]

    def step() -> int:
        for model, optimiser, stream in zip(models, optimisers, streams, strict=True):
            with stream:
                optimiser.zero_grad(set_to_none=True)
                with torch.autocast(device.type, torch.bfloat16):
                    loss = torch.nn.functional.cross_entropy(model(batch), labels)
                loss.backward()
                optimiser.step()
        return n_models

    return step


def _sentences(n: int) -> list[str]:
    return [f"a film number {number} that says no more than it must and knows why it does so" for number in range(n)]


def _ask(sizes: Sizes, seconds: float, shard: int) -> tuple[float, float, int]:
    """One process: its own model, texts that no cache knows."""
    device = pick_device()
    torch.set_num_threads(1)
    model = TextClassifier.from_name(sizes.encoder, 2).to(device).eval()
    texts = _sentences(sizes.texts)
    return rate(lambda: len(model.logits(texts)), seconds, device)


def queries(sizes: Sizes, n_processes: int) -> tuple[float, float, int]:
    """Texts a second of all processes together; each is spawned and loads its own model before its clock starts."""
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(partial(_ask, sizes, sizes.seconds), range(n_processes)))
    return sum(part[0] for part in parts), max(part[1] for part in parts), sum(part[2] for part in parts)


def measurements(sizes: Sizes, device: torch.device) -> dict[str, tuple[str, Callable[[], tuple[float, float, int]]]]:
    """By name: the unit, and what measures it."""
    chosen: dict[str, tuple[str, Callable[[], tuple[float, float, int]]]] = {}
    for precision in ("float32", "tf32", "bfloat16") if device.type == "cuda" else ("float32", "bfloat16"):
        chosen[f"images, {precision}"] = (
            "image passes",
            lambda p=precision: rate(image_passes(sizes, p, device), sizes.seconds, device),
        )
    for n in sizes.models:
        chosen[f"steps, {n} models at a time"] = (
            "training steps",
            lambda n=n: rate(text_steps(sizes, n, device), sizes.seconds, device),
        )
    for n in sizes.processes:
        chosen[f"queries, {n} processes"] = ("texts", lambda n=n: queries(sizes, n))
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", choices=("full", "small"), default="full")
    parser.add_argument("--only", default="", help="names that begin so")
    chosen = parser.parse_args(arguments)
    device, path = pick_device(), chosen.out / "gpu.csv"
    chosen.out.mkdir(parents=True, exist_ok=True)
    known = set()
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            known = {row["name"] for row in csv.DictReader(file)}
    else:
        path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for name, (unit, run) in measurements(SMALL if chosen.sizes == "small" else Sizes(), device).items():
        if name in known or not name.startswith(chosen.only):
            continue
        per_second, seconds, n = run()
        row = {"name": name, "per_second": per_second, "unit": unit, "seconds": seconds, "n": n, **machine()}
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)
        print(f"{name:30} {per_second:12,.1f} {unit} a second", flush=True)


if __name__ == "__main__":
    main()
