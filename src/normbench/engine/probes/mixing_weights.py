"""Mixing weights of switchable and batch-instance normalization (name: mixing_weights)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from normbench.engine.probes.protocol import Point, Probe, Reading, split_lanes

#: The order of the logits of `sn`.
PARTS = ("in", "ln", "bn")


class MixingWeights(Probe):
    """How much instance, layer and batch statistics count in sn, and batch norm in bin.

        mean[l] = softmax λ,  var[l] = softmax λ'           each (in, ln, bn); luo2019, eq. (5)
        gate[l] = ρ of every channel, clipped to [0, 1]     nam2018, eq. (4)

    Scalars: their means over sites; gate_bn is the mean over the channels first. On maps of one position sn
    leaves out `in`; here the softmax over all three is given, as in the paper. Norms without mixing weights
    have none.

    Source: luo2019, §3 and figure 5; nam2018, §4 (distribution of ρ).
    Cost:   none that can be measured.
    """

    def read(self, point: Point, bank: int) -> Reading:
        found: dict[str, dict[str, Tensor]] = {"mean": {}, "var": {}, "gate": {}}
        for site, layer in point.network.norms().items():
            parameters = dict(layer.named_parameters(recurse=False))
            for statistic in ("mean", "var"):
                logits = parameters.get(f"{statistic}_logits")
                if logits is not None:
                    found[statistic][site] = _by_lane(logits, point.lanes).softmax(1)
            if "gate" in parameters:
                found["gate"][site] = _by_lane(parameters["gate"], point.lanes).clamp(0, 1)
        scalars = {
            f"{statistic}_{part}": _mean(
                [weights[:, i] for weights in found[statistic].values()], point.lanes
            )
            for statistic in ("mean", "var")
            for i, part in enumerate(PARTS)
        }
        scalars["gate_bn"] = _mean([gate.mean(1) for gate in found["gate"].values()], point.lanes)
        return Reading(scalars, {name: split_lanes(by_site, point.lanes) for name, by_site in found.items()})


def _by_lane(parameter: Tensor, lanes: int) -> Tensor:
    """A lane-major parameter as (K, values) in fp64."""
    return parameter.detach().double().view(lanes, -1)


def _mean(by_site: Sequence[Tensor], lanes: int) -> Sequence[float | None]:
    """Mean over sites of values (K,); None for every lane if there is no site."""
    means: list[float] = torch.stack(list(by_site)).mean(0).tolist() if by_site else []
    return means or [None] * lanes
