"""A training step of every method beside its floor: its forward-backward passes, each as long as a standard step.

Images: the small CNN, 128 images of 28 x 28. Texts: MiniLM with two layers, 32 texts of 25 tokens. Both are random,
since no time depends on them; `smoke` takes smaller ones. All methods take turns, in float32 and, where the hardware
has it, in bfloat16; a turn is a few steps. On a CPU times are CPU time; on a GPU wall time, synchronised at either end
of a turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from measure import Row
from torch import Tensor, nn

from robustlib.data.progress import progress
from robustlib.models.forward import seeded
from robustlib.models.images import build_image_model
from robustlib.models.texts import TextClassifier
from robustlib.study.environment import pick_device
from robustlib.training.autocast import autocast_context, resolve_precision
from robustlib.training.loop import apply_gradient_rule
from robustlib.training.methods import Method, Step, image_method, method_step
from robustlib.training.substitutes import substitution_table

EPSILON = 0.05
LEARNING_RATE = 1e-6  # so small that labels drawn at random do no harm, however many steps are taken
N_CLASSES = 10


@dataclass(frozen=True)
class Sizes:
    """What is trained. The names are those of `robustlib.models` and `robustlib.models.texts`."""

    dataset: str = "random"
    side: int = 28
    n_images: int = 128
    encoder: str = "minilm"
    layers: int = 2
    n_texts: int = 32
    n_tokens: int = 25


SMOKE = Sizes(side=8, n_images=8, encoder="tiny-bert", n_texts=4, n_tokens=6)


@dataclass(frozen=True)
class Trained:
    """A model with a batch to train it on, and the methods to do it by."""

    kind: str
    model: nn.Module
    batch: Any
    labels: Tensor
    methods: tuple[Method, ...]
    optimiser: torch.optim.Optimizer
    in_a_turn: int = 1  # steps that are timed together, on a CPU

    def step(self, method: Method, autocast: Any) -> Step:
        """The method's step; substitutes from the token embeddings need no data."""
        substitutes = method.definition.substitutes
        resources = {"table": substitution_table(self.model, source="embedding")} if substitutes else {}
        return method_step(method, autocast, **resources)


def trained_images(sizes: Sizes, device: torch.device) -> Trained:
    """The small CNN with Adam, as `robustlib.training` has them."""
    model = build_image_model("small_cnn", 1, sizes.side, N_CLASSES, seed=0).to(device).train()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(sizes.n_images, 1, sizes.side, sizes.side, generator=generator).to(device)
    labels = torch.randint(0, N_CLASSES, (sizes.n_images,), generator=generator).to(device)
    methods = (
        Method(),
        image_method("fgsm", EPSILON),
        image_method("pgd", EPSILON, steps=3),
        image_method("pgd", EPSILON, steps=5),
        image_method("freelb", EPSILON, steps=3),
        image_method("trades", EPSILON, steps=3),
        image_method("ddi", EPSILON, steps=3, solutions=3),
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, weight_decay=5e-4, fused=True)
    return Trained("images", model, images, labels, methods, optimiser, in_a_turn=4)  # 5 ms a step


