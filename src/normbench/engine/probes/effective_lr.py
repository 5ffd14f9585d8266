"""Effective learning rate (name: effective_lr)."""

from __future__ import annotations

import torch

from normbench.engine.probes.protocol import Point, Probe, Reading, per_lane, split_lanes


class EffectiveLr(Probe):
    """Learning rate of the direction of a weight that a norm follows.

        rate[l] = η / ‖w_l‖²          η the learning rate of the last step, with its schedule

    mean: over all layers but the classifier, which no norm follows. The definition is for layers whose scale
    does not matter, and for SGD.

    Source: hoffer2018, §3.1.
    Cost:   none that can be measured.
    """

    def read(self, point: Point, bank: int) -> Reading:
        weights = point.weights()
        lr = torch.tensor(point.lr, dtype=torch.float64, device=next(iter(weights.values())).device)
        rates = {layer: lr / w.double().square().sum(1) for layer, w in weights.items()}
        hidden = list(rates.values())[:-1]
        mean = per_lane(torch.stack(hidden).mean(0)) if hidden else [None] * point.lanes
        return Reading({"mean": mean}, {"rate": split_lanes(rates, point.lanes)})
