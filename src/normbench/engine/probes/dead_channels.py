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

    def collector(self, lanes: int) -> Extremes:
        return Extremes()

    def read(self, point: Point, bank: int) -> Reading:
        found = {name: extremes for name, extremes in point.activity.items() if extremes.seen}
        share = {name: e.constant().view(point.lanes, -1).double().mean(1) for name, e in found.items()}
        mean, largest = mean_and_max(share, point.lanes)
        return Reading({"mean": mean, "max": largest}, {"share": split_lanes(share, point.lanes)})


class Extremes:
    """Smallest and largest value of every channel."""

    def __init__(self) -> None:
        self._least = self._most = torch.zeros(0)

    @property
    def seen(self) -> bool:
        """Whether there was any value."""
        return self._least.numel() > 0

    def __call__(self, y: Tensor) -> None:
        """Take in y: (N, K·C, *spatial)."""
        axes = (0, *range(2, y.dim()))
        least, most = y.amin(axes), y.amax(axes)
        if self.seen:
            least, most = torch.minimum(least, self._least), torch.maximum(most, self._most)
        self._least, self._most = least, most

    def constant(self) -> Tensor:
        """Whether a channel has one value only: (K·C,) bool."""
        return self._least == self._most
