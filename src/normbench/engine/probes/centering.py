"""Distance of normalized activations from zero mean and unit variance (name: centering)."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.engine.probes.moments import Moments
from normbench.engine.probes.protocol import ActivationProbe, Point, Reading, mean_and_max, split_lanes
from normbench.norms import Norm


class Centering(ActivationProbe):
    """How far each channel is from mean 0 and deviation 1 after the norm, before its γ and β.

        mean[l] = mean over channels of |m|,  deviation[l] = mean over channels of |√v − 1|

    m and v are mean and variance of a channel of z = (y − β) / γ over the training images (see `images`), for
    the output y of the norm at site l. A norm without γ, or β, has 1, or 0. Channels with γ = 0 are left out.
    Batch norm has 0 up to ε and the differences between batches. Channels far from 0 and 1 come close to
    elimination singularities: the activation after them may never, or always, be active.

    Source:     qiao2019b, §3 (elimination singularities; statistics of channels after channel-based norms).
    Deviations: the two averages are ours. γ and β are undone, so that the quantity is the norm's own; for
                norms with further factors (bcn, bnet, evonorm, frn) only `weight` and `bias` are undone.
    Cost:       as `running_error`.
    """

    at = "output"

    def collector(self, lanes: int) -> Moments:
        return Moments(lanes)

    def read(self, point: Point, bank: int) -> Reading:
        mean: dict[str, Tensor] = {}
        deviation: dict[str, Tensor] = {}
        for site, layer in point.network.norms().items():
            moments: Moments = point.activity[site]
            scale, shift = affine(layer, moments.mean())
            kept = (scale != 0).double()
            z = ((moments.mean() - shift) / scale).abs()
            spread = (moments.var().sqrt() / scale.abs() - 1).abs()
            mean[site], deviation[site] = (
                torch.where(kept > 0, t, 0.0).sum(1) / kept.sum(1) for t in (z, spread)
            )
        mean_mean, mean_max = mean_and_max(mean, point.lanes)
        deviation_mean, deviation_max = mean_and_max(deviation, point.lanes)
        return Reading(
            {
                "mean_mean": mean_mean, "mean_max": mean_max, "deviation_mean": deviation_mean,
                "deviation_max": deviation_max,
            },
            {"mean": split_lanes(mean, point.lanes), "deviation": split_lanes(deviation, point.lanes)},
        )  # fmt: skip


def affine(layer: Norm, like: Tensor) -> tuple[Tensor, Tensor]:
    """γ and β of a layer in the shape of `like`, (K, C) in fp64; ones and zeros for what it does not have."""
    scale, shift = torch.ones_like(like), torch.zeros_like(like)
    if layer.weight is not None:
        scale = layer.weight.detach().double().view_as(like)
    if layer.bias is not None:
        shift = layer.bias.detach().double().view_as(like)
    return scale, shift
