"""Distance of the weights from where they started (name: distance)."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.engine.probes.protocol import Point, Probe, Reading, per_lane, split_lanes, weights


class Distance(Probe):
    """How far the weights of convolutions and linear layers are from their initial values w⁰.

        distance[l] = ‖w_l − w⁰_l‖,  total = √(Σ_l ‖w_l − w⁰_l‖²),  relative = total / √(Σ_l ‖w⁰_l‖²)

    w⁰ is made again from the run's seed, so nothing is kept along the run.

    Source: hoffer2017, §3.1 (distance from the initialization grows with the logarithm of the steps).
    Cost:   one initialisation of the network for all readings of a run.
    """

    def __init__(self, argument: str = "") -> None:
        super().__init__(argument)
        self._initial: dict[str, Tensor] | None = None

    def read(self, point: Point, bank: int) -> Reading:
        if self._initial is None:
            self._initial = weights(point.initial())
        distances = {
            layer: (w.double() - self._initial[layer].double()).norm(dim=1)
            for layer, w in point.weights().items()
        }
        total = torch.stack(list(distances.values())).norm(dim=0)
        before = torch.stack([w.double().norm(dim=1) for w in self._initial.values()]).norm(dim=0)
        return Reading(
            {"total": per_lane(total), "relative": per_lane(total / before)},
            {"distance": split_lanes(distances, point.lanes)},
        )
