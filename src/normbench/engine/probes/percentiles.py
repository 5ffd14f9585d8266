"""Percentiles of the input of one unit (name: percentiles)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from normbench.data.shape import Shape
from normbench.engine.probes.protocol import ActivationProbe, Point, Reading
from normbench.errors import unknown
from normbench.models import Network

#: {15, 50, 85} in ioffe2015, {1, 20, 80, 99} in wu2018.
PERCENTILES = (1, 15, 20, 50, 80, 85, 99)
#: Values per lane at most: those of the first images of the pass, which is in random order.
MOST_VALUES = 2**17


class Percentiles(ActivationProbe):
    """Percentiles of the values that one channel of a site is given.

        p = the p-th percentile of x over the training images (see `images`), p = 1, 15, 20, 50, 80, 85, 99

    `percentiles@fc2.7` reads channel 7 of site fc2, `percentiles@fc2` channel 0; the default is channel 0 of
    the last site with a norm.

    Source:     ioffe2015, figure 1 (15, 50, 85: a unit of the last hidden layer); wu2018, figure 6
                (1, 20, 80, 99).
    Deviations: at most 2¹⁷ values per lane.
    Cost:       as `running_error`; memory for the values.
    """

    at = "input"

    def collector(self, lanes: int) -> Values:
        return Values(lanes, self._unit()[1])

    def _unit(self) -> tuple[str, int]:
        """Site, empty for the last one, and channel."""
        site, dot, channel = self.argument.rpartition(".")
        return (site, int(channel)) if dot and channel.isdecimal() else (self.argument, 0)

    def check(self, network: Network, image: Shape) -> None:
        """Refuse a site or a channel that the network does not have.

        Raises:
            InputError: there is no such site, or no such channel.
        """
        if not self.argument:
            return
        sites = {site: layer.channels for site, layer in network.norms().items()}
        site, channel = self._unit()
        if site and site not in sites:
            raise unknown("site of percentiles", site, sites)
        site = site or next(reversed(sites), "")
        if site and channel >= sites[site]:
            raise unknown(f"channel of site {site}", channel, [f"0 to {sites[site] - 1}"])

    def read(self, point: Point, bank: int) -> Reading:
        site = self._unit()[0] or next(reversed(list(point.activity)), "")
        values = point.activity[site].by_lane() if site else [np.zeros(0)] * point.lanes
        found = [_percentiles(of_lane) for of_lane in values]
        return Reading({f"p{p}": [lane[i] for lane in found] for i, p in enumerate(PERCENTILES)})


def _percentiles(values: np.ndarray) -> list[float | None]:
    if values.size == 0 or not np.isfinite(values).all():
        return [None] * len(PERCENTILES)
    return [float(value) for value in np.percentile(values, PERCENTILES)]


class Values:
    """All values of one channel of every lane, up to a number."""

    def __init__(self, lanes: int, channel: int) -> None:
        self.lanes, self.channel = lanes, channel
        self._kept: list[Tensor] = []
        self._number = 0

    def __call__(self, x: Tensor) -> None:
        """Take in x: (N, K·C, *spatial)."""
        by_lane = x.unflatten(1, (self.lanes, -1))
        if self.channel >= by_lane.shape[2] or self._number >= MOST_VALUES:
            return
        self._kept.append(by_lane[:, :, self.channel].transpose(0, 1).flatten(1).cpu())
        self._number += self._kept[-1].shape[1]

    def by_lane(self) -> list[np.ndarray]:
        """The values of every lane."""
        if not self._kept:
            return [np.zeros(0)] * self.lanes
        values = torch.cat(self._kept, 1)[:, :MOST_VALUES].double().numpy()
        return list(values)
