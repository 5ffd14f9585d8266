"""Mixing weights of switchable normalization (name: mixing_weights)."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.engine.probes.protocol import Point, Probe, Reading, split_lanes

#: The order of the logits of `sn`.
PARTS = ("in", "ln", "bn")


class MixingWeights(Probe):
    """How much instance, layer and batch statistics count in a switchable norm.

        mean[l] = softmax λ,  var[l] = softmax λ'           each (in, ln, bn); luo2019, eq. (5)

    Scalars: their means over sites. On maps of one position sn leaves out `in`; here the softmax over all
    three is given, as in the paper. Norms without mixing weights have none.

    Source: luo2019, §3 and figure 5.
    Cost:   none that can be measured.
    """

    def read(self, point: Point, bank: int) -> Reading:
        found: dict[str, dict[str, Tensor]] = {"mean": {}, "var": {}}
        for site, layer in point.network.norms().items():
            parameters = dict(layer.named_parameters(recurse=False))
            for statistic, by_site in found.items():
                logits = parameters.get(f"{statistic}_logits")
                if logits is not None:
                    by_site[site] = logits.detach().double().view(point.lanes, len(PARTS)).softmax(1)
        scalars: dict[str, list[float | None]] = {}
        for statistic, by_site in found.items():
            for i, part in enumerate(PARTS):
                name = f"{statistic}_{part}"
                scalars[name] = (
                    torch.stack(list(by_site.values())).mean(0)[:, i].tolist()
                    if by_site
                    else [None] * point.lanes
                )
        return Reading(scalars, {name: split_lanes(by_site, point.lanes) for name, by_site in found.items()})
