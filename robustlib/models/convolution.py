"""The first convolution of an image network, whose gradient by the image costs most of an attack on a small one."""

from typing import Any

import torch
from torch import Tensor, nn


class FirstConv2d(nn.Conv2d):
    """`nn.Conv2d` that computes the gradient with respect to its input faster where that has few channels.

    oneDNN does so channel by channel of the input: for one channel it takes four times as long as the matrix product
    behind it, which is a third of a PGD step on the small CNN. Same values up to rounding, same weights. Whatever is
    not a plain convolution of a batch in float32 on a CPU goes the usual way.
    """

    def forward(self, input: Tensor) -> Tensor:
        on_cpu = input.device.type == "cpu" and input.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        plain = self.groups == 1 and self.dilation == (1, 1) and self.padding_mode == "zeros"
        batch = input.dim() == 4 and len(input) > 0 and not isinstance(self.padding, str)
        if on_cpu and plain and batch and input.requires_grad and torch.is_grad_enabled():
            return _Convolution.apply(input, self.weight, self.bias, self.stride, self.padding)
        return super().forward(input)


class _Convolution(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any) -> Tensor:
        return nn.functional.conv2d(input, weight, bias, stride, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        input, weight, bias, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(input, weight)
        ctx.bias_shape = None if bias is None else list(bias.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        of_input = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            # One product an image: a row of a product of all of them would depend on how many there are.
            with torch.autocast("cpu", enabled=False):
                columns = torch.bmm(
                    weight.reshape(len(weight), -1).T.expand(len(gradient), -1, -1),
                    gradient.reshape(*gradient.shape[:2], -1),
                )
            sizes = input.shape[2:], weight.shape[2:]
            of_input = nn.functional.fold(columns, *sizes, padding=ctx.padding, stride=ctx.stride)
        if any(ctx.needs_input_grad[1:3]):
            _, of_weight, of_bias = torch.ops.aten.convolution_backward(
                gradient,
                input,
                weight,
                ctx.bias_shape,
                ctx.stride,
                ctx.padding,
                (1, 1),
                False,
                (0, 0),
                1,
                [False, *ctx.needs_input_grad[1:3]],
            )
        return of_input, of_weight, of_bias, None, None
