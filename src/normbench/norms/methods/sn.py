"""Switchable normalization (key: sn)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench.norms.core import Affine, Norm
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, along_channels, positions
from normbench.norms.registry import register
from normbench.norms.running import RunningNorm, over_chunks
from normbench.norms.spatial_moments import map_moments, merged, saturated


@register(
    "sn",
    family="mixture",
    reduces="H, W | C, H, W | N, H, W",
    reference="luo2019",
    batch_statistics=True,
    eval_differs=True,
)
class SwitchableNorm(RunningNorm):
    """Switchable normalization: learned mixtures of the statistics of instance, layer and batch norm.

        y = γ (x − Σ w_k μ_k) / √(Σ w'_k σ_k² + ε) + β,  k ∈ {in, ln, bn}    eq. (3)
        w = softmax λ,  w' = softmax λ'                                    eq. (5)
        μ_in, σ_in² over 𝒮 = {same image, same channel} × H × W
        μ_ln, σ_ln² over 𝒮 = {same image} × C × H × W
        μ_bn, σ_bn² over 𝒮 = {same channel} × batch × H × W in training, running statistics in evaluation

    Symbols:      μ mean · σ² var (biased) · λ mean_logits · λ' var_logits · γ weight · β bias
    Reduces:      H, W | C, H, W | N, H, W, mixed by one pair of softmaxes per layer. N in chunks of
                  `batch` images if `batch` is set (one chunk per worker). A map of one position has no
                  statistics of its own: there, as in fully connected layers, ln and bn alone are mixed.
    Train / eval: differ. Batch-independent: no.
    Running statistics: mean and Bessel-corrected variance of bn, s ← s + w_t (new − s) with w_t from
                  `momentum` (weight of the NEW batch, see normbench.momentum). They start at 0 and 1; with
                  several chunks `new` is the chunks' mean. Training never reads them.
    Numerics:     fp32 (fp64 for fp64 input), in two passes; ε inside the root.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean, running_var: (K·C,);  mean_logits, var_logits: (K·3,), in, ln, bn of each
        lane in turn;  num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
                  The authors' code: 0.1 (0.9 by its name), for fully connected and 3-D layers 0.003.
        eps:      ε > 0; one value or one per lane. The authors' code: 1e-5.
        affine:   True, False, "weight" or "bias".
        track:    whether to keep running statistics. Without them evaluation uses the batch.
        variance: "unbiased": the running variance is Bessel-corrected, as in torch; "biased": it is not, as
                  in Keras and flax.
        batch:    images per statistic; must divide N. None: all of x.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or one value per statistic of ln or
                   bn.

    Reference:  luo2019 — Differentiable Learning-to-Normalize via Switchable Normalization, ICLR 2019,
                arXiv:1806.10779.
    Deviations: the authors' code builds all three variances from Bessel-corrected variances of maps. So with
                all weight on ln or bn it equals neither; here it equals in, ln_chw or bn, in evaluation too.
                Its buffers start at 0 and 0, ours at 0 and 1. For evaluation the paper averages bn's
                statistics over batches after training; its code also offers running statistics, which are
                the default here.
    """

    roles: ClassVar[dict[str, str]] = {**Norm.roles, "mean_logits": "mixture", "var_logits": "mixture"}

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        track: bool = True,
        variance: str = "unbiased",
        batch: int | None = None,
    ) -> None:
        super().__init__(channels, lanes, momentum=momentum, eps=eps, affine=affine, track=track, batch=batch)
        self.mean_logits = nn.Parameter(torch.ones(lanes * 3))
        self.var_logits = nn.Parameter(torch.ones(lanes * 3))
        self.register_moments(variance)

    def normalize(self, x: Tensor) -> Tensor:
        centred, mean, var = map_moments(x)
        chunks = self.chunks(x.shape[0]) if self.by_batch else 1
        shape = (chunks, -1, self.lanes, self.channels, *(1,) * (x.dim() - 2))
        mean, var = mean.view(shape), var.view(shape)  # (S, B, K, C, 1, …)
        (ln_mean, ln_var), (bn_mean, bn_var) = merged(mean, var, 3), self._of_batch(x, mean, var)
        _, to_ln, to_bn = self._shares(self.mean_logits, x)
        of_in, of_ln, of_bn = self._shares(self.var_logits, x)
        # mixed mean minus each map's own: what all means have in common cancels first
        offset = to_ln * (mean - ln_mean) + to_bn * (mean - bn_mean)
        mixed = of_in * var + of_ln * ln_var + of_bn * bn_var
        offset, mixed = (t.view(x.shape[0], -1, *(1,) * (x.dim() - 2)) for t in (offset, mixed))
        gain = torch.rsqrt(mixed + self.eps_along(x))
        if self.weight is not None:
            gain = gain * along_channels(self.weight, x)
        shift = offset * gain
        if self.bias is not None:
            shift = shift + along_channels(self.bias, x)
        return centred * gain + shift

    def check(self, shape: Sequence[int]) -> None:
        self.need_several(
            self.channels * positions(shape),
            f"{self.channels} channel on a map of {positions(shape)} position",
            "use another norm, or leave this layer out",
        )
        super().check(shape)

    def _of_batch(self, x: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of bn from the moments of the maps, (S, 1, K, C, 1, …), or as running."""
        if not self.by_batch:
            assert self.running_mean is not None and self.running_var is not None
            return self.running_mean.view(mean.shape[2:]), self.running_var.view(mean.shape[2:])
        bn_mean, bn_var = merged(mean, var, 1)
        if self.tracks:
            values = mean.shape[1] * positions(x.shape)
            correction = 1 if self.variance == "biased" else values / max(values - 1, 1)
            running_var = saturated(over_chunks(bn_var) * correction)
            self.move(running_mean=over_chunks(bn_mean), running_var=running_var)
        return bn_mean, bn_var

    def _shares(self, logits: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        """Weights of in, ln and bn, each (K, 1, 1, …), to broadcast with (…, K, C, 1, …)."""
        absent = 1 if positions(x.shape) == 1 else 0
        shares = F.pad(logits.view(self.lanes, 3)[:, absent:].softmax(1), (absent, 0))
        return shares.view(self.lanes, 3, 1, *(1,) * (x.dim() - 2)).unbind(1)
