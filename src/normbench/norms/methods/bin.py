"""Batch-instance normalization (key: bin)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from normbench.norms.core import Affine, Norm
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, along_channels, positions
from normbench.norms.registry import register
from normbench.norms.running import RunningNorm, over_chunks
from normbench.norms.spatial_moments import map_moments, merged, saturated


@register(
    "bin",
    family="mixture",
    reduces="N, H, W | H, W",
    reference="nam2018",
    batch_statistics=True,
    absorbs_bias=True,
    eval_differs=True,
)
class BatchInstanceNorm(RunningNorm):
    """Batch-instance normalization: one learned gate per channel mixes batch and instance norm.

        y = γ (ρ (x − μ_b) / √(σ_b² + ε) + (1 − ρ) (x − μ_i) / √(σ_i² + ε)) + β    eqs. (1)–(3)
        ρ ← clip of ρ to [0, 1], after every update                                 eq. (4)
        μ_i, σ_i² over 𝒮 = {same image, same channel} × H × W
        μ_b, σ_b² over 𝒮 = {same channel} × batch × H × W in training, running statistics in evaluation

    Symbols:      μ mean · σ² var (biased) · ρ gate · γ weight · β bias
    Reduces:      N, H, W | H, W. N in chunks of `batch` images if that is set (one chunk per worker).
    Train / eval: differ. Batch-independent: no.
    Running statistics: mean and Bessel-corrected variance of bn, s ← s + w_t (new − s) with w_t from
                  `momentum` (weight of the NEW batch, see normbench.momentum). They start at 0 and 1; with
                  several chunks `new` is the chunks' mean. Training never reads them.
    Numerics:     fp32 (fp64 for fp64 input), in two passes; ε inside both roots. Every call uses the clipped
                  gate. `begin_step` writes it back, so that a gate at a bound can leave it. A gate outside
                  [0, 1] gets no gradient: in a training loop of your own, call `begin_step` before each step.

    Shape:
        x: (N, K·C, *spatial), several positions → y: same shape and dtype
        weight, bias, gate, running_mean, running_var: (K·C,);  num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
        eps:      ε > 0; one value or one per lane. The authors' code: 1e-5.
        affine:   True, False, "weight" or "bias".
        track:    whether to keep running statistics. Without them evaluation uses the batch.
        variance: "unbiased": the running variance is Bessel-corrected, as in torch; "biased": it is not, as
                  in Keras and flax.
        batch:    images per statistic; must divide N. None: all of x.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or maps of one position in training.

    Reference:  nam2018 — Batch-Instance Normalization for Adaptively Style-Invariant Neural Networks,
                NeurIPS 2018, arXiv:1805.07925, §3.
    Code:       hyseob/Batch-Instance-Normalization: gates start at 1; their learning rate is 10
                times that of the rest, as here (role `gate`).
    Deviations: the authors' code never decays gates; here optim.decay=all decays them as it decays γ, and
                optim.decay=weights spares them. Equation numbers were written down from memory.
    """

    roles: ClassVar[dict[str, str]] = {**Norm.roles, "gate": "gate"}

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
        self.gate = nn.Parameter(torch.ones(lanes * channels))
        self.register_moments(variance)

    @torch.no_grad()
    def begin_step(self, step: int, steps: int) -> None:
        super().begin_step(step, steps)
        self.gate.clamp_(0, 1)

    def normalize(self, x: Tensor) -> Tensor:
        centred, mean, var = map_moments(x)
        batch_mean, batch_var = self._of_batch(x, mean, var)
        gate, eps = along_channels(self._clipped(), x), self.eps_along(x)
        by_batch = gate * torch.rsqrt(batch_var + eps)
        gain = by_batch + (1 - gate) * torch.rsqrt(var + eps)
        shift = (mean - batch_mean) * by_batch
        if self.weight is not None:
            weight = along_channels(self.weight, x)
            gain, shift = gain * weight, shift * weight
        if self.bias is not None:
            shift = shift + along_channels(self.bias, x)
        return centred * gain + shift

    def _clipped(self) -> Tensor:
        """The gate in [0, 1]: (K·C,). At the bounds it has a gradient; torch.clamp has none there."""
        inside = (self.gate >= 0) & (self.gate <= 1)
        return torch.where(inside, self.gate, self.gate.detach().clamp(0, 1))

    def check(self, shape: Sequence[int]) -> None:
        self.need_several(
            positions(shape),
            f"a map of {positions(shape)} position",
            "use another norm, or leave this layer out",
        )
        super().check(shape)

    def _of_batch(self, x: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of bn from the moments of the maps, for every map: (N, K·C, 1, …)."""
        if not self.by_batch:
            assert self.running_mean is not None and self.running_var is not None
            return along_channels(self.running_mean, x), along_channels(self.running_var, x)
        mean, var = (self.by_chunk(moment) for moment in (mean, var))  # (S, B, K·C, 1, …)
        batch_mean, batch_var = merged(mean, var, 1)
        if self.tracks:
            values = mean.shape[1] * positions(x.shape)
            correction = 1 if self.variance == "biased" else values / (values - 1)
            running_var = saturated(over_chunks(batch_var) * correction)
            self.move(running_mean=over_chunks(batch_mean), running_var=running_var)
        return batch_mean.expand_as(mean).flatten(0, 1), batch_var.expand_as(var).flatten(0, 1)
