"""Layer normalization over channels at each position (key: ln_c)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from normbench.norms.core import Affine, Norm
from normbench.norms.lanes import PerLane, over_channels
from normbench.norms.methods.rms import by_rms
from normbench.norms.registry import register

#: From this many channels on, torch's kernel is used. PERF: its cost is per row, so short rows do without it.
SHORT_ROW = 16


@register("ln_c", family="channel", reduces="C", reference="ba2016")
class LayerNormC(Norm):
    """Layer normalization over channels: every position is normalized on its own.

        y = γ (x − μ) / √(σ² + ε) + β                                  eqs. (3), (4)
        μ, σ² over 𝒮 = {same image, same position} × C

    Symbols:      μ mean · σ² var (biased) · γ weight · β bias
    Reduces:      (C) for each image and position.
    Train / eval: identical; no running state. Batch-independent: yes.
    Numerics:     fp32 (fp64 for fp64 input), in two passes; ε inside the root. With 16 channels or more, y is
                  stored with channels innermost.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias: (K·C,)

    Args:
        channels: C ≥ 2, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        eps:      ε > 0; one value or one per lane.
        affine:   True, False, "weight" or "bias".

    Raises:
        NormError: an argument out of range, or one channel in training.

    Reference:  ba2016 — Layer Normalization, arXiv:1607.06450, §3, applied to each position as ConvNeXt does.
    Deviations: for images the paper's layer can be read in two ways; the other one is ln_chw. Without spatial
                axes they agree.
    """

    def __init__(self, channels: int, lanes: int = 1, *, eps: PerLane = 1e-5, affine: Affine = True) -> None:
        super().__init__(channels, lanes, eps=eps, affine=affine)

    def normalize(self, x: Tensor) -> Tensor:
        x = self.equalized(x)
        if self.channels < SHORT_ROW:
            return self.scale_shift(over_channels(x, self.lanes, self._standardize))
        rows = x.movedim(1, -1)  # (N, *spatial, K·C)
        if self.lanes == 1:  # PERF: the kernel's own γ and β save two passes
            y = F.layer_norm(rows, (self.channels,), self.weight, self.bias, self.eps)
            return y.movedim(-1, 1)
        y = F.layer_norm(torch.unflatten(rows, -1, (self.lanes, -1)), (self.channels,), eps=self.eps)
        return self.scale_shift(y.flatten(-2).movedim(-1, 1))

    def _standardize(self, runs: Tensor, axis: int) -> Tensor:
        return by_rms(runs - runs.mean(axis, keepdim=True), axis, self.eps)

    def check(self, shape: Sequence[int]) -> None:
        self.need_several(self.channels, f"{self.channels} channel", "use ln_chw, or leave this layer out")
