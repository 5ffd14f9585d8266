"""Cross-iteration batch normalization (key: cbn)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from normbench.errors import NormError
from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane
from normbench.norms.linear_view import linear
from normbench.norms.methods.bn import BatchNorm
from normbench.norms.registry import register
from normbench.norms.spatial_moments import saturated
from normbench.norms.stateful import Send, Standardize


@register(
    "cbn",
    family="batch",
    reduces="N, H, W",
    reference="yao2021",
    batch_statistics=True,
    eval_differs=True,
)
class CrossIterationBatchNorm(BatchNorm):
    """Cross-iteration batch normalization: statistics of the last k batches, moved to the present weights.

        y = γ (x − μ̄) / √(σ̄² + ε) + β
        μ̄ = mean of μ_τ,  σ̄² = mean of max(ν_τ, μ_τ²) − μ̄²               over τ = 0 … k − 1
        μ_τ = μ(θ_τ) + ⟨∂μ/∂θ, θ − θ_τ⟩,  ν_τ = ν(θ_τ) + ⟨∂ν/∂θ, θ − θ_τ⟩  for the batch τ steps ago

    Symbols:      μ mean, ν mean square of a batch · θ weight of the filter that feeds the channel, θ_τ its
                  value τ steps ago · k window · γ weight · β bias
    Reduces:      (N, H, W) for each channel, averaged over the last k batches; N in chunks of `batch` images
                  if `batch` is set (one chunk per worker).
    Train / eval: differ: evaluation is batch norm's. Batch-independent: no.
    Running statistics: running_mean and running_var as for bn, of the batches themselves. Training reads the
                  window instead: past_mean, past_var, past_weight and the derivatives mean_slope, var_slope
                  of the last k − 1 batches, newest last. The layer is batch norm until the window is full.
                  The burn-in is batch norm too and does not fill the window. With several workers the window
                  holds the statistics of all their images, and each worker adds its own.
    Numerics:     fp32 (fp64 for fp64 input), in two passes: the window keeps variances instead of ν, which is
                  equivalent. The gradient is exact in x; past batches and their θ are constants. The
                  derivatives cost two weight gradients of the layer before. The window holds 3 (k − 1) copies
                  of its weight. A step takes 10 times batch norm's time on large maps, and up to 40 times on
                  maps of a few hundred values, because of many small operations.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean, running_var: (K·C,);  past_mean, past_var: (K·C, k − 1);
        past_weight, mean_slope, var_slope: (K·C, k − 1, fan_in), from `follow` on;
        num_batches_tracked, num_past: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
        window:   k, batches averaged over, the present one included; 1 is batch norm. The paper: 4.
        burn_in:  share of the run, as `begin_step` counts it, in which the layer is batch norm. If nobody
                  calls `begin_step`, there is no burn-in.
        compensate: move past statistics to the present weights. For this the layer must `follow` the
                  convolution or linear layer that feeds it. False: average them unchanged. That is the
                  paper's "naive CBN", which can be placed anywhere.
        eps:      ε > 0; one value or one per lane.
        affine:   True, False, "weight" or "bias".
        variance: "unbiased": the running variance is Bessel-corrected, as in torch; "biased": it is not, as
                  in Keras and flax.
        batch:    images per statistic; must divide N. None: all of x.

    Raises:
        NormError: an argument out of range, N not a multiple of `batch`, one value per statistic, or training
                   with `compensate` and no layer to follow.

    Same as:    bn for window=1.
    Reference:  yao2021 — Cross-Iteration Batch Normalization, CVPR 2021, arXiv:2002.05712.
    Deviations: as the paper, max(ν, μ²); the authors' code (github.com/Howal/Cross-iterationBatchNorm) leaves
                out batches with ν < μ², and its checkpoints lack the window. In the burn-in, and until the
                window is full, that code normalizes by the Bessel-corrected variance with ε outside the root;
                here batch norm does, with the biased variance and ε inside. θ is the trained weight, before a
                weight map. A bias, and the gain that wn trains besides θ, are not compensated. A training
                pass without autograd is batch norm and leaves the window alone. The rule for several workers
                is ours.
    """

    joins_workers = "window of statistics"
    past_mean: Tensor
    past_var: Tensor
    past_weight: Tensor
    mean_slope: Tensor
    var_slope: Tensor
    num_past: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        window: int = 4,
        burn_in: float = 0.25,
        compensate: bool = True,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        variance: str = "unbiased",
        batch: int | None = None,
    ) -> None:
        super().__init__(
            channels, lanes, momentum=momentum, eps=eps, affine=affine, batch=batch, variance=variance
        )
        self.window, self.burn_in = self.whole("window", window, most=10_000), self.share("burn_in", burn_in)
        self.phase_change_at = self.burn_in
        self.compensate = self.flag("compensate", compensate) and window > 1
        self._feeder: tuple[nn.Module, ...] = ()  # a tuple, so that it is no submodule
        if window > 1:
            self.register_statistic("past_mean", partial(torch.zeros, lanes * channels, window - 1))
            self.register_statistic("past_var", partial(torch.zeros, lanes * channels, window - 1))
            self.register_statistic("num_past", self._no_batches)

    def follow(self, layer: nn.Module | None) -> None:
        if not self.compensate:
            return
        seen = None if layer is None else linear(layer)
        if layer is None or seen is None or seen.transposed or seen.outputs != self.lanes * self.channels:
            raise self._lost("none that could be used" if layer is None else str(layer))
        self._feeder = (layer,)
        weight = self._weight()
        for name in ("past_weight", "mean_slope", "var_slope"):
            self.register_statistic(
                name, partial(weight.new_zeros, len(weight), self.window - 1, weight.shape[1])
            )

    def _weight(self) -> Tensor:
        """θ of every filter: (K·C, fan_in)."""
        (layer,) = self._feeder
        weight = layer.weight
        assert isinstance(weight, Tensor)
        return weight.detach().reshape(self.lanes * self.channels, -1)

    def _lost(self, given: str) -> NormError:
        return NormError(
            "cbn: a convolution or linear layer with an output per channel must feed the layer directly; got "
            f"{given}. Show it that layer with layer.follow(), set compensate=false, or leave this layer out"
        )

    def check(self, shape: Sequence[int]) -> None:
        super().check(shape)
        if self.compensate and self.burn_in < 1 and not self._feeder:
            raise self._lost("none")

    def normalize(self, x: Tensor) -> Tensor:
        windowed = self.training and self.window > 1 and self.after_phase_change is not False
        if windowed and self.compensate and not self._feeder:
            raise self._lost("none")
        if not windowed or (self.compensate and not torch.is_grad_enabled()):
            return super().normalize(x)
        z = Standardize.apply(self.by_chunk(x), 2, self.eps_along, partial(self._use, x))
        return self.scale_shift(z.flatten(0, 1))

    def _use(self, x: Tensor, own: Tensor) -> tuple[Tensor, Send]:
        """(μ̄, √(σ̄² + ε)) and its gradient, for those of a batch: (S, K·C, 2)."""
        own_mean, own_deviation = own.unbind(2)
        eps = self.eps_along(own_mean)
        own_var = own_deviation.square() - eps
        mean, var, share = self._over_window(own_mean, own_var)
        deviation = (var + eps).sqrt()

        def send(gradient: Tensor) -> Tensor:
            """∂μ̄ = share ∂μ,  ∂σ̄² = share (∂σ² + 2 (μ − μ̄) ∂μ)"""
            to_mean, to_deviation = (share.unsqueeze(1) * gradient).unbind(2)
            to_deviation = to_deviation / deviation
            return torch.stack([to_mean + to_deviation * (own_mean - mean), to_deviation * own_deviation], 2)

        values = x.numel() // own_mean.numel()
        self._keep(own_mean, own_var * (values / max(values - 1, 1)), values)
        self._remember(x, own_mean, own_var)
        return torch.stack([mean, deviation], 2), send

    def _over_window(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """μ̄ and σ̄² out of a batch's own and the window, (S, K·C) each, and the batch's share of them."""
        past_mean, past_var = self.past_mean, self.past_var
        if self.compensate:
            moved = self._weight().unsqueeze(1) - self.past_weight  # (K·C, k − 1, fan_in)
            shift = (self.mean_slope * moved).sum(2)
            # ν − μ² with both moved: σ² + ⟨∂σ², Δθ⟩ − ⟨∂μ, Δθ⟩²
            past_var = past_var + (self.var_slope * moved).sum(2) - shift.square()
            # inputs whose squares overflow make differences of infinities
            past_var, shift = past_var.clamp(min=0).nan_to_num(), shift.nan_to_num()
            past_mean = past_mean + shift
        means = torch.cat([past_mean.expand(len(mean), -1, -1), mean.unsqueeze(2)], 2)  # (S, K·C, k)
        variances = torch.cat([past_var.expand(len(var), -1, -1), var.unsqueeze(2)], 2)
        spread, average = torch.var_mean(means, 2, correction=0)
        full = (self.num_past.view(-1) >= self.window - 1).repeat_interleave(self.channels)
        share = torch.where(full, 1 / self.window, 1.0).to(mean.dtype)
        whole = saturated(variances.mean(2) + spread)
        return torch.where(full, saturated(average), mean), torch.where(full, whole, var), share

    def _remember(self, x: Tensor, mean: Tensor, var: Tensor) -> None:
        """Add the batch of all workers to the window."""
        spread, whole = torch.var_mean(mean, 0, correction=0)
        new = {"past_mean": whole, "past_var": saturated(var.mean(0) + spread)}
        if self.compensate:
            values = x.numel() // len(whole)
            centred = x.detach() - whole.view(1, -1, *(1,) * (x.dim() - 2))
            new["mean_slope"] = self._slope(x, torch.full_like(centred, 1 / values))
            new["var_slope"] = self._slope(x, centred.mul_(2 / values))
            new["past_weight"] = self._weight()
        for name, latest in new.items():
            past = self.get_buffer(name)
            past.copy_(torch.cat([past[:, 1:], latest.unsqueeze(1)], 1))
        self.num_past += 1

    def _slope(self, x: Tensor, derivative: Tensor) -> Tensor:
        """∂s/∂θ of every filter, (K·C, fan_in), for a statistic s with given ∂s/∂x."""
        (layer,) = self._feeder
        weight = layer.weight
        assert isinstance(weight, Tensor)
        if not weight.requires_grad:  # it never moves
            return torch.zeros_like(self._weight())
        if not x.requires_grad:
            raise self._lost(f"an input that does not come from {layer}")
        (slope,) = torch.autograd.grad(x, weight, derivative, retain_graph=True, allow_unused=True)
        if slope is None:
            raise self._lost(f"an input that does not come from {layer}")
        return slope.reshape(self.past_weight.shape[0], -1).nan_to_num()

    def extra_repr(self) -> str:
        own = f"window={self.window}, burn_in={self.burn_in}, compensate={self.compensate}"
        return f"{super().extra_repr()}, {own}"
