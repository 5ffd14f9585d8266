"""Running statistics of several batch norms in one buffer, so that a step moves all of them together.

A batch norm alone takes five calls for its running statistics: zeros that the kernel writes to, a limit, two
averages and a count. Here all layers together take five. On a GPU each call starts a kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from normbench.norms.methods.bn import BatchNorm, Slots


class SharedStatistics:
    """Moves the running statistics of some layers in one call, with the bits of a call for each layer.

    As a context manager it surrounds a training pass: layers leave the statistics of their batch here, and at
    the end all running ones move. The layers' own buffers become views of the buffers here. So the network
    must not move to another device afterwards.

    Args:
        layers: with the same momenta and lanes; on their device; `can_share` accepts each.
    """

    def __init__(self, layers: Sequence[BatchNorm]) -> None:
        self.layers = list(layers)
        first = self.layers[0]
        means, variances, counts = (
            [layer.get_buffer(name) for layer in self.layers]
            for name in ("running_mean", "running_var", "num_batches_tracked")
        )
        sizes = [mean.numel() for mean in means]
        self.running = torch.stack([torch.cat(means), torch.cat(variances)])  # (2, sum of K·C)
        self.counts = torch.stack(counts)  # (layers, K), or (layers,) for K = 1
        self._new = torch.zeros_like(self.running)
        lane = torch.arange(first.lanes, dtype=torch.int32)
        each = [lane.repeat_interleave(layer.channels) for layer in self.layers]
        self._lane = torch.cat(each).to(self.running.device)
        self._new_variances, self._count = self._new[1], self.counts[0]
        self._limit = torch.finfo(self._new.dtype).max
        self._slots = Slots()
        views = zip(*(row.split(sizes) for row in self.running), self.counts, strict=True)
        # .data: autograd must not take a write of one layer for a write to all
        new = zip(*([slot.data for slot in row.split(sizes)] for row in self._new), strict=True)
        for layer, (mean, variance, count), of_batch in zip(self.layers, views, new, strict=True):
            layer._buffers.update(running_mean=mean, running_var=variance, num_batches_tracked=count)
            layer.slots, layer.slot = self._slots, of_batch
        #: Views of each statistic of each layer as `MovingAverage.update` sees it: (K, C), or (C,) for K = 1.
        self._apart = [
            [
                part if first.lanes == 1 else part.view(first.lanes, -1)
                for row in both
                for part in row.split(sizes)
            ]
            for both in (self.running, self._new)
        ]

    def __enter__(self) -> None:
        self._new.zero_()
        self._slots.used = True

    def __exit__(self, kind: object, *error: object) -> None:
        self._slots.used = False
        if kind is None:
            self._move()

    def _move(self) -> None:
        self.counts += 1
        self._new_variances.clamp_(max=self._limit)  # as `BatchNorm._keep`
        weight = self.layers[0].average.weight(self._count)
        if weight.dtype != self.running.dtype:
            weight = weight.to(self.running.dtype)
        if self.running.is_cuda:
            each = weight if weight.numel() == 1 else weight.index_select(0, self._lane)
            self.running.lerp_(self._new, each)
            return
        # NUMERICS: a CPU rounds the last numbers of a tensor differently, so each one moves by itself
        running, new = self._apart
        weight = weight if weight.numel() == 1 else weight.unsqueeze(-1)
        torch._foreach_lerp_(running, new, [weight] * len(running))


def can_share(layer: nn.Module, images: int) -> bool:
    """Whether a layer can leave its statistics to `SharedStatistics` in steps of that many images."""
    return (
        type(layer) is BatchNorm
        and layer.tracked
        and layer.banks is None
        and layer.eps_gain is None
        and layer.variance == "unbiased"
        and layer.center
        and layer.scale
        and layer.chunks(images) == 1
    )
