"""Share of dead channels (name: dead_channels)."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.engine.probes.protocol import ActivationProbe, Point, Reading, mean_and_max, split_lanes


class DeadChannels(ActivationProbe):
    """Share of the channels whose activation is one constant at every position of every training image.

        share[l] = |{c : max y_c = min y_c}| / C              y the output of activation l

    After a ReLU the constant is 0: no gradient reaches the channel. Activations are named act1, act2, … in
    the order of the modules; a norm that replaces the activation counts as one. Scalars: mean and maximum
    over activations.

    Source:     qiao2019b, §3 (channels that are always deactivated).
    Deviations: constant instead of 0, so that the definition fits every activation.
    Cost:       as `running_error`.
    """

    at = "activation"

    def collector(self, lanes: int) -> Constancy:
        return Constancy()

    def read(self, point: Point, bank: int) -> Reading:
        found = {name: each for name, each in point.activity.items() if each.seen}
        share = {name: e.constant().view(point.lanes, -1).double().mean(1) for name, e in found.items()}
        mean, largest = mean_and_max(share, point.lanes)
        return Reading({"mean": mean, "max": largest}, {"share": split_lanes(share, point.lanes)})


class Constancy:
    """Whether a channel has one value only. NaN differs from itself."""

    def __init__(self) -> None:
        self._first = torch.zeros(0)
        self._differs = torch.zeros(0, dtype=torch.bool)

    @property
    def seen(self) -> bool:
        """Whether there was any value."""
        return self._first.numel() > 0

    def __call__(self, y: Tensor) -> None:
        """Take in y: (N, K·C, *spatial)."""
        if not self.seen:
            self._first = y[(slice(1), slice(None), *(slice(1),) * (y.dim() - 2))].clone()
            self._differs = torch.zeros(y.shape[1], dtype=torch.bool, device=y.device)
        differs = y != self._first
        for axis in reversed((0, *range(2, y.dim()))):  # PERF: faster than over all axes at once
            differs = differs.any(axis)
        self._differs |= differs

    def constant(self) -> Tensor:
        """(K·C,) bool."""
        return ~self._differs
