"""Three algorithms for the convolutions of K lanes. Results differ by rounding only; speed and memory differ.

Which one is fastest depends on device, shape and lanes; `autotune.measurement` measures it.

Shape:
    x: (N, K·Cin, H, W), weight: (K·Cout, Cin, k, k), bias: (K·Cout,) or None → (N, K·Cout, H', W')
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

#: x, weight, bias, lanes, stride, padding → y
Algorithm = Callable[[Tensor, Tensor, Tensor | None, int, int, int], Tensor]


def grouped(x: Tensor, weight: Tensor, bias: Tensor | None, lanes: int, stride: int, padding: int) -> Tensor:
    """One convolution with K groups."""
    return F.conv2d(x, weight, bias, stride, padding, groups=lanes)


def lone(x: Tensor, weight: Tensor, bias: Tensor | None, lanes: int, stride: int, padding: int) -> Tensor:
    """K convolutions, one after another."""
    biases = [None] * lanes if bias is None else bias.chunk(lanes)
    each = zip(x.chunk(lanes, 1), weight.chunk(lanes), biases, strict=True)
    return torch.cat([F.conv2d(images, own, shift, stride, padding) for images, own, shift in each], 1)


def matmul(x: Tensor, weight: Tensor, bias: Tensor | None, lanes: int, stride: int, padding: int) -> Tensor:
    """A batched matrix product of the weights with the windows of the images (im2col). The windows take k²
    times the memory of the images.
    """
    kernel = weight.shape[-1]
    height, width = ((side + 2 * padding - kernel) // stride + 1 for side in x.shape[2:])
    if kernel == 1 and padding == 0:
        columns = x[:, :, ::stride, ::stride].flatten(2)
    else:
        columns = F.unfold(x, kernel, padding=padding, stride=stride)  # (N, K·Cin·k², H'·W')
    product = weight.reshape(lanes, -1, weight[0].numel()) @ columns.unflatten(1, (lanes, -1))
    y: Tensor = product.reshape(x.shape[0], -1, height, width)
    if bias is not None:
        y = y + bias.to(y.dtype).view(-1, 1, 1)  # cast, or under autocast an fp32 bias would make y fp32
    innermost = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return y.contiguous(memory_format=torch.channels_last) if innermost else y


ALGORITHMS: dict[str, Algorithm] = {"grouped": grouped, "matmul": matmul, "lone": lone}
