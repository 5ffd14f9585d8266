"""Layer normalization over channels and positions (key: ln_chw)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from normbench.norms.core import Affine, Norm
from normbench.norms.lanes import PerLane, positions
from normbench.norms.registry import register


@register("ln_chw", family="sample", reduces="C, H, W", reference="ba2016")
class LayerNormCHW(Norm):
    """Layer normalization of a convolutional layer: statistics per image over all channels and positions.

        y = γ (x − μ) / √(σ² + ε) + β                                  eqs. (3), (4)
        μ, σ² over 𝒮 = {same image} × C × H × W

    Symbols:      μ mean · σ² var (biased) · γ weight · β bias
    Reduces:      (C, H, W) for each image.
    Train / eval: identical; no running state. Batch-independent: yes.
    Numerics:     fp32 (fp64 for fp64 input); ε inside the root.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias: (K·C,)

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        eps:      ε > 0; one value or one per lane.
        affine:   True, False, "weight" or "bias".

    Raises:
        NormError: an argument out of range, or one value per statistic in training.

    Same as:    gn with num_groups=1.
    Reference:  ba2016 — Layer Normalization, arXiv:1607.06450, §3.
    Deviations: one γ and β per channel, as in wu2018. torch.nn.LayerNorm([C, H, W]) has one per element,
                which ties a network to one image size. Equals gn with one group.
    """

    def __init__(self, channels: int, lanes: int = 1, *, eps: PerLane = 1e-5, affine: Affine = True) -> None:
        super().__init__(channels, lanes, eps=eps, affine=affine)

    def normalize(self, x: Tensor) -> Tensor:
        return F.group_norm(self.equalized(x), self.lanes, self.weight, self.bias, self.eps)

    def check(self, shape: Sequence[int]) -> None:
        self.need_several(
            self.channels * positions(shape),
            f"{self.channels} channel on a map of {positions(shape)} position",
            "use another norm, or leave this layer out",
        )
