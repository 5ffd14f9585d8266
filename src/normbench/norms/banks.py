"""Banks: further sets of a layer's running statistics, for runs that differ in the norm momentum alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from normbench.momentum import Momentum
from normbench.norms.ema import MovingAverage


class Banks(nn.Module):
    """M further sets of a layer's running statistics. Each has its own momenta; all move in one call.

    Args:
        momenta: for every bank, one momentum per lane.
        kept:    the layer's running statistics by name, as they are now. Each is held here as (M, K, values).
        like:    a tensor of the dtype and device that weights are computed in.
    """

    #: w_t of every bank and lane in the present step: (M, K).
    weight: Tensor

    def __init__(
        self, momenta: Sequence[tuple[Momentum, ...]], kept: Mapping[str, Tensor], like: Tensor
    ) -> None:
        super().__init__()
        self.lanes, self.kept = len(momenta[0]), tuple(kept)
        every = [momentum for lanes in momenta for momentum in lanes]  # (M·K)
        self.average = MovingAverage(every)
        self.average.apply(lambda rate: rate.to(like.device, like.dtype))
        for name, statistic in kept.items():
            self.register_buffer(name, torch.stack([statistic.reshape(self.lanes, -1)] * len(momenta)))
        weight = torch.zeros(len(momenta), self.lanes, dtype=torch.float64)
        self.register_buffer("weight", weight, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Banks:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.average.apply(fn)
        return self

    def of(self, number: int, like: Tensor, name: str) -> Tensor:
        """A statistic of bank 1, 2, …: a view in the shape of the layer's own."""
        bank: Tensor = getattr(self, name)[number - 1]
        return bank.view(like.shape)

    def reset(self, name: str, value: Tensor) -> None:
        """Give a statistic of all banks the value that the layer's own has."""
        getattr(self, name).copy_(value.reshape(self.lanes, -1))

    def begin_step(self, step: int, steps: int) -> None:
        """Compute the weights of a step."""
        self.weight.copy_(self.average.weight_at(step, steps).view(-1, self.lanes))

    def move(self, name: str, new: Tensor) -> None:
        """Move a statistic in every bank towards that of the batch, by the weights of the step."""
        self.average.update(getattr(self, name), new, self.weight)