def trained_texts(sizes: Sizes, device: torch.device) -> Trained:
    """The encoder with AdamW, as `robustlib.training.texts` has them."""
    model = TextClassifier.from_name(sizes.encoder, 2, layers=sizes.layers).to(device).train()
    generator, shape = torch.Generator().manual_seed(0), (sizes.n_texts, sizes.n_tokens)
    batch = {
        "input_ids": torch.randint(5, model.body.config.vocab_size, shape, generator=generator).to(device),
        "attention_mask": torch.ones(shape, dtype=torch.int64, device=device),
        "token_type_ids": torch.zeros(shape, dtype=torch.int64, device=device),
    }
    labels = torch.randint(0, 2, (sizes.n_texts,), generator=generator).to(device)
    methods = (
        Method(),
        Method("pgd", steps=3),
        Method("freelb", steps=3),
        Method("ddi", steps=2, solutions=2),
        Method("ascc", steps=5),
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    return Trained("texts", model, batch, labels, methods, optimiser)


def one_step(trained: Trained, step: Step) -> None:
    """What `robustlib.training.loop.fit` does with a batch."""
    trained.optimiser.zero_grad(set_to_none=True)
    step(trained.model, trained.batch, trained.labels, 1.0)
    apply_gradient_rule(list(trained.model.parameters()), "none")
    trained.optimiser.step()


def forward_backward(trained: Trained, step: Step) -> None:
    """The same without the optimiser: one pass, where the step is a standard one."""
    trained.optimiser.zero_grad(set_to_none=True)
    step(trained.model, trained.batch, trained.labels, 1.0)


def take_turns(
    candidates: dict[str, Callable[[], None]], repeats: int, steps: int, on_cuda: bool
) -> dict[str, list[float]]:
    """Seconds of a candidate's step, mean of `steps` in a row, in each of `repeats` rounds after one not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    clock = time.perf_counter if on_cuda else time.process_time
    for turn in progress(range(repeats + 1), description="steps of each method"):
        for name, run in candidates.items():
            if on_cuda:
                torch.cuda.synchronize()
            began = clock()
            for _ in range(steps):
                run()
            if on_cuda:
                torch.cuda.synchronize()
            if turn:
                seconds[name].append((clock() - began) / steps)
    return seconds


def title(method: Method) -> str:
    """A method with what its cost depends on."""
    if method.name in ("standard", "fgsm"):
        return method.name
    return f"ddi M={method.solutions} K={method.steps}" if method.name == "ddi" else f"{method.name} K={method.steps}"


def methods_beside_their_floors(build: Callable[[Sizes, torch.device], Trained], sizes: Sizes, repeats: int):
    """Three kinds of rows: seconds of a step beside the floor, examples per second, and bfloat16 beside float32."""
    device = pick_device()
    trained = build(sizes, device)
    precisions = ["float32"]
    if resolve_precision("auto", device.type) == "bfloat16":
        precisions.append("bfloat16")
    steps = {}
    for precision in precisions:
        autocast = autocast_context(precision, device.type)
        name = f"{trained.kind}, {precision}"
        steps |= {
            f"{name}: {title(method)}": partial(one_step, trained, trained.step(method, autocast))
            for method in trained.methods
        }
        alone = trained.step(Method(), autocast)
        steps[f"{name}: standard, without the optimiser"] = partial(forward_backward, trained, alone)
    with seeded(0):
        on_cuda = device.type == "cuda"
        seconds = take_turns(steps, repeats, 20 if on_cuda else trained.in_a_turn, on_cuda)
    rows, n = [], len(trained.labels)
    for precision in precisions:
        name = f"{trained.kind}, {precision}"
        standard = f"{name}: standard"
        for method in trained.methods:
            ours = f"{name}: {title(method)}"
            floor = f"{method.passes} x {standard}"
            rows.append(timing_row(ours, seconds[ours], seconds[standard], n, floor, method.passes))
            rows.append(rate_row(ours, seconds[ours], seconds[standard], n, standard))
        alone = f"{standard}, without the optimiser"
        rows.append(timing_row(alone, seconds[alone], seconds[standard], n, f"1 x {standard}", 1))
    for method in trained.methods if len(precisions) > 1 else ():
        high, low = (f"{trained.kind}, {precision}: {title(method)}" for precision in precisions)
        rows.append(timing_row(f"{low}, beside float32", seconds[low], seconds[high], n, high, 1))
    return rows


def timing_row(name: str, seconds: Sequence[float], reference: Sequence[float], n: int, floor: str, passes: int) -> Row:
    """Median, shortest and longest time; the ratio is the median over the rounds of time / (passes x reference)."""
    ratio = statistics.median(ours / (passes * theirs) for ours, theirs in zip(seconds, reference, strict=True))
    return {
        "name": name,
        "value": statistics.median(seconds),
        "unit": "s",
        "low": min(seconds),
        "high": max(seconds),
        "reference": floor,
        "ratio": ratio,
        "n": n,
        "repeats": len(seconds),
    }


def rate_row(name: str, seconds: Sequence[float], reference: Sequence[float], n: int, standard: str) -> Row:
    """Examples per second of the same steps; the ratio is to those of a standard step."""
    ratio = statistics.median(theirs / ours for ours, theirs in zip(seconds, reference, strict=True))
    return {
        "name": name,
        "value": n / statistics.median(seconds),
        "unit": "examples per second",
        "low": n / max(seconds),
        "high": n / min(seconds),
        "reference": standard,
        "ratio": ratio,
        "n": n,
        "repeats": len(seconds),
    }


def measure(sizes: Sizes, repeats: int) -> list[Row]:
    """Images, then texts."""
    return [
        row for build in (trained_images, trained_texts) for row in methods_beside_their_floors(build, sizes, repeats)
    ]
