"""Running statistics mixed with others at evaluation: a prior of source images, or the example's own.

`prior` takes n images and lets them count as n beside N images of the running statistics (schneider2020):

    μ = N/(N+n) μ_running + n/(N+n) μ_own,    σ² likewise

`blended` mixes the example's own moments over its positions into the running ones (summers2020):

    μ_i = α E[x_i] + (1 − α) μ_running
    σ_i² = α E[x_i²] + (1 − α) (σ²_running + μ²_running) − μ_i²

A norm that standardizes (`RunningNorm.standardizes`) normalizes the images of `prior` by the mixture, as in
the paper, so that deeper norms see what the mixture makes of them. More images than one pass holds come in
several passes; each is normalized by the mixture of all images until then. Every other norm normalizes them
by their own statistics, as in training, and its statistics are mixed afterwards with the same weights.

Reference:  schneider2020 — Improving robustness against common corruptions by covariate shift adaptation,
            NeurIPS 2020, arXiv:2006.16971, equation 1; summers2020 — Four Things Everyone Should Know to
            Improve Batch Normalization, ICLR 2020, arXiv:1906.03548, §3.1.
Deviations: both papers have batch norm alone. schneider2020 adapts to the batch that it classifies; here n
            test images are taken once, and all test images are classified.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from normbench.engine.device import casting
from normbench.engine.lane_assignment import running_norms
from normbench.engine.recalibration import PooledMoments, fresh_statistics
from normbench.models import Network
from normbench.norms.lanes import along_channels
from normbench.norms.running import RunningNorm
from normbench.spec import EngineSpec


@contextmanager
def prior(
    network: Network, batches: Iterable[Tensor], engine: EngineSpec, images: int, per_statistic: int | None
) -> Iterator[None]:
    """Let norms have their running statistics mixed with those of some images, then all as it was.

    Args:
        network: of K lanes; its norms keep running statistics.
        batches: images (N, K·C, H, W), of the same N in all of them.
        engine:  the precision of the forward pass.
        images:  N of the formula: what the running statistics count as.
        per_statistic: images per statistic of norms that do not standardize, if not their own `batch`.
    """
    layers = running_norms(network)
    before = [{name: t.clone() for name, t in layer.named_buffers(recurse=False)} for layer in layers]
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(fresh_statistics(layer, per_statistic))
        network.eval()
        mixtures = [_Mixture(layer, images) for layer in layers if layer.standardizes and _moves(layer)]
        for layer in layers:
            if not layer.standardizes:
                layer.train()
        taken = _take(network, batches, engine, mixtures)
        for layer, own in zip(layers, before, strict=True):
            if not layer.standardizes:
                _mix(layer, own, taken / (images + taken))
        network.train()
        yield


def _moves(layer: RunningNorm) -> bool:
    """Whether a training pass would move the layer's statistics. The layer is in evaluation again after."""
    layer.train()
    moves = layer.tracks
    layer.eval()
    return moves


@torch.no_grad()
def _take(network: Network, batches: Iterable[Tensor], engine: EngineSpec, mixtures: list[_Mixture]) -> int:
    hooks = [mixture.layer.register_forward_pre_hook(mixture.add) for mixture in mixtures]
    taken = 0
    try:
        for x in batches:
            with casting(engine, x.device):
                network(x)
            taken += len(x)
    finally:
        for hook in hooks:
            hook.remove()
    return taken


@torch.no_grad()
def _mix(layer: RunningNorm, before: dict[str, Tensor], share: float) -> None:
    """Mix what a layer kept before with what it has now; `share` is the weight of the latter."""
    for name, now in layer.named_buffers(recurse=False):
        if now.is_floating_point():
            now.copy_(before[name].lerp(now, share))


class _Mixture:
    """Keeps a layer's running mean and variance mixed with those of all images that it was given."""

    def __init__(self, layer: RunningNorm, images: int) -> None:
        self.layer, self._images, self._taken = layer, images, 0
        self._source = [layer.get_buffer(f"running_{name}").double() for name in ("mean", "var")]
        self._source = [source.clone() for source in self._source]
        self._pool = PooledMoments(layer)

    def add(self, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        """Take in x: (N, K·C, *spatial), before the layer normalizes it."""
        self._pool.add(layer, inputs)
        self._taken += len(inputs[0])
        share = self._taken / (self._images + self._taken)
        for name, source, own in zip(("mean", "var"), self._source, self._pool.moments(), strict=True):
            self.layer.get_buffer(f"running_{name}").copy_(source.lerp(own, share))


@contextmanager
def blended(network: Network, share: float) -> Iterator[None]:
    """Let norms that standardize mix each example's own moments into the running ones.

    Args:
        network: of K lanes; all its norms with running statistics standardize.
        share:   α.
    """

    def reweigh(layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        assert isinstance(layer, RunningNorm)
        return (_as_if_running(layer, inputs[0], share),)

    hooks = [layer.register_forward_pre_hook(reweigh) for layer in running_norms(network)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _as_if_running(layer: RunningNorm, x: Tensor, share: float) -> Tensor:
    """The input that running statistics normalize to what the mixed ones make of x: (N, K·C, *spatial)."""
    wide = x if x.dtype == torch.float64 else x.float()
    mean, var = (
        along_channels(layer.get_buffer(f"running_{name}").to(wide.dtype), wide) for name in ("mean", "var")
    )
    own_mean, own_var = wide, torch.zeros_like(wide)
    if axes := tuple(range(2, x.dim())):
        own_mean = wide.mean(axes, keepdim=True)
        own_var = (wide - own_mean).square_().mean(axes, keepdim=True)
    apart = own_mean - mean
    mixed_mean = mean + share * apart
    mixed_var = share * own_var + (1 - share) * var + share * (1 - share) * apart.square()
    eps = layer.eps_along(wide)
    ratio = ((var + eps) / (mixed_var + eps)).sqrt() if layer.scale else torch.ones_like(var)
    return mean + (wide - mixed_mean) * ratio if layer.center else wide * ratio
