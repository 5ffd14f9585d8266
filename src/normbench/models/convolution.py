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
    """One matrix product per lane, of its weights with the windows of all images (im2col). The windows take
    k² times the memory of the images.

    PERF: one copy makes the windows of all images and lanes. F.unfold starts a kernel per image, and a
    product per image and lane copies the weights N times.
    """
    images, kernel = x.shape[0], weight.shape[-1]
    padded = F.pad(x, (padding,) * 4) if padding else x
    windows = padded.unfold(2, kernel, stride).unfold(3, kernel, stride)  # (N, K·Cin, H', W', k, k): a view
    height, width = windows.shape[2:4]
    by_lane = windows.unflatten(1, (lanes, -1)).permute(1, 2, 5, 6, 0, 3, 4)  # (K, Cin, k, k, N, H', W')
    columns = by_lane.reshape(lanes, weight[0].numel(), images * height * width)
    product = torch.bmm(weight.reshape(lanes, -1, weight[0].numel()), columns)  # (K, Cout, N·H'·W')
    y: Tensor = product.unflatten(2, (images, height, width)).permute(2, 0, 1, 3, 4).flatten(1, 2)
    if bias is not None:
        y = y + bias.to(y.dtype).view(-1, 1, 1)  # cast, or under autocast an fp32 bias would make y fp32
    innermost = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return y.contiguous(memory_format=torch.channels_last if innermost else torch.contiguous_format)


ALGORITHMS: dict[str, Algorithm] = {"grouped": grouped, "matmul": matmul, "lone": lone}
