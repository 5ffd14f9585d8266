"""Power normalization (key: power)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, along_channels, over_channels
from normbench.norms.methods.rms import by_rms
from normbench.norms.registry import register
from normbench.norms.running import over_chunks
from normbench.norms.stateful import Divide, StatefulNorm, chunk_norm


@register(
    "power",
    family="batch",
    reduces="N, H, W",
    reference="shen2020",
    batch_statistics=True,
    eval_differs=True,
    exact_gradient=False,
)
class PowerNorm(StatefulNorm):
    """Power normalization: divides by a running quadratic mean; backward uses a running projection.

        z = x / √(φ + ε),  y = γ z + β                                   forward
        ∂L/∂x = (g − ν z) / √(φ + ε),  g = γ ∂L/∂y                       backward
        φ ← φ + w_t (φ_B − φ),  φ_B = mean of x²                         after the forward pass
        ν ← ν (1 − m Γ) + m Λ,  Γ = mean of z², Λ = mean of g z          after the backward pass

    Symbols:      φ running quadratic mean · φ_B of the batch · ν running projection · γ weight · β bias ·
                  m gradient_momentum
    Reduces:      (N, H, W) for each channel, without centring; N in chunks of `batch` images if that is
                  set (one chunk per worker). Before that, with `scaling`, (C) for each image and position.
    Train / eval: differ: evaluation divides by the φ of all training. Batch-independent: no, in the warm-up.
    Running statistics: running_square φ and running_projection ν; w_t from `momentum` with w_1 = 1. In the
                  warm-up, and for the very first batch, φ_B replaces φ and Λ replaces ν: the layer is a batch
                  RMS norm with its true gradient. φ and ν move all the same. The backward pass moves ν: run
                  it once after each training pass. With several workers φ and ν move to the workers' mean.
    Numerics:     fp32 (fp64 for fp64 input); ε inside the root. After the warm-up the backward pass is not
                  the gradient of the forward pass, by design.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_square, running_projection: (K·C,);
        num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: weight of the new batch in φ, or another form of `normbench.momentum`; one value or one per
                  lane. The authors' code: 0.1.
        gradient_momentum: m in [0, 1], weight of the new batch in ν. The authors' code: 0.1.
        warmup:   share of the run, as `begin_step` counts it, that normalizes by the batch's own φ_B. If
                  nobody calls `begin_step`, only the first batch does.
        scaling:  whether every position is first divided by the root mean square of its channels, as the
                  tokens in the paper are.
        eps:      ε > 0, of both roots; one value or one per lane.
        affine:   True, False, "weight" or "bias".
        batch:    images per statistic; must divide N. None: all of x.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, or one value per statistic.

    Reference:  shen2020 — PowerNorm, ICML 2020, arXiv:2003.07845: PN, and PN-V in the warm-up.
    Deviations: the paper normalizes sequences of tokens; here positions of images take their place. We follow
                the paper where the authors' code (github.com/sIncerass/powernorm) differs: it moves φ twice
                per step in the warm-up, and divides the gradient by the batch's quadratic mean after it. Our
                warm-up is a share of the run and has the true gradient; theirs is 10,000 steps and uses ν.
                w_1 = 1 and the rule for several workers are ours.
    """

    running_square: Tensor
    running_projection: Tensor

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        gradient_momentum: float = 0.1,
        warmup: float = 0.1,
        scaling: bool = True,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        batch: int | None = None,
    ) -> None:
        super().__init__(channels, lanes, momentum=momentum, eps=eps, affine=affine, batch=batch)
        self.gradient_momentum = self.share("gradient_momentum", gradient_momentum)
        self.warmup = self.share("warmup", warmup)
        self.phase_change_at = self.warmup
        self.scaling = self.flag("scaling", scaling)
        self.register_statistic("running_square", partial(torch.ones, lanes * channels))
        self.register_statistic("running_projection", partial(torch.zeros, lanes * channels))

    def normalize(self, x: Tensor) -> Tensor:
        if self.scaling:
            x = over_channels(self.equalized(x), self.lanes, partial(by_rms, eps=self.eps))
        if not self.by_batch:
            return self.scale_shift(x * (along_channels(self.running_square, x) + self.eps_along(x)).rsqrt())
        parts = self.by_chunk(x)
        with torch.no_grad():
            own = chunk_norm(parts, 2)
            exact = (
                self.fresh | (self.after_phase_change is False)
                if self.training
                else torch.ones_like(own).bool()
            )
            root = (torch.where(exact, own, self.running_square) + self.eps_along(own)).sqrt_()
        project = partial(self._project, exact, own / root.square())
        z = Divide.apply(parts, root, project if self.training else lambda product: product)
        if self.training:
            self.move(running_square=over_chunks(own))
        return self.scale_shift(z.flatten(0, 1))

    def _project(self, exact: Tensor, power: Tensor, product: Tensor) -> Tensor:
        """Move ν; return the value that replaces Λ in the backward pass. Γ and Λ are (S, K·C)."""
        projection = torch.where(exact, product, self.running_projection)
        keep = 1 - self.gradient_momentum * power.mean(0)
        self.running_projection.mul_(keep).add_(product.mean(0), alpha=self.gradient_momentum)
        return projection

    def check(self, shape: Sequence[int]) -> None:
        super().check(shape)
        if self.scaling:
            self.need_several(
                self.channels,
                f"{self.channels} channel, of which scaling leaves only the sign,",
                "set scaling=false, or leave this layer out",
            )

    def extra_repr(self) -> str:
        own = f"gradient_momentum={self.gradient_momentum}, warmup={self.warmup}, scaling={self.scaling}"
        return f"{super().extra_repr()}, {own}"
