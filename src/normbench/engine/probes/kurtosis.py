"""Excess kurtosis of the values that norms are given (name: kurtosis)."""

from __future__ import annotations

from torch import Tensor

from normbench.engine.probes.moments import Moments
from normbench.engine.probes.protocol import ActivationProbe, Point, Reading, mean_and_max, split_lanes


class Kurtosis(ActivationProbe):
    """Excess kurtosis of the input of every site, averaged over its channels.

        kurtosis[l] = mean over channels of E (x − μ)⁴ / σ⁴ − 3          0 for a normal distribution

    E is over all values of a channel in one pass over the training images (see `images`). A constant channel
    has none, and then neither has its site. Scalars: mean and maximum over sites.

    Source:     ioffe2015, §3.2 (W u + b is "more Gaussian" than u, so norms stand before the
                activation).
    Deviations: the paper gives no measure.
    Cost:       as `running_error`, and three more products per value.
    """

    at = "input"

    def collector(self, lanes: int) -> Moments:
        return Moments(lanes, order=4)

    def read(self, point: Point, bank: int) -> Reading:
        by_site: dict[str, Tensor] = {
            site: (moments.fourth() / moments.var().square() - 3).mean(1)
            for site, moments in point.activity.items()
        }
        mean, largest = mean_and_max(by_site, point.lanes)
        return Reading({"mean": mean, "max": largest}, {"kurtosis": split_lanes(by_site, point.lanes)})
