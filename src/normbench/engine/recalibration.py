"""Statistics that norms evaluate with, taken once more with the final weights over a population of images.

Over training images that is PreciseBN (wu2021), over the test images AdaBN (li2016). Both take the images in
batches of a training step, through a network whose norms are in training and in which nothing else is: no
dropout, no augmentation, no weight map that moves. So the layers behind a norm see what its batches make of
their images, as in training, and not what the new statistics would make of them: of the first norm the
statistics are those of all values together, of deeper ones they depend on `batch`.

A running mean and variance become mean and biased variance of all values that the norm was given, what
batches differ by included, which an average of their variances leaves out. Every other statistic, such as
l1bn's deviation or dbn's whitening matrix, is the mean of the batches' own, each of equal weight.

A norm whose training reads history begins a new one and normalizes by it as the batches come in, with the
momentum of its running statistics cumulative and that of any other average, such as brn's renorm_momentum, as
given; its schedules stand where the run left them. noisy_bn adds its noise. A frozen norm whose statistics
stand still keeps them.

Reference:  wu2021 — Rethinking "Batch" in BatchNorm, arXiv:2105.07576, PreciseBN; li2016 — Revisiting Batch
            Normalization for Practical Domain Adaptation, arXiv:1603.04779, AdaBN.
Deviations: the papers have batch norm alone. That AdaBN takes batches of the size in training is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from normbench.engine.device import casting
from normbench.engine.lane_assignment import running
from normbench.models import Network
from normbench.momentum import parse_momentum
from normbench.norms.running import RunningNorm
from normbench.spec import EngineSpec

#: Training images taken at most: wu2021 finds that 1,000 to 10,000 do.
IMAGES = 10_000
CUMULATIVE = parse_momentum("cumulative")


@contextmanager
def recalibrated(network: Network, batches: Iterable[Tensor], engine: EngineSpec) -> Iterator[None]:
    """Let norms have the statistics of a population in place of their running ones, then all as it was.

    Args:
        network: of K lanes; its norms keep running statistics.
        batches: images (N, K·C, H, W), of the same N in all of them: one that `batch` divides.
        engine:  the precision of the forward pass.
    """
    layers = running(network)
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_fresh_statistics(layer))
        network.eval()
        for layer in layers:
            layer.train()
        _take(network, batches, engine)
        network.train()
        yield


@torch.no_grad()
def _take(network: Network, batches: Iterable[Tensor], engine: EngineSpec) -> None:
    pools = [Pool(layer) for layer in running(network) if layer.tracks and Pool.fits(layer)]
    hooks = [pool.layer.register_forward_pre_hook(pool.add) for pool in pools]
    try:
        for x in batches:
            with casting(engine, x.device):
                network(x)
    finally:
        for hook in hooks:
            hook.remove()
    for pool in pools:
        pool.give()


class Pool:
    """Mean and biased variance of all values that a norm is given, by channel.

    NUMERICS: two passes over each batch, and sums over batches in fp64.
    """

    def __init__(self, layer: RunningNorm) -> None:
        self.layer = layer
        like = layer.get_buffer("running_mean")
        self._sums = torch.zeros(2, len(like), dtype=torch.float64, device=like.device)
        self._batches = 0

    @staticmethod
    def fits(layer: RunningNorm) -> bool:
        """Whether a norm keeps such a pair."""
        return {"running_mean", "running_var"} <= dict(layer.named_buffers(recurse=False)).keys()

    def add(self, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        """Take in x: (N, K·C, *spatial), of the same N at every call."""
        (x,) = inputs
        wide = x if x.dtype == torch.float64 else x.float()
        axes = (0, *range(2, x.dim()))
        mean = wide.mean(axes, keepdim=True)
        var = (wide - mean).square_().mean(axes).double()  # PERF: on a CPU a tenth of torch.var_mean's time
        mean = mean.flatten().double()
        self._sums += torch.stack([mean, var + mean.square()])
        self._batches += 1

    def give(self) -> None:
        """Make them the norm's running statistics."""
        mean, square = self._sums / self._batches
        self.layer.get_buffer("running_mean").copy_(mean)
        self.layer.get_buffer("running_var").copy_((square - mean.square()).clamp_(min=0))


@contextmanager
def _fresh_statistics(layer: RunningNorm) -> Iterator[None]:
    """Let a norm begin to count, and weigh all batches alike; afterwards it has all back, at the same place
    in memory.
    """
    momenta, banks = layer.momenta, layer.banks
    own = {name: t.clone() for name, t in layer.named_buffers(recurse=False)}
    layer.momenta, layer.banks = (CUMULATIVE,) * layer.lanes, None
    for name in own:
        if name.startswith("num_"):
            layer.get_buffer(name).zero_()
    try:
        yield
    finally:
        layer.momenta, layer.banks = momenta, banks
        for name, t in own.items():
            layer.get_buffer(name).copy_(t)
