"""Layers of K stacked runs: activations are (N, K·C, H, W) or (N, K·C), parameters are lane-major.

The first axis of every parameter and buffer of a stacked network is K times something, so lane k of any of
them is `tensor.unflatten(0, (K, -1))[k]`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench import ranks, rng
from normbench.models.convolution import ALGORITHMS
from normbench.weight_norms import WeightNorm


class Conv2d(nn.Module):
    """K convolutions side by side.

    Shape:
        x: (N, K·Cin, H, W) → y: (N, K·Cout, H', W');  weight: (K·Cout, Cin, k, k);  bias: (K·Cout,)

    Attributes:
        algorithm: a key of `convolution.ALGORITHMS`; a single lane always uses `grouped`.
        is_head:   the layer is the classifier of its net.
    """

    algorithm = "grouped"
    is_head = False
    roles: ClassVar[dict[str, str]] = {"weight": "weight", "bias": "bias"}

    def __init__(
        self,
        weight: Tensor,
        bias: bool,
        weight_norm: WeightNorm,
        lanes: int,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(weight.new_zeros(weight.shape[0])) if bias else None
        self.weight_norm = weight_norm
        self.lanes, self.stride, self.padding = lanes, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        compute = ALGORITHMS[self.algorithm if self.lanes > 1 else "grouped"]
        weight = self.weight_norm.forward(self.weight)
        return compute(x, weight, self.bias, self.lanes, self.stride, self.padding)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, lanes={self.lanes}, stride={self.stride}, padding={self.padding}"


class Linear(nn.Module):
    """K linear layers side by side: one batched matrix product.

    Shape:
        x: (N, K·Cin) → y: (N, K·Cout);  weight: (K, Cout, Cin), Cout fastest in memory;  bias: (K, Cout)

    Attributes:
        is_head: the layer is the classifier of its net.
    """

    is_head = False
    roles: ClassVar[dict[str, str]] = {"weight": "weight", "bias": "bias"}

    def __init__(self, weight: Tensor, bias: bool, weight_norm: WeightNorm) -> None:
        super().__init__()
        # PERF: the product gives the gradient in this memory order, and the optimiser needs both in one order
        self.weight = nn.Parameter(weight.transpose(1, 2).contiguous().transpose(1, 2))
        self.bias = nn.Parameter(weight.new_zeros(weight.shape[:2])) if bias else None
        self.weight_norm = weight_norm

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight_norm.forward(self.weight)
        images, (lanes, outputs, inputs) = x.shape[0], weight.shape
        # PERF: a step of a small net is as long as its number of calls; one lane needs fewer views
        lanes_first = x.unsqueeze(0) if lanes == 1 else x.view(images, lanes, inputs).transpose(0, 1)
        if self.bias is None:
            y = torch.bmm(lanes_first, weight.mT)
        else:
            y = torch.baddbmm(self.bias.unsqueeze(1), lanes_first, weight.mT)
        return y.squeeze(0) if lanes == 1 else y.transpose(0, 1).reshape(images, lanes * outputs)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}"


class Dropout(nn.Module):
    """Dropout: y = x / (1 − rate) with probability 1 − rate, else 0. In evaluation y = x.

    The mask of a lane depends on its seed, the layer's name, the step and the position in the step only.

    Shape:
        x: (N, K·C, *spatial) → y: same shape
    """

    def __init__(self, rate: float, seeds: tuple[int, ...], name: str) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("keys", rng.lane_keys(seeds, f"dropout/{name}"), persistent=False)
        self.register_buffer("step", torch.zeros((), dtype=torch.long), persistent=False)

    keys: Tensor
    step: Tensor

    def begin_step(self, step: int, steps: int) -> None:
        """Set the optimiser step, which is one of the counters of the random numbers."""
        self.step.fill_(step)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        lanes = self.keys.shape[0]
        count = x.numel() // lanes
        first = ranks.part_number() * count
        draws = rng.uniform(self.keys, self.step, count=count, first=first)  # (K, N·C·…)
        keep = (draws >= self.rate).unflatten(1, (x.shape[0], -1)).transpose(0, 1).reshape(x.shape)
        dropped: Tensor = x * keep / (1 - self.rate)
        return dropped


class Subsample(nn.Module):
    """Parameter-free shortcut (option A of He et al. 2016): every stride-th position; new channels are 0.

    Shape:
        x: (N, K·Cin, H, W) → y: (N, K·Cout, ⌈H/stride⌉, ⌈W/stride⌉)
    """

    def __init__(self, lanes: int, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.lanes, self.extra_channels, self.stride = lanes, extra_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride].unflatten(1, (self.lanes, -1))  # (N, K, C, H, W)
        return F.pad(x, (0, 0, 0, 0, 0, self.extra_channels)).flatten(1, 2)


class GlobalAveragePool(nn.Module):
    """(N, K·C, H, W) → (N, K·C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))
