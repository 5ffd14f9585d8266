"""Online normalization (key: online)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum, Start
from normbench.norms.lanes import PerLane, along_channels, along_first, by_lane
from normbench.norms.methods.rms import by_rms
from normbench.norms.registry import register
from normbench.norms.spatial_moments import saturated
from normbench.norms.stateful import StatefulNorm

#: Bound of `guard=clamp`, from the authors' code.
CLAMP = 5.0
GUARDS = ("scaling", "clamp", "none")


@register(
    "online",
    family="batch",
    reduces="H, W",
    reference="chiley2019",
    batch_statistics=True,
    eval_differs=True,
    exact_gradient=False,
)
class OnlineNorm(StatefulNorm):
    """Online normalization: every image is normalized by statistics of all images before it, in order.

        z_t = (x_t − μ_{t−1}) / √(σ²_{t−1} + ε)                              forward
        μ_t = α μ_{t−1} + (1 − α) m(x_t)
        σ²_t = α σ²_{t−1} + (1 − α) v(x_t) + α (1 − α) (m(x_t) − μ_{t−1})²
        h_t = g_t − (1 − α_b) e_{t−1} z_t,  e_t = e_{t−1} + m(h_t z_t)        backward
        ∂L/∂x_t = h_t / √(σ²_{t−1} + ε) − (1 − α_b) d_{t−1},  d_t = d_{t−1} + m(∂L/∂x_t)
        y_t = γ z_t + β, guarded: over √(mean y_t² + ε), or clamped to ±5

    Symbols:      t image · m, v mean and variance over positions · g_t = γ ∂L/∂y_t through the guard ·
                  e, d accumulated errors that a controller keeps small · α = 1 − w_t, w_t of `momentum` ·
                  α_b = 1 − gradient_momentum · γ weight · β bias
    Reduces:      (H, W) for each image and channel, averaged over the images seen so far. The guard: (C, H,
                  W) for each image.
    Train / eval: differ: evaluation uses μ and σ² of all training for every image. Batch-independent: no, an
                  image depends on those before it.
    Running statistics: running_mean and running_var start at 0 and 1. w_t and num_batches_tracked count
                  images: each image is a batch. Forms of momentum that count take the initial 0 and 1 as the
                  first image. control holds (e, d). The backward pass moves it: run it once after each
                  training pass.
    Numerics:     fp32 (fp64 for fp64 input), in two passes. The method needs a loop over images; it handles
                  only statistics, with a few small operations per image. The backward pass is not the
                  gradient of the forward pass, by design.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean, running_var: (K·C,);  control: (K·C, 2);
        num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: 1 − α, weight of the new image, or another form of `normbench.momentum`; one value or one
                  per lane. The authors: 0.001.
        gradient_momentum: 1 − α_b in [0, 1]. The authors: 0.01.
        guard:    what stops errors of the statistics from growing over layers: "scaling" divides every image
                  by its root mean square, as in the paper; "clamp" is the authors' later code; or "none".
        eps:      ε > 0, of both roots; one value or one per lane.
        affine:   True, False, "weight" or "bias".

    Raises:
        NormError: an argument out of range.

    Reference:  chiley2019 — Online Normalization for Training Neural Networks, NeurIPS 2019,
                arXiv:1905.05894. The place of ε and of the guard, after γ and β, from the authors' code
                (github.com/Cerebras/online-normalization).
    Deviations: none from that code. There, each of several workers sees its own images; here all images form
                one stream.
    """

    joins_workers = "average over single images"
    standardizes = True
    #: The initial 0 and 1 count as an image: the variance of the first image alone may be 0.
    first_batch: ClassVar[Start] = "count"

    running_mean: Tensor
    running_var: Tensor
    control: Tensor

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        gradient_momentum: float = 0.01,
        guard: str = "scaling",
        momentum: PerLaneMomentum = 0.001,
        eps: PerLane = 1e-5,
        affine: Affine = True,
    ) -> None:
        super().__init__(channels, lanes, momentum=momentum, eps=eps, affine=affine)
        self.gradient_momentum = self.share("gradient_momentum", gradient_momentum)
        self.guard = self.choice("guard", guard, GUARDS)
        self.register_statistic("running_mean", partial(torch.zeros, lanes * channels))
        self.register_statistic("running_var", partial(torch.ones, lanes * channels))
        self.register_statistic("control", partial(torch.zeros, lanes * channels, 2))

    def normalize(self, x: Tensor) -> Tensor:
        if self.training:
            z = Online.apply(x, self)
        else:
            mean, var = self.running_mean, self.running_var
            if self.by_batch:
                var, mean = torch.var_mean(x.transpose(0, 1).flatten(1), 1, correction=0)
            z = (x - along_channels(mean, x)) * (along_channels(var, x) + self.eps_along(x)).rsqrt()
        return self._guarded(self.scale_shift(z))

    def _guarded(self, y: Tensor) -> Tensor:
        if self.guard == "clamp":
            return y.clamp(-CLAMP, CLAMP)
        if self.guard == "none":
            return y
        runs = by_lane(self.equalized(y), self.lanes)  # (N, K, C, *spatial)
        return by_rms(runs, tuple(range(2, runs.dim())), self.eps).flatten(1, 2)

    def check(self, shape: Sequence[int]) -> None:
        """Accept any shape in training: a statistic also averages over earlier images."""
        if not self.training:
            super().check(shape)

    def observe(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """Add the images' own statistics; return μ and σ² before each image. All are (N, K·C)."""
        weights = torch.stack([self.average.weight(self.count()) for _ in mean]).to(mean.dtype)  # (N, K)
        weights = weights.repeat_interleave(self.channels, 1)
        before = []
        for own, weight in zip(mean, weights, strict=True):
            before.append(self.running_mean.clone())
            self.running_mean.lerp_(own, weight)
        means, before = torch.stack(before), []
        spreads = saturated(var + (1 - weights) * (mean - means).square())
        for own, weight in zip(spreads, weights, strict=True):
            before.append(self.running_var.clone())
            self.running_var.lerp_(own, weight)
        return means, torch.stack(before)

    def steer(self, g: Tensor, gz: Tensor, z: Tensor, zz: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Add the images' means of g, g z, z, z²; return the factors of z and of 1 to subtract.

        All are (N, K·C).
        """
        rate, (error, drift) = self.gradient_momentum, self.control.unbind(1)
        errors, drifts = [], []
        for own, keep in zip(gz, 1 - rate * zz, strict=True):
            errors.append(error)
            error = torch.addcmul(own, keep, error)
        of_z = rate * torch.stack(errors)
        for own in (g - of_z * z) * scale:
            drifts.append(drift)
            drift = torch.add(own, drift, alpha=1 - rate)
        of_one = rate * torch.stack(drifts)
        control = torch.stack([error, drift], 1)
        self.control.copy_(torch.where(control.isfinite() | ~g.isfinite().all(0).unsqueeze(1), control, 0.0))
        return of_z, of_one

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, gradient_momentum={self.gradient_momentum}, guard={self.guard}"


class Online(torch.autograd.Function):
    """Forward z_t, backward the controlled gradient: (N, K·C, *spatial)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: OnlineNorm) -> Tensor:
        mean = image_mean(x)
        var = saturated(image_mean((x - along_first(mean, x)).square_()))
        centre, variance = layer.observe(mean, var)
        scale = (variance + layer.eps_along(variance)).rsqrt()
        z = (x - along_first(centre, x)).mul_(along_first(scale, x))
        off = (mean - centre) * scale
        ctx.save_for_backward(z, scale, off, saturated(var * scale.square() + off.square()))
        ctx.layer = layer
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        z, scale, mean, square = ctx.saved_tensors
        of_z, of_one = ctx.layer.steer(image_mean(g), image_mean(g * z), mean, square, scale)
        through = torch.addcmul(g, z, along_first(of_z, z), value=-1)
        through.mul_(along_first(scale, z)).sub_(along_first(of_one, z))
        # a control that overflowed leaves no gradient, as batch norm's of such an input is 0
        return torch.where(through.isfinite() | ~g.isfinite(), through, 0.0), None


def image_mean(x: Tensor) -> Tensor:
    """Mean per image and channel: (N, K·C, *spatial) → (N, K·C)."""
    return x.mean(tuple(range(2, x.dim()))) if x.dim() > 2 else x
