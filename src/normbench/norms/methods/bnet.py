"""Batch normalization with an enhanced linear transformation (key: bnet)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench.errors import NormError
from normbench.norms.channel_matrices import without_autocast
from normbench.norms.core import Affine, Norm
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, positions
from normbench.norms.methods.bn import BatchNorm
from normbench.norms.registry import register

#: Convolution by number of spatial axes.
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@register(
    "bnet",
    family="batch",
    reduces="N, H, W",
    reference="xu2020",
    batch_statistics=True,
    absorbs_bias=True,
    eval_differs=True,
)
class BatchNormEnhanced(BatchNorm):
    """BNET: batch norm whose scale and shift become a convolution of every channel with a kernel of its own.

        y_p = Σ_d w_d x̂_{p+d} + β,  x̂ = (x − μ) / √(σ² + ε)            §3
        d over the k × k offsets around 0; x̂ = 0 beyond the border
        μ, σ² over 𝒮 = {same channel} × batch × H × W                   training
        μ, σ² ← running statistics                                      evaluation

    Symbols:      μ mean · σ² var (biased) · w_0 weight · w_d around, d ≠ 0 · β bias · k kernel
    Reduces:      (N, H, W) for each channel; N in chunks of `batch` images if that is set (one chunk per
                  worker).
    Train / eval: differ. Batch-independent: no.
    Running statistics: as bn.
    Numerics:     fp32 (fp64 for fp64 input), the convolution too, autocast or not; ε inside the root. The
                  k² products per value take time: on a CPU 3 to 9 times bn's for k = 3, 20 times for k = 7.

    Shape:
        x: (N, K·C, *spatial), at most 3 spatial axes → y: same shape and dtype. The kernel spans the last
           `axes` of them; an axis that x lacks counts as one of length 1
        weight, bias, running_mean, running_var: (K·C,);  num_batches_tracked: (K,), a scalar for K = 1
        around: (K·C, k^axes − 1), offsets in row-major order without the centre

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        kernel:   k, odd. The paper: 3, also 5 and 7; 1 is bn.
        axes:     spatial axes of the kernel: 1, 2 or 3. The paper: 2.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
        eps:      ε > 0; one value or one per lane. torch: 1e-5.
        affine:   True, False, "weight" or "bias"; "weight" includes the whole kernel.
        track:    whether to keep running statistics. Without them evaluation uses the batch.
        variance: "unbiased": the running variance is Bessel-corrected, as in torch; "biased": it is not, as
                  in Keras and flax.
        batch:    images per statistic; must divide N. None: all of x.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, one value per statistic, or a kernel
            on a map of one position.

    Same as:    bn for kernel=1.
    Reference:  xu2020 — Batch Normalization with Enhanced Linear Transformation, arXiv:2011.14150, §3.
    Deviations: the kernel starts as 1 at its centre and 0 around it, so that the layer starts as bn. The
                start in the authors' code is unclear: it sets the whole kernel to 0, after an assertion that
                fails for a batch norm without γ. They replace only the last norm of each bottleneck; here
                placement.sites does that.
    """

    roles: ClassVar[dict[str, str]] = {**Norm.roles, "around": "scale"}

    around: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        kernel: int = 3,
        axes: int = 2,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        track: bool = True,
        variance: str = "unbiased",
        batch: int | None = None,
    ) -> None:
        super().__init__(
            channels,
            lanes,
            momentum=momentum,
            eps=eps,
            affine=affine,
            track=track,
            batch=batch,
            variance=variance,
        )
        self.kernel = self.whole("kernel", kernel, most=1000)
        if kernel % 2 == 0:
            raise NormError(f"bnet: kernel must be odd, to have a centre; got {kernel}")
        self.axes = self.whole("axes", axes)
        if axes not in CONVOLUTIONS:
            raise NormError(f"bnet: axes must be 1, 2 or 3; got {axes}")
        neighbours = kernel**axes - 1
        has_kernel = self.weight is not None and neighbours > 0
        self.around = nn.Parameter(torch.zeros(lanes * channels, neighbours)) if has_kernel else None

    @property
    def fused(self) -> tuple[Tensor | None, Tensor | None]:
        return (self.weight, self.bias) if self.around is None else (None, None)

    def filters(self) -> Tensor:
        """All of w: (K·C, 1, k, …), the weight of a depthwise convolution."""
        assert self.weight is not None and self.around is not None
        before, after = self.around.chunk(2, dim=1)
        whole = torch.cat([before, self.weight.unsqueeze(1), after], dim=1)
        return whole.view(-1, 1, *(self.kernel,) * self.axes)

    def normalize(self, x: Tensor) -> Tensor:
        y = super().normalize(x)
        if self.around is None:
            return y
        others = x.dim() - 2 - self.axes  # spatial axes besides the kernel's; if negative, axes that x lacks
        maps = y.view(*y.shape[:2], *(1,) * -others, *y.shape[2:])
        beside = (1,) * max(others, 0)
        filters = self.filters().view(-1, 1, *beside, *(self.kernel,) * self.axes)
        padding = (*(0 for _ in beside), *(self.kernel // 2,) * self.axes)
        convolve = CONVOLUTIONS[len(padding)]
        with without_autocast(x):
            bias = None if self.bias is None else self.for_products(self.bias)
            mixed = convolve(
                self.for_products(maps),
                self.for_products(filters),
                bias,
                padding=padding,
                groups=len(filters),
            )
        return mixed.to(x.dtype).view(x.shape)

    def check(self, shape: Sequence[int]) -> None:
        super().check(shape)
        if len(shape) > 5:
            raise NormError(f"bnet: the input must have at most 3 spatial axes; got {len(shape) - 2}. Use bn")
        if self.around is not None and positions(shape) == 1:
            raise NormError(
                f"bnet: the map must have several positions for a kernel of {self.kernel}; got 1. "
                "Set kernel=1, which is bn, or leave this layer out"
            )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kernel={self.kernel}, axes={self.axes}"
