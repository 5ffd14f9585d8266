"""Recalibration: compute the statistics for evaluation again, with the final weights, over a set of images.

With training images this is PreciseBN (wu2021). With test images it is AdaBN (li2016). Both use batches of a
training step. Only the norms are in training mode: there is no dropout, no augmentation, and weight maps do
not update. So, as in training, layers after a norm get values that were normalized by batch statistics, not
by the new statistics. The statistics of the first norm are those of all its values, whatever the batch. The
statistics of deeper norms depend on `batch`.

A running mean and variance become the mean and the biased variance of all values that the norm was given.
This includes the variance between batches, which an average of batch variances leaves out. If `pooled` is
false, they become the mean of the batch means and of the Bessel-corrected batch variances. Every other
statistic, such as the deviation of l1bn or the whitening matrix of dbn, is the mean over the batches.

A norm whose training reads history starts with an empty history and normalizes by it batch after batch. The
momentum of its running statistics is cumulative. Other momenta, such as renorm_momentum of brn, stay as
given, and its schedules stay at the end of the run. noisy_bn adds its noise. A frozen norm whose statistics
no longer change keeps them.

Reference:  wu2021 — Rethinking "Batch" in BatchNorm, arXiv:2105.07576, PreciseBN; li2016 — Revisiting Batch
            Normalization for Practical Domain Adaptation, arXiv:1603.04779, AdaBN.
Deviations: the papers describe batch norm only. AdaBN with batches of the training size is our choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from normbench.engine.device import casting
from normbench.engine.lane_assignment import running_norms
from normbench.models import Network
from normbench.momentum import parse_momentum
from normbench.norms.running import RunningNorm
from normbench.spec import EngineSpec

#: Most training images. wu2021 finds that 1,000 to 10,000 suffice.
IMAGES = 10_000
CUMULATIVE = parse_momentum("cumulative")


@contextmanager
def recalibrated(
    network: Network,
    batches: Iterable[Tensor],
    engine: EngineSpec,
    *,
    pooled: bool = True,
    per_statistic: int | None = None,
) -> Iterator[None]:
    """Replace running statistics by those of some images; restore everything at the end.

    Args:
        network: of K lanes. Its norms keep running statistics.
        batches: images (N, K·C, H, W), with the same N in every batch; `batch` divides N.
        engine:  the precision of the forward pass.
        pooled:  the variance is that of all values, not the mean of the batch variances.
        per_statistic: images per statistic, in place of the norms' own `batch`.
    """
    layers = running_norms(network)
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(fresh_statistics(layer, per_statistic))
        network.eval()
        for layer in layers:
            layer.train()
        _compute_statistics(network, batches, engine, pooled)
        network.train()
        yield


@torch.no_grad()
def _compute_statistics(
    network: Network, batches: Iterable[Tensor], engine: EngineSpec, pooled: bool
) -> None:
    layers = [layer for layer in running_norms(network) if layer.tracks and has_moments(layer)]
    moments = [PooledMoments(layer) for layer in layers if pooled]
    hooks = [each.layer.register_forward_pre_hook(each.add) for each in moments]
    try:
        for x in batches:
            with casting(engine, x.device):
                network(x)
    finally:
        for hook in hooks:
            hook.remove()
    for each in moments:
        each.write()


def has_moments(layer: RunningNorm) -> bool:
    """Whether a norm keeps a running mean and a running variance."""
    return {"running_mean", "running_var"} <= dict(layer.named_buffers(recurse=False)).keys()


class PooledMoments:
    """Mean and biased variance per channel of all values that a norm is given.

    NUMERICS: two passes over each batch, and sums over batches in fp64.
    """

    def __init__(self, layer: RunningNorm) -> None:
        self.layer = layer
        like = layer.get_buffer("running_mean")
        self._sums = torch.zeros(2, len(like), dtype=torch.float64, device=like.device)
        self._batches = 0

    def add(self, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        """Add x: (N, K·C, *spatial), with the same N at every call."""
        (x,) = inputs
        wide = x if x.dtype == torch.float64 else x.float()
        axes = (0, *range(2, x.dim()))
        mean = wide.mean(axes, keepdim=True)
        var = (wide - mean).square_().mean(axes).double()  # PERF: on a CPU a tenth of torch.var_mean's time
        mean = mean.flatten().double()
        self._sums += torch.stack([mean, var + mean.square()])
        self._batches += 1

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of all values until now: (K·C,) in fp64."""
        mean, square = self._sums / self._batches
        return mean, (square - mean.square()).clamp_(min=0)

    def write(self) -> None:
        """Write the moments into the running statistics of the norm."""
        mean, var = self.moments()
        self.layer.get_buffer("running_mean").copy_(mean)
        self.layer.get_buffer("running_var").copy_(var)


@contextmanager
def fresh_statistics(layer: RunningNorm, per_statistic: int | None = None) -> Iterator[None]:
    """Reset a norm's batch counters and give all batches equal weight; restore everything at the end.

    Tensors keep their places in memory.

    Args:
        per_statistic: images per statistic, in place of the layer's own `batch`.
    """
    momenta, banks, batch = layer.momenta, layer.banks, layer.batch
    own = {name: t.clone() for name, t in layer.named_buffers(recurse=False)}
    layer.momenta, layer.banks = (CUMULATIVE,) * layer.lanes, None
    if per_statistic is not None and batch is not None:
        layer.batch = per_statistic
    for name in own:
        if name.startswith("num_"):
            layer.get_buffer(name).zero_()
    try:
        yield
    finally:
        layer.momenta, layer.banks, layer.batch = momenta, banks, batch
        for name, t in own.items():
            layer.get_buffer(name).copy_(t)
