"""Share of channels with a small γ (name: small_gamma)."""

from __future__ import annotations

import numpy as np

from normbench.engine.probes.affine_histogram import lane_values
from normbench.engine.probes.protocol import Point, Probe, Reading

#: t, unless the request says another number.
THRESHOLD = 0.01


class SmallGamma(Probe):
    """Share of the channels that their norm scales to almost nothing, so that they could be pruned.

        share = |{c : |γ_c| < t}| / C             over the channels of all sites; by site, too

    `small_gamma@t` sets t; the default is 0.01.

    Source:     liu2017, §3 (channels with small scaling factors are pruned).
    Deviations: the paper's threshold is a percentile over all layers.
    Cost:       none that can be measured.
    """

    def read(self, point: Point, bank: int) -> Reading:
        threshold = float(self.argument or THRESHOLD)
        by_lane = [lane_values(point, "weight", lane) for lane in range(point.lanes)]
        together = [np.concatenate(list(lane.values())) if lane else np.zeros(0) for lane in by_lane]
        return Reading(
            {"share": [_share(values, threshold) for values in together]},
            {"share": [{site: _share(v, threshold) for site, v in lane.items()} for lane in by_lane]},
        )


def _share(values: np.ndarray, threshold: float) -> float | None:
    if values.size == 0 or not np.isfinite(values).all():
        return None
    return float((np.abs(values) < threshold).mean())
