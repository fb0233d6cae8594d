"""Dividing logits by a temperature, the paper's one lever, without ever changing a prediction.

Paper: equation 7 (softmax with temperature). A defender serves logits / T_d, an adversary attacks
logits / T_a. Taught in: notebooks/01.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustlib.calibration.checks import check_temperature

_INTEGER_OF_WIDTH = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def scale_logits(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Divide logits by a temperature; the argmax of every row stays what it was.

    A plain division loses the argmax in two ways, both repaired here. By overflow: in float32, logits
    (5, 3) at T = 1e-39 would be (inf, inf) and their softmax NaN. By ties: rounding and underflow can map
    two neighbours onto one number. So:

    - T = 1e-30: results beyond the dtype's range become its largest finite value. Float32 logits up to
      about 3e8 still fit; float16 (largest value 65504) is clamped from about T = 1e-4 down.
    - T = 1e30: float32 and bfloat16 results stay exact to rounding; float16 underflows to 0.
    - Wherever the top logit would no longer lie strictly above the rest, it is put one representable
      number (one ulp) above them. Logits that were tied for the top before stay tied.

    The prediction is safe, the probabilities need not be: softmax over logits one ulp apart can tie.
    T = 1 returns the same bits. The quotient is taken in float64, so that a T outside the range of the
    logits' dtype is no special case. Rows with NaN keep it, and infinite logits stay infinite.

    The gradient is that of the plain division, grad / T, also where the result was clamped or lifted (there
    limited to the dtype's range); none flows into the temperature.

    Paper: equation 7. Taught in: notebooks/01.

    Args:
        logits: (n, n_classes), or any (..., n_classes), of a floating dtype.
        temperature: one T for all, or an (n,) tensor with one T for each row, so that one batch can be
            attacked at many temperatures at once. Not checked on an accelerator, where looking would make
            the host wait: there a T that is not finite and above 0 turns its row into NaN.

    Returns:
        Tensor of the shape, dtype and device of `logits`. On the host no value is read back.

    Raises:
        TypeError: the logits are not floating point.
        ValueError: a temperature is not finite and above 0, or their number does not fit the logits.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        found = getattr(logits, "dtype", type(logits).__name__)
        raise TypeError(f"logits must be a floating-point tensor, got {found}: does the model return a tensor?")
    if isinstance(temperature, Tensor) and temperature.ndim > 0:
        if temperature.shape != logits.shape[:-1]:
            raise ValueError(
                f"temperature must be one number or one for each row, shape {tuple(logits.shape[:-1])}, "
                f"got {tuple(temperature.shape)}"
            )
        if temperature.device.type == "cpu":
            check_temperature(temperature)
        divisor = temperature.detach().to(logits.device, torch.float64).unsqueeze(-1)
        divisor = torch.where((divisor > 0) & torch.isfinite(divisor), divisor, torch.nan)
    else:
        check_temperature(temperature)
        # A tensor, not a Python number: CUDA multiplies by the reciprocal of a number, and 1 / T can overflow.
        divisor = torch.full((), float(temperature), dtype=torch.float64, device=logits.device)
    return _DivideKeepingArgmax.apply(logits, divisor)


class TemperatureScaled(nn.Module):
    """A model whose logits are divided by one temperature; its predictions are those of the model inside.

    Below 1 it is more confident than the model inside (at T = 1e-30: certain), above 1 less (at T = 1e30:
    uniform); see `scale_logits` for what float arithmetic does there. Differentiable in inputs and
    parameters. All positional and keyword arguments reach the wrapped model.

    The three roles of T: `design_temperature` (defender), `adversary_temperature` and
    `training_temperature`, all the same operation. Paper: section 3.1 and appendix G.2. Taught in: notebooks/01.

    Args:
        model: maps its input to a floating (n, n_classes) tensor of logits.
        temperature: finite, above 0.
    """

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        check_temperature(temperature)
        self.model = model
        self.temperature = float(temperature)

    def forward(self, *args, **kwargs) -> Tensor:
        """Logits of the wrapped model, (n, n_classes), with `temperature` applied."""
        return scale_logits(self.model(*args, **kwargs), self.temperature)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}"


class _DivideKeepingArgmax(torch.autograd.Function):
    """`scale_logits` without the checks: `divisor` is float64 and broadcasts against the logits."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, divisor: Tensor) -> Tensor:
        limits = torch.finfo(logits.dtype)
        # Largest number below the largest: the room that the top entry needs. limits.max is (2 - eps) * 2**k.
        below_largest = limits.max / (2 - limits.eps) * (2 - 2 * limits.eps)
        is_top = logits == logits.amax(dim=-1, keepdim=True)
        scaled = (logits.double() / divisor).clamp(-limits.max, limits.max).to(logits.dtype)
        scaled = torch.where(is_top, scaled, scaled.clamp(max=below_largest))
        runner_up = scaled.masked_fill(is_top, -torch.inf).amax(dim=-1, keepdim=True)
        scaled = torch.where(is_top, torch.maximum(scaled, _next_above(runner_up)), scaled)
        return torch.where(torch.isfinite(logits), scaled, logits)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (divisor,) = ctx.saved_tensors
        largest = torch.finfo(gradient.dtype).max
        return (gradient.double() / divisor).clamp(-largest, largest).to(gradient.dtype), None


def _next_above(values: Tensor) -> Tensor:
    """The next larger representable number; torch.nextafter lacks float16 on some devices and versions."""
    # Read as integers, IEEE numbers of one sign are ordered: one more above zero, one less below it.
    bits = values.view(_INTEGER_OF_WIDTH[values.element_size()])
    stepped = torch.where(values > 0, bits + 1, torch.where(values < 0, bits - 1, torch.ones_like(bits)))
    return stepped.view(values.dtype)
