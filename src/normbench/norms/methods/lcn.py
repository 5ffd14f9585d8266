"""Local contrast normalization (key: lcn)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from normbench.errors import NormError
from normbench.norms.core import Norm
from normbench.norms.lanes import PerLane, along_first
from normbench.norms.registry import register

MODES = ("contrastive", "subtractive", "divisive")
FLOORS = ("mean", "eps")


@register("lcn", family="sample", reduces="C, k, k", reference="jarrett2009")
class LocalContrastNorm(Norm):
    """Local contrast normalization: every value is normalized by the mean and deviation around it.

        v = x − Σ w x / Σ w                                            §2
        y = v / max(c, σ, ε),  σ = √(Σ w v² / Σ w),  c = mean σ
        Σ over 𝒮 = {same image} × C × k × k positions around, cut at the border; mean over H × W

    Symbols:      w window · σ deviation around a position · k size
    Reduces:      (C, k, k) around each position, for each image: one mean and one deviation for all channels.
                  With per_channel (k, k) for each channel.
    Train / eval: identical; no running state. Batch-independent: yes.
    Numerics:     fp32 (fp64 for fp64 input), in two passes. One value of the image is subtracted first, so
                  that a constant image gives exactly 0. Gradients pass through c. A window takes k additions
                  per axis, for mean and deviation, forward and backward: 12 times bn's time on small maps,
                  and on all maps with per_channel.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype. The window spans all spatial axes; if there are none,
           it is the position itself
        no parameters

    Args:
        channels:    C, channels of one run.
        lanes:       K, stacked runs; 1 for a lone run.
        mode:        "contrastive" as above; "subtractive": y = v; "divisive": v = x.
        size:        k, odd. The paper: 9. Windows are cut at the border. If every axis has at most (k + 1) /
                     2 positions, each window is the whole map.
        sigma:       deviation of a Gaussian window, in positions. The paper has such a window but gives no
                     number; torch7's image.gaussian(9) has 2.25. None: all positions weigh the same.
        floor:       "mean": σ counts as at least c, as in the paper; "eps": as at least ε, as in torch7.
        per_channel: whether a window spans one channel instead of all.
        eps:         ε > 0, in units of x; one value or one per lane. torch7: 1e-4.

    Raises:
        NormError: an argument out of range, or windows of a single value.

    Reference:  jarrett2009 — What is the Best Multi-Stage Architecture for Object Recognition?, ICCV
                2009, §2.
    Deviations: the default window is flat, as in torch7. At the border, sums are divided by the weight inside
                the map. torch7 does so for means, but divides the root of Σ w v² by that weight instead of
                its root, so its σ is too large there. The paper has no ε.
    """

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        mode: str = "contrastive",
        size: int = 9,
        sigma: float | None = None,
        floor: str = "mean",
        per_channel: bool = False,
        eps: PerLane = 1e-4,
    ) -> None:
        super().__init__(channels, lanes, eps=eps)
        self.choice("mode", mode, MODES)
        self.choice("floor", floor, FLOORS)
        if self.whole("size", size, most=10_000) % 2 == 0:
            raise NormError(f"lcn: size must be odd, to have a centre; got {size}")
        self.mode, self.size, self.sigma, self.floor = mode, size, sigma, floor
        if sigma is not None:
            self.number("sigma", sigma, above=0)
        self.per_channel = self.flag("per_channel", per_channel)
        offsets = range(-(size // 2), size // 2 + 1)
        self.window = [1.0 if sigma is None else math.exp(-0.5 * (d / sigma) ** 2) for d in offsets]

    def normalize(self, x: Tensor) -> Tensor:
        maps = (self.lanes * self.channels, 1) if self.per_channel else (self.lanes, self.channels)
        v = torch.unflatten(x, 1, maps)  # (N, M, channels of a map, *spatial)
        weight = weighted_sums(x.new_ones(1, 1, *x.shape[2:]), self.window)
        if self.mode != "divisive":
            v = v - first(v.detach())
            v = v - self._average(v, weight)
        if self.mode != "subtractive":
            eps = self.eps_along(x)
            floor = eps.unflatten(1, maps)[:, :, :1] if isinstance(eps, Tensor) else eps
            v = v / self._deviation(v, weight).clamp_min(floor)
        return v.flatten(1, 2)

    def _deviation(self, v: Tensor, weight: Tensor) -> Tensor:
        """max(c, σ): (N, M, 1, *spatial)."""
        variance = self._average(v.square(), weight)
        sigma = variance.clamp_min(torch.finfo(v.dtype).tiny).sqrt()  # √0 has no gradient
        if self.floor == "eps":
            return sigma
        c = sigma.flatten(2).mean(2)
        return torch.maximum(sigma, along_first(c, v))

    def _average(self, v: Tensor, weight: Tensor) -> Tensor:
        """Σ w v / Σ w over channels and windows: (N, M, channels, *spatial) → (N, M, 1, *spatial)."""
        average: Tensor = _Average.apply(v.mean(2), weight, self.window)
        return average.unsqueeze(2)

    def check(self, shape: Sequence[int]) -> None:
        channels = 1 if self.per_channel else self.channels
        self.need_several(
            channels * math.prod(min(length, self.size) for length in shape[2:]),
            f"a window of {self.size} over {channels} channel on a map of "
            f"{'×'.join(map(str, shape[2:])) or '1 position'}",
            "use size ≥ 3, per_channel=false, or leave this layer out",
        )

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, mode={self.mode}, size={self.size}, sigma={self.sigma}, "
            f"floor={self.floor}, per_channel={self.per_channel}"
        )


def first(v: Tensor) -> Tensor:
    """The first value of every map: (N, M, …) → (N, M, 1, …)."""
    for axis in range(2, v.dim()):
        v = v.narrow(axis, 0, 1)
    return v


def weighted_sums(x: Tensor, window: Sequence[float]) -> Tensor:
    """Σ_d w_d x_{p+d} over the window around every position, 0 beyond the border: (N, M, *spatial) → same."""
    reach = len(window) // 2
    for axis in range(2, x.dim()):
        padded = F.pad(x, (*(0, 0) * (x.dim() - 1 - axis), reach, reach))
        shifted = padded.unfold(axis, x.shape[axis], 1).movedim((axis, -1), (0, axis + 1)).unbind()
        x = shifted[0] * window[0]
        for part, w in zip(shifted[1:], window[1:], strict=True):
            x.add_(part, alpha=w)
    return x


class _Average(torch.autograd.Function):
    """Σ w v / Σ w over windows: v (N, M, *spatial), Σ w (1, 1, *spatial) → (N, M, *spatial).

    PERF: the backward pass needs no stored sums: it takes the same sums, since windows are symmetric.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, weight: Tensor, window: Sequence[float]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.window = window
        return weighted_sums(v, window) / weight

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return weighted_sums(g / weight, ctx.window), None, None
