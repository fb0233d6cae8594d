"""A subject as the audit asks it: counted, in batches that fit into memory, its answers read as logits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustlib.attacks.words.queries import Memory
from robustlib.audit.subject import Subject

SMALLEST = float(np.finfo(np.float32).tiny)  # of a probability whose logarithm is searched
MINUS_INFINITY = -1e6  # what -inf, the logarithm of 0, is searched as


class Served:
    """What answers, and what it cost.

    Attributes:
        draws: passes over which a random subject is judged; 1 for one that is not.
        batch_size: inputs in one call, default 256 images or 1,024 texts; halved when memory runs out.
        n_forward, n_backward: passes so far, counted per example.
        asked, seconds: examples that `respond` answered, and the time that took.
        known: the class that was last predicted for each text that was asked; -1 where an answer was NaN.
    """

    def __init__(self, subject: Subject, *, batch_size: int | None = None) -> None:
        self.subject = subject
        self.batch_size = self.first_batch_size = batch_size or (256 if subject.modality == "image" else 1024)
        self.draws = 1
        self.n_forward = self.n_backward = 0
        self.seconds, self.asked = 0.0, 0
        self.dtype: torch.dtype | None = None  # of the answers, as they came
        self.gaps: list[Tensor] = []  # of the two largest logits of every text that was asked
        self.known: dict[Any, int] = {}
        self._memory = Memory(lambda texts: list(self._in_batches(texts).numpy()))

    def answers(self, inputs: Any, *, remembered: bool = True) -> Tensor:
        """Raw answers (n, n_classes) on the CPU; a text is asked once unless its answers are random."""
        if isinstance(inputs, Tensor) or self.draws > 1 or not remembered:
            return self._in_batches(inputs)
        return torch.from_numpy(np.stack(self._memory.answers(list(inputs))))

    def logits(self, inputs: Any) -> Tensor:
        """`answers` as logits, largest 0."""
        return as_logits(self.answers(inputs), self.subject.gives)

    def predictions(self, inputs: Any) -> Tensor:
        """Predicted classes (n,); -1 where an answer is NaN."""
        return predicted(self.answers(inputs))

    def right(self, inputs: Any, labels: Tensor) -> np.ndarray:
        """(n,) 1.0 where the subject is right, 0.0 where not; the share of draws where its answers are random."""
        draws = [(self.predictions(inputs) == labels).numpy() for _ in range(self.draws)]
        return np.mean(draws, axis=0)

    def search(self, function: Callable[[Any], Any] | None = None, gives: str | None = None) -> Callable[[Any], Tensor]:
        """A function from inputs to logits that autograd can follow: of the subject's module, or of another.

        Passes are counted. Outputs on other devices stay where they are.
        """
        function = function or self.subject.module
        gives = gives or self.subject.gives

        def logits(inputs: Any) -> Tensor:
            self.n_forward += len(inputs)
            return as_logits(tensor_in(function(inputs)), gives)

        return logits

    def averaged(self, search: Callable[[Any], Tensor], k: int) -> Callable[[Any], Tensor]:
        """Expectation over a subject's own randomness: the mean of k passes (EoT, Athalye et al. 2018)."""
        return lambda inputs: torch.stack([search(inputs) for _ in range(k)]).mean(dim=0)

    def _in_batches(self, inputs: Any) -> Tensor:
        answers, start = [], 0
        while start < len(inputs):
            batch = inputs[start : start + self.batch_size]
            try:
                answers.append(self._asked(batch))
                start += len(batch)
            except (RuntimeError, MemoryError) as error:
                self.halve_batches(error)
        return torch.cat(answers)

    def retried(self, function: Callable[[], Any]) -> Any:
        """What a function returns that keeps to `batch_size`, which is halved as often as memory runs out in it."""
        while True:
            try:
                return function()
            except (RuntimeError, MemoryError) as error:
                self.halve_batches(error)

    def halve_batches(self, error: BaseException) -> None:
        """Halve the batch size where memory ran out; raise any other error, and that one for a batch of one."""
        if not out_of_memory(error) or self.batch_size < 2:
            raise error
        self.batch_size //= 2

    def _asked(self, inputs: Any) -> Tensor:
        start = time.perf_counter()
        with torch.no_grad():
            answers = tensor_in(self.subject.respond(inputs.clone() if isinstance(inputs, Tensor) else inputs))
        self.n_forward += len(inputs)
        self.asked += len(inputs)
        self.seconds += time.perf_counter() - start
        self.dtype = answers.dtype
        if not isinstance(inputs, Tensor):
            top = as_logits(answers, self.subject.gives).topk(2, dim=1).values
            self.gaps.append((top[:, 0] - top[:, 1]).float().cpu())
            self.known.update(zip(inputs, predicted(answers).tolist(), strict=True))
        return answers.detach().to("cpu", torch.promote_types(answers.dtype, torch.float32))


