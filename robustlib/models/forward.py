"""The one place that looks at a model: how it is run, and what it returned."""

import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@torch.no_grad()
def logits_of(model: Callable, inputs: Any, *, batch_size: int = 512) -> Tensor:
    """Logits (n, n_classes) on the CPU, in float32 or float64, of any callable; a module is run in evaluation mode.

    `inputs`: tensor or NumPy array (n, ...), in batches, or a sequence of n texts, as one list. Raises as
    `checked_logits`.
    """
    with evaluating(model):
        if not isinstance(inputs, Tensor | np.ndarray):
            return _widened(checked_logits(model(list(inputs)), len(inputs))).cpu()
        forward, batches = Forward(model), []
        for start in range(0, max(1, len(inputs)), batch_size):
            batch = torch.as_tensor(inputs[start : start + batch_size])
            forward.rows = torch.arange(start, start + len(batch))
            batches.append(forward(batch).cpu())
        return torch.cat(batches)


def checked_logits(output: Any, n: int, rows: Tensor | None = None) -> Tensor:
    """The logits (n, n_classes) in what a model returned: a tensor, or a mapping with "logits" (ModelOutput).

    `rows`: positions of the n examples in the whole input, by which an error names one; default 0 to n - 1.

    Raises:
        TypeError, ValueError: no floating-point tensor; not one row for each example, or fewer than two classes.
        FloatingPointError: NaN or infinite logits.
    """
    logits = output["logits"] if isinstance(output, Mapping) and "logits" in output else output
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise TypeError(
            f"the model returned {_described(output)} where a floating-point tensor of logits (n, n_classes) is "
            "needed: pass a function that returns the logits, such as lambda inputs: model(inputs)[0]"
        )
    if not n:
        return logits
    if logits.ndim != 2 or len(logits) != n or logits.shape[1] < 2:
        raise ValueError(
            f"the model returned logits of shape {tuple(logits.shape)} for {n} examples where ({n}, n_classes) with "
            "two classes or more is needed; a single logit z of the positive class is the pair (0, z)"
        )
    finite = torch.isfinite(logits).all(dim=1)
    if not finite.all():
        raise FloatingPointError(f"the model returned NaN or infinite logits for example {_example(finite, rows)}")
    return logits


def warn_if_random(model: Callable, inputs: Any) -> None:
    """Warn where two passes over the first 16 inputs differ: an attack then keeps the luckiest pass."""
    first, second = (logits_of(model, inputs[:16]).double() for _ in range(2))
    if first.numel() and (first - second).abs().max() > 1e-4 * first.abs().max():
        warnings.warn(
            "two passes of the model over the same inputs differ: it draws random numbers. An attack notes success at "
            "the first lucky pass, so its adversarial accuracy is too low; attack and judge the mean of several passes",
            stacklevel=3,
        )


class Forward(nn.Module):
    """A model as everything here runs it: on a copy of the inputs, which it may change in place, to checked logits.

    Logits in half precision come back as float32, the same numbers, so that a search is not rounded twice.

    Attributes:
        dtype: what the model gets its inputs in; None: as they come.
        rows: positions, in the whole input, of the examples that are run at the moment: errors name them.
        n_forward, n_backward: passes so far, counted per example; backward passes are counted by the attack.
    """

    def __init__(self, model: Callable, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self.n_forward = self.n_backward = 0
        self.rows: Tensor | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        self.n_forward += len(inputs)
        inputs = inputs.to(self.dtype or inputs.dtype, copy=True)
        return _widened(checked_logits(self.model(inputs), len(inputs), self.rows))


@contextmanager
def evaluating(model: Callable) -> Iterator[None]:
    """Evaluation mode, where a model has modes, and full float32; every module gets back the mode it had."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    training = [module for module in modules if getattr(module, "training", False)]
    with float32_mode("ieee"):
        try:
            # Not model.eval(), which exported modules refuse.
            for module in training:
                module.training = False
            yield
        finally:
            for module in training:
                module.training = True


@contextmanager
def gradients_on() -> Iterator[None]:
    """Gradients, also inside the caller's `torch.no_grad()` or `torch.inference_mode()`; clone tensors made there."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def float32_mode(mode: str) -> Iterator[None]:
    """Matrix products, convolutions and recurrent layers of CUDA in "ieee" float32 or in "tf32"; given back afterwards.

    PyTorch's default is TF32 for convolutions: 10 bits of mantissa instead of 23, a wall of its own for attacks.
    """
    if mode not in ("ieee", "tf32"):
        raise ValueError(f"mode must be 'ieee' or 'tf32', got {mode!r}")
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [switch.fp32_precision for switch in switches]
    older = _older_switches()
    try:
        # The older switches too: PyTorch raises where they are read and disagree with the newer ones.
        _set_older_switches("highest" if mode == "ieee" else "high", mode == "tf32")
        for switch in switches:
            switch.fp32_precision = mode
        yield
    finally:
        _set_older_switches(*older)
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with torch's global generators (CPU and GPUs) seeded, and give their states back afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(mixed_seed(seed))
        yield


def mixed_seed(seed: int, *parts: int) -> int:
    """One seed for `torch.manual_seed` from an integer of any size (0 or above) and parts that set its draws apart."""
    try:
        mixed = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed must be an integer, got {seed!r}") from None
    if mixed < 0:
        raise ValueError(f"seed must be 0 or above, got {seed}")
    for part in parts:
        mixed = mixed * 1_000_003 + part
    return mixed % 2**63


def _widened(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of {output.dtype}"
    kind = type(output).__name__
    if isinstance(output, Mapping):
        return f"a {kind} without 'logits' ({', '.join(map(str, output))})"
    return f"a {kind} of {len(output)}" if isinstance(output, tuple | list) else f"{kind}"


def _example(finite: Tensor, rows: Tensor | None) -> str:
    first = int((~finite).nonzero()[0])
    if rows is None:
        return str(first)
    # A library may have narrowed the batch down, to examples we cannot tell.
    return str(int(rows[first])) if len(rows) == len(finite) else f"{int(rows[0])} or one up to {int(rows[-1])}"


def _older_switches() -> tuple[str | None, bool | None]:

    def read(switch: Callable) -> Any:
        try:
            return switch()
        except RuntimeError:
            return None

    return read(torch.get_float32_matmul_precision), read(lambda: torch.backends.cudnn.allow_tf32)


def _set_older_switches(matmul: str | None, cudnn: bool | None) -> None:
    if matmul is not None:
        torch.set_float32_matmul_precision(matmul)
    if cudnn is not None:
        torch.backends.cudnn.allow_tf32 = cudnn
