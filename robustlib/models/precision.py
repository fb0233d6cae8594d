"""Victims at other precision: low precision rounds an attacker's signal away, and no temperature brings it back."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.models.forward import float32_mode
from robustlib.models.texts import TextClassifier, Texts

PRECISIONS = ("float32", "tf32", "bfloat16", "float16", "int8")


def usable(precision: str, device: torch.device | str) -> bool:
    """Whether a model on this device can compute in a precision; all but "tf32" work everywhere."""
    on_gpu = torch.device(device).type == "cuda"
    return precision != "tf32" or (on_gpu and torch.cuda.get_device_capability(device) >= (8, 0))


def at_precision(model: TextClassifier, precision: str) -> TextClassifier:
    """A copy of a classifier that computes in another precision, in evaluation mode, on its device, without gradients.

    - "tf32": weights and activations in float32, the factors of matrix products rounded to 10 bits of mantissa.
    - "bfloat16", "float16": weights, activations and logits in that type. On a CPU, float16's matrix products are
      summed in float32 and then rounded, as GPUs do: torch's own kernels do the same seven times slower.
    - "int8": dynamic quantisation of every linear layer, symmetric, weights by output channel, activations by token,
      with exact integer sums. Not `torch.ao.quantization.quantize_dynamic`, whose activation scale is one for the whole
      batch, so that a text's logits depend on its neighbours (by 0.07 in a trial).

    Its rounded logits come as float32, and can move by a rounding step with the batch. Taught in: notebooks/06.

    Raises:
        ValueError: unknown precision, a model that is not float32, or "tf32" without an Ampere GPU or a later one.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    dtypes = {parameter.dtype for parameter in model.parameters()}
    if dtypes != {torch.float32} or model.precision != "float32":
        raise ValueError(
            f"the model must be float32, its weights are {sorted(map(str, dtypes))} and it computes in "
            f"{model.precision}: start from the original"
        )
    if not usable(precision, model.device):
        raise ValueError(f"tf32 needs a CUDA GPU of compute capability 8.0 or above, the model is on {model.device}")
    victim = copy.deepcopy(model).eval().requires_grad_(False)
    victim.precision = precision
    if precision == "int8":
        _replace_linear(victim, Int8Linear)
    elif precision == "tf32":
        victim.body = Tf32Body(victim.body)
    elif precision != "float32":
        victim.to(getattr(torch, precision))
        if precision == "float16" and victim.device.type == "cpu":
            _replace_linear(victim, Float16Linear)
    return victim


def rounded_probabilities(model: Callable[[Texts], Tensor], decimals: int) -> Callable[[Texts], Tensor]:
    """The victim behind a service that answers with probabilities rounded to `decimals` places, at least 1.

    Its logits (n, n_classes) are the float32 logarithms of the answers. A probability rounded to 0 is taken for half a
    unit of the last place, the largest value it can stand for.
    """
    if decimals < 1:
        raise ValueError(f"decimals must be at least 1, got {decimals}: rounded to whole numbers nothing is left")
    unit = 10.0**-decimals

    def victim(texts: Texts) -> Tensor:
        probabilities = torch.softmax(model(texts).double(), dim=1)
        return probabilities.round(decimals=decimals).clamp_min(unit / 2).log().float()

    return victim


class Tf32Body(nn.Module):
    """A classifier's body whose float32 products run in TF32 on a GPU, whatever is set around it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.config = body, body.config

    def get_input_embeddings(self) -> nn.Module:
        return self.body.get_input_embeddings()

    def forward(self, **inputs: Tensor) -> Any:
        with float32_mode("tf32"):
            return self.body(**inputs)


class Float16Linear(nn.Module):
    """A linear layer on float16 numbers with float32 sums, rounded to float16 at the end."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.wide = _widened(layer, layer.weight)

    def forward(self, input: Tensor) -> Tensor:
        return self.wide(input.float()).to(input.dtype)  # a product of two float16 numbers is exact in float32


class Int8Linear(nn.Module):
    """A linear layer on 8-bit integers: weights scaled by output channel, activations by token.

    The integers are kept as float32, in which their sums are exact below 2**24.
    """

    def __init__(self, layer: nn.Linear):
        super().__init__()
        scale = _scale(layer.weight)
        self.integers = _widened(layer, (layer.weight / scale).round())
        self.integers.bias = None
        self.register_buffer("weight_scale", scale[:, 0])
        self.bias = layer.bias

    def forward(self, input: Tensor) -> Tensor:
        scale = _scale(input)
        output = self.integers((input / scale).round()) * (scale * self.weight_scale)
        return output if self.bias is None else output + self.bias


def _scale(values: Tensor) -> Tensor:
    """Step that puts the largest value of each row at 127; (..., 1)."""
    return (values.abs().amax(dim=-1, keepdim=True) / 127).clamp_min(torch.finfo(values.dtype).tiny)


def _widened(layer: nn.Linear, weight: Tensor) -> nn.Linear:
    wide = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    wide.weight = nn.Parameter(weight.detach().float(), requires_grad=False)
    if layer.bias is not None:
        wide.bias = nn.Parameter(layer.bias.detach().float(), requires_grad=False)
    return wide


def _replace_linear(module: nn.Module, replacement: Callable[[nn.Linear], nn.Module]) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            setattr(module, name, replacement(child))
        else:
            _replace_linear(child, replacement)
