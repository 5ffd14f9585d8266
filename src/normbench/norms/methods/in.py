"""Instance normalization (key: in)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from normbench.norms.core import Affine, Norm
from normbench.norms.lanes import PerLane, positions
from normbench.norms.registry import register


@register("in", family="sample", reduces="H, W", reference="ulyanov2016", absorbs_bias=True)
class InstanceNorm(Norm):
    """Instance normalization: statistics per image and channel over positions.

        y = γ (x − μ) / √(σ² + ε) + β                                  eq. (3)
        μ, σ² over 𝒮 = {same image, same channel} × H × W

    Symbols:      μ mean · σ² var (biased) · γ weight · β bias
    Reduces:      (H, W) for each image and channel.
    Train / eval: identical; no running state. Batch-independent: yes.
    Numerics:     fp32 (fp64 for fp64 input); ε inside the root. y is contiguous in memory.

    Shape:
        x: (N, K·C, *spatial), several positions → y: same shape and dtype
        weight, bias: (K·C,)

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        eps:      ε > 0; one value or one per lane.
        affine:   True, False, "weight" or "bias".

    Raises:
        NormError: an argument out of range, or one value per statistic in training.

    Same as:    gn with group_size=1; bn with batch=1, in training.
    Reference:  ulyanov2016 — Instance Normalization, arXiv:1607.08022, §2.
    Deviations: γ and β exist by default; torch.nn.InstanceNorm2d has none by default. There are never running
                statistics.
    """

    def __init__(self, channels: int, lanes: int = 1, *, eps: PerLane = 1e-5, affine: Affine = True) -> None:
        super().__init__(channels, lanes, eps=eps, affine=affine)

    def normalize(self, x: Tensor) -> Tensor:
        # PERF: on a CPU a third of F.instance_norm's time; the channels_last kernel is slow for many groups
        x = self.equalized(x).contiguous()
        return F.group_norm(x, self.lanes * self.channels, self.weight, self.bias, self.eps)

    def check(self, shape: Sequence[int]) -> None:
        self.need_several(
            positions(shape),
            f"a map of {positions(shape)} position",
            "use another norm, or leave this layer out",
        )