def tensor_in(output: Any) -> Tensor:
    """The tensor of answers in what a model returned: itself, `logits` of an output object, or the first of a tuple."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and "logits" in output:
        return output["logits"]
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        return output[0]
    return torch.as_tensor(np.asarray(output))


def as_logits(answers: Tensor, gives: str) -> Tensor:
    """Answers as finite logits whose largest is 0, float32 or wider; predictions stay the same.

    Probabilities become their logarithms, 0 that of float32's smallest number. The shift changes no softmax and no
    difference; it keeps logits from looking like probabilities.
    """
    values = answers.to(torch.promote_types(answers.dtype, torch.float32))
    if gives in ("probabilities", "labels"):
        values = values.clamp_min(SMALLEST).log()
    if not torch.isfinite(values).all():
        values = torch.nan_to_num(values, nan=MINUS_INFINITY, neginf=MINUS_INFINITY, posinf=-MINUS_INFINITY)
    return values - values.detach().amax(dim=1, keepdim=True)


def predicted(answers: Tensor) -> Tensor:
    """Predicted classes (n,); -1, which no label equals, where an answer is NaN."""
    return torch.where(answers.isnan().any(dim=1), -1, answers.nan_to_num(nan=0.0).argmax(dim=1))


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or for NumPy and PyTorch on the CPU."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError) or "out of memory" in text or "allocate memory" in text
    )


def device_of(subject: Subject) -> torch.device:
    """Where the subject's module lives; the CPU for a black box."""
    module = subject.module
    if isinstance(module, nn.Module):
        for tensor in (*module.parameters(), *module.buffers()):
            return tensor.device
    return torch.device("cpu")


@contextmanager
def left_alone(module: Any) -> Iterator[None]:
    """Give a module its buffers back: in training mode a forward pass moves the statistics of batch normalisation."""
    buffers = list(module.buffers()) if isinstance(module, nn.Module) else []
    before = [buffer.detach().clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)


def parts_that_predict(served: Served, inputs: Any, predictions: Tensor, *, agreement: float = 0.9) -> list[tuple]:
    """Sub-modules whose outputs are scores of the classes that the module predicts: (name, callable), in order of run.

    One whose outputs equal the answers hides nothing and is left out, and so is one that equals an earlier one.

    Args:
        inputs, predictions: examples, of which a few are asked again, and what the module predicts for them.
        agreement: share of predictions that must be the same.
    """
    module, n_classes = served.subject.module, served.subject.n_classes
    if not isinstance(module, nn.Module):
        return []
    few = min(64 if isinstance(inputs, Tensor) else 32, served.batch_size)
    inputs, predictions = inputs[:few], predictions[:few]
    outputs: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable:
        def hook(part: nn.Module, args: Any, output: Any) -> None:
            tensor = output if isinstance(output, Tensor) else getattr(output, "logits", None)
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.shape[1:].numel() == n_classes:
                outputs.setdefault(name, []).append(tensor.detach().flatten(1).float().cpu())

        return hook

    handles = []
    for name, part in module.named_modules():
        if part is not module and not isinstance(part, torch.jit.ScriptModule):
            handles.append(part.register_forward_hook(keep(name)))
    try:
        with torch.no_grad():
            served.n_forward += len(inputs)
            final = tensor_in(module(inputs)).detach().float().cpu()
    finally:
        for handle in handles:
            handle.remove()
    found: list[tuple[str, Tensor]] = []
    for name, batches in outputs.items():
        scores = torch.cat(batches)
        known = [final, *(values for _, values in found)]
        if len(scores) != len(predictions) or any(
            scores.equal(values) for values in known if values.shape == scores.shape
        ):
            continue
        if float((scores.argmax(dim=1) == predictions.cpu()).float().mean()) >= agreement:
            found.append((name, scores))
    return [(name, _output_of(module, name)) for name, _ in found]


def _output_of(module: nn.Module, name: str) -> Callable[[Any], Tensor]:
    """A function from inputs to the output of one sub-module."""
    part = module.get_submodule(name)

    def run(inputs: Any) -> Tensor:
        outputs: list[Tensor] = []
        handle = part.register_forward_hook(lambda part, args, output: outputs.append(tensor_in(output).flatten(1)))
        try:
            module(inputs)
        finally:
            handle.remove()
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    return run
