"""A backward pass through steps and saturation: what a model computes stays, its gradient becomes a usable one.

Backward pass differentiable approximation (Athalye et al. 2018, section 4.1) for models that we did not write:
PyTorch's own operations are given another derivative while the model runs.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_F = torch.nn.functional
NEAR_ZERO = 1e-4  # where derivatives are taken instead of at 0

# Steps and bounds, whose derivative is taken to be that of their argument.
_ROUNDING = ("round", "floor", "ceil", "trunc", "fix", "frac", "sign")
_CLIPPING = ("clamp", "clip", "clamp_min", "clamp_max", "sin", "cos", "hardtanh", "hardsigmoid", "relu6")
_NAMES = (*_ROUNDING, *_CLIPPING)
_AS_IDENTITY = {getattr(place, name) for place in (torch, Tensor, _F) for name in _NAMES if hasattr(place, name)}
# Functions whose derivative at 0 is infinite, and NaN behind a factor of 0.
_STEEP = {
    getattr(place, name)
    for place in (torch, Tensor)
    for name in ("sqrt", "rsqrt", "log", "log2", "log10", "reciprocal", "pow", "__pow__")
    if hasattr(place, name)
}
_GREATER = {torch.gt, torch.ge, Tensor.gt, Tensor.ge, Tensor.__gt__, Tensor.__ge__}
_LESS = {torch.lt, torch.le, Tensor.lt, Tensor.le, Tensor.__lt__, Tensor.__le__}
_TO_NUMBERS = {Tensor.float, Tensor.double, Tensor.half, Tensor.bfloat16, Tensor.to, Tensor.type, Tensor.type_as}
_SOFTMAX = {torch.softmax, Tensor.softmax, _F.softmax}
_SQUASHING = {getattr(place, name) for place in (torch, Tensor, _F) for name in ("tanh", "sigmoid")}
_DETACHED = {Tensor.detach, torch.detach}


class StraightThrough(TorchFunctionMode):
    """While it is on, steps (round, floor, sign, comparisons) and saturating functions pass gradients on.

    The values computed are unchanged. Tanh and sigmoid get the slope of a wider one, which still tells apart what is
    near 0 and what is far from it. A comparison turned into numbers has the slope of a soft step as wide as a tenth of
    the largest difference compared; softmax that of its argument, a detached tensor that of what it was taken from;
    roots and logarithms have finite slopes at 0.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func in _GREATER or func in _LESS:
            return _compared(func, args, kwargs)
        source = args[0] if args else None
        if func in _DETACHED and isinstance(source, Tensor) and source.requires_grad:
            return source
        output = func(*args, **kwargs)
        if not isinstance(source, Tensor) or not isinstance(output, Tensor):
            return output
        if func in _STEEP and source.requires_grad:
            return _replaced(output, func(_away_from_zero(source), *args[1:], **kwargs))
        if func is torch.where and len(args) == 3 and hasattr(source, "soft"):
            return _replaced(output, source.soft * _apart(args[1], args[2]), keep=True)
        if func in _TO_NUMBERS and hasattr(source, "soft") and output.is_floating_point():
            return _replaced(output, source.soft.to(output.dtype))
        if func is Tensor.mul and hasattr(args[1], "soft"):
            return _replaced(output, source * args[1].soft, keep=True)
        if not source.requires_grad or output.shape != source.shape:
            return output
        if func in _AS_IDENTITY:
            return _replaced(output, source)
        if func in _SQUASHING:
            return _replaced(output, _gentler(source))
        return _replaced(output, source - source.mean(dim=-1, keepdim=True)) if func in _SOFTMAX else output


def straight_through(model: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The model with `StraightThrough` on while it runs."""

    def run(inputs: Any) -> Any:
        with StraightThrough():
            return model(inputs)

    return run


def _replaced(values: Tensor, slope_of: Tensor, *, keep: bool = False) -> Tensor:
    """The values, with the derivative of another tensor (besides their own with `keep`)."""
    with torch._C.DisableTorchFunction():
        base = values if keep else values.detach()
        return base + (slope_of - slope_of.detach()).to(values.dtype)


def _gentler(values: Tensor) -> Tensor:
    """As steep at 0 as the values, and flatter away from it, as far as most of them are from it."""
    with torch._C.DisableTorchFunction():
        width = values.detach().abs().mean().clamp_min(1.0)
        return values / (1 + values.abs() / width)


def _away_from_zero(values: Tensor) -> Tensor:
    """The values moved off 0, with the derivative of the values."""
    with torch._C.DisableTorchFunction():
        fixed = values.detach()
        near = fixed.abs() < NEAR_ZERO
        return values + torch.where(near, torch.where(fixed < 0, -NEAR_ZERO, NEAR_ZERO) - fixed, 0.0)


def _compared(func: Callable, args: tuple, kwargs: dict) -> Tensor:
    """The comparison, which remembers a soft version of itself where a gradient could flow through it."""
    output = func(*args, **kwargs)
    left, right = args[0], args[1] if len(args) > 1 else kwargs.get("other")
    sources = [side for side in (left, right) if isinstance(side, Tensor) and side.requires_grad]
    if not sources:
        return output
    with torch._C.DisableTorchFunction():
        apart = left - right if func in _GREATER else right - left
        width = 0.1 * apart.detach().abs().amax().clamp_min(1e-12)
        output.soft = torch.atan(apart / width) / torch.pi + 0.5
    return output


def _apart(first: Any, second: Any) -> Any:
    """What a step from one to the other is worth; nothing where it is not a number."""
    return torch.as_tensor(_detached(first) - _detached(second)).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
