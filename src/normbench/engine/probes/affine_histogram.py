"""Histograms of γ and β (name: affine_histogram)."""

from __future__ import annotations

import numpy as np

from normbench.engine.probes.protocol import ByLayer, Point, Probe, Reading

#: Bins between the smallest and the largest value.
BINS = 32


class AffineHistogram(Probe):
    """Distribution of the scales γ and shifts β of the norms.

        gamma[l], beta[l] = 32 equal bins from the smallest to the largest value of site l
        gamma_mean, gamma_sd, beta_mean, beta_sd over the channels of all sites

    Source: liu2017 (distribution of scaling factors over channels).
    Cost:   none that can be measured.
    """

    def read(self, point: Point, bank: int) -> Reading:
        scalars: dict[str, list[float | None]] = {}
        layers: dict[str, list[ByLayer]] = {}
        for name, attribute in (("gamma", "weight"), ("beta", "bias")):
            by_lane = [lane_values(point, attribute, lane) for lane in range(point.lanes)]
            together = [np.concatenate(list(lane.values())) if lane else np.zeros(0) for lane in by_lane]
            scalars[f"{name}_mean"] = [float(values.mean()) if values.size else None for values in together]
            scalars[f"{name}_sd"] = [float(values.std()) if values.size else None for values in together]
            layers[name] = [_histograms(lane) for lane in by_lane]
        return Reading(scalars, layers)


def lane_values(point: Point, attribute: str, lane: int) -> dict[str, np.ndarray]:
    """γ ("weight") or β ("bias") of one lane, by site, for the norms that have it."""
    found = {}
    for site, layer in point.network.norms().items():
        parameter = getattr(layer, attribute)
        if parameter is not None:
            found[site] = parameter.detach().view(point.lanes, -1)[lane].double().cpu().numpy()
    return found


def _histograms(by_site: dict[str, np.ndarray]) -> ByLayer:
    histograms = {}
    for site, values in by_site.items():
        if np.isfinite(values).all():
            counts, edges = np.histogram(values, bins=BINS)
            histograms[site] = {"edges": edges.tolist(), "counts": counts.tolist()}
    return histograms
