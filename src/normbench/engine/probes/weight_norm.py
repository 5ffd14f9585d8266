"""Length of the weights (name: weight_norm)."""

from __future__ import annotations

import torch

from normbench.engine.probes.protocol import Point, Probe, Reading, per_lane, split_lanes


class WeightNorm(Probe):
    """Length of the stored weights of every convolution and linear layer.

        norm[l] = ‖w_l‖,  total = √(Σ_l ‖w_l‖²),  mean = mean over layers of ‖w_l‖

    The stored weight, before a weight map such as ws. Layers are named by their place in the network.

    Source: hoffer2018, §3 (before a norm only the direction of a weight matters).
    Cost:   none that can be measured.
    """

    def read(self, point: Point, bank: int) -> Reading:
        norms = {layer: w.double().norm(dim=1) for layer, w in point.weights().items()}
        stacked = torch.stack(list(norms.values()))
        return Reading(
            {"total": per_lane(stacked.norm(dim=0)), "mean": per_lane(stacked.mean(0))},
            {"norm": split_lanes(norms, point.lanes)},
        )
