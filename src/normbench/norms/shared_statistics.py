"""Running statistics of several batch norms in one buffer, so that a step moves all of them together.

On a GPU every call starts a kernel. A batch norm alone takes five for its running statistics: zeros that the
kernel writes to, a limit, two averages and a count. Here all layers together take about as many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from normbench.norms.methods.bn import BatchNorm


class SharedStatistics:
    """Moves the running statistics of some layers in one call, with the bits of a call for each layer.

    The layers' own buffers become views of the buffers here. So the network must not move to another device
    afterwards.

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
        # .data: autograd must not take a write of one layer for a write to all
        slots = [[slot.data for slot in row.split(sizes)] for row in self._new]
        self._slots = list(zip(*slots, strict=True))
        views = zip(*(row.split(sizes) for row in self.running), self.counts, strict=True)
        for layer, (mean, variance, count) in zip(self.layers, views, strict=True):
            layer._buffers.update(running_mean=mean, running_var=variance, num_batches_tracked=count)

    @contextmanager
    def moving(self) -> Iterator[None]:
        """In a training pass, let layers leave their statistics here; move all of them at the end."""
        self._new.zero_()
        for layer, slots in zip(self.layers, self._slots, strict=True):
            layer.slots = slots
        try:
            yield
        finally:
            for layer in self.layers:
                layer.slots = None
        self._move()

    @torch.no_grad()
    def _move(self) -> None:
        self.counts += 1
        self._new[1].clamp_(max=torch.finfo(self._new.dtype).max)  # as `BatchNorm._keep`
        first = self.layers[0]
        weight = first.average.weight(self.counts[0]).to(self.running.dtype)
        self.running.lerp_(self._new, weight if weight.numel() == 1 else weight.index_select(0, self._lane))


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
