"""Dividing logits by a temperature, the paper's one lever (equation 7), without changing a prediction: notebooks/01."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from robustlib.calibration.checks import check_temperature

_INTEGER_OF_WIDTH = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def scale_logits(logits: Tensor, temperature: float) -> Tensor:
    """Divide logits (..., n_classes) by a temperature (equation 7); the argmax of every row stays what it was.

    A plain division loses the argmax by overflow (float32 (5, 3) at T = 1e-39 is (inf, inf)) and by ties. So results
    beyond the dtype's range become its largest finite value, and a top logit that would no longer lie strictly above
    the rest is put one representable number above them; tied top logits stay tied. The prediction is safe, the
    probabilities need not be: softmax over logits one ulp apart can tie.

    The quotient is taken in float64; T = 1 returns the same bits; NaN and infinite logits stay what they are. The
    gradient is that of the plain division, limited to the dtype's range. On the host no value is read back.

    Raises:
        TypeError, ValueError: the logits are not floating point; the temperature is not finite and above 0.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        kind = getattr(logits, "dtype", type(logits).__name__)
        raise TypeError(f"logits must be a floating-point tensor, got {kind}: does the model return a tensor?")
    check_temperature(temperature)
    # A tensor, not a Python number: CUDA multiplies by the reciprocal of a number, and 1 / T can overflow.
    divisor = torch.full((), float(temperature), dtype=torch.float64, device=logits.device)
    return _DivideKeepingArgmax.apply(logits, divisor)


def logits_in(output: Tensor | Mapping[str, Tensor]) -> Tensor:
    """The tensor itself, or the "logits" of a mapping (ModelOutput)."""
    return output["logits"] if isinstance(output, Mapping) and "logits" in output else output


class TemperatureScaled(nn.Module):
    """A model, of images or of texts, whose logits are divided by one temperature (section 3.1, appendix G.2).

    `design_temperature` (defender), `adversary_temperature` and `training_temperature` are all this operation.

    Args:
        model: callable that returns logits (n, n_classes), as a tensor or as "logits" of a mapping (ModelOutput).
    """

    def __init__(self, model: Callable, temperature: float) -> None:
        super().__init__()
        check_temperature(temperature)
        self.model = model
        self.temperature = float(temperature)

    def forward(self, *args, **kwargs) -> Tensor:
        return scale_logits(logits_in(self.model(*args, **kwargs)), self.temperature)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature:g}"


class _DivideKeepingArgmax(torch.autograd.Function):
    """`scale_logits` without the checks: `divisor` is a float64 tensor."""

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
