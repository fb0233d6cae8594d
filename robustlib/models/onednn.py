"""Float32 matrix products through oneDNN on a CPU."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Below, oneDNN's copy of the weights costs more than it saves; from here on, and with one thread, each row of a product
# is the same to the last bit whatever the other rows are.
LEAST_TOKENS = 128


def onednn_products(device: torch.device) -> AbstractContextManager:
    """Context in which large float32 linear layers on a CPU are computed by oneDNN instead of MKL.

    MKL gives AMD processors half of what oneDNN reaches (MiniLM's layers on two Zen 5 cores: 210 against 460
    GFLOP/s). The sums are the same up to their order, and modules keep their classes.
    """
    return _Products() if device.type == "cpu" and torch.backends.mkldnn.is_available() else nullcontext()


class _Products(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        function = linear_by_convolution if func is nn.functional.linear else func
        return function(*args, **(kwargs or {}))


def linear_by_convolution(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`nn.functional.linear` as a 1x1 convolution over the tokens, where oneDNN computes that in float32."""
    n_tokens = input.numel() // weight.shape[1]
    on_cpu = input.device.type == "cpu" and input.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if n_tokens < LEAST_TOKENS or not on_cpu:
        return nn.functional.linear(input, weight, bias)
    pixels = input.reshape(1, n_tokens, 1, weight.shape[1]).permute(0, 3, 1, 2)  # channels last: a view
    # A 1x1 kernel has nothing to dilate, but in a process with one thread torch asks oneDNN for dilated ones only.
    output = nn.functional.conv2d(pixels, weight[:, :, None, None], bias, dilation=2)
    return output.permute(0, 2, 3, 1).reshape(*input.shape[:-1], weight.shape[0])
