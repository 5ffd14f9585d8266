"""Length of gradients and their variance over batches (name: gradient_norm)."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.engine.probes.gradients import by_lane, loss_and_gradients, preserved, put_back
from normbench.engine.probes.protocol import Point, Probe, Reading, layer_of, per_lane, split_lanes

#: Batches at a reading, or fewer in a shorter epoch.
BATCHES = 4


class GradientNorm(Probe):
    """Length of the gradient, and how much it varies from batch to batch, by layer and in all.

        norm     = mean over batches b of ‖g_b‖
        variance = mean over batches b of ‖g_b − ḡ‖²,  ḡ = mean g_b

    Four training batches of the present epoch, at equal distances, with the present weights and norms in
    training. By layer for the weights of convolutions and linear layers; the scalars are over all parameters.
    The metric of a run is the mean over its readings.

    Source:     bjorck2018, §3 (gradients by layer, noise over batches).
    Deviations: the paper has sums of absolute gradients over images.
    Cost:       4 forward and backward passes of a training batch at a reading.
    """

    averages = True
    cheap = False

    def read(self, point: Point, bank: int) -> Reading:
        assert point.batches is not None
        per_epoch = point.batches.steps_per_epoch
        count = min(BATCHES, per_epoch)
        first = (point.step - 1) // per_epoch * per_epoch
        roles = point.network.roles()
        found: list[dict[str, Tensor]] = []
        with preserved(point.network):
            state = [tensor.detach().clone() for tensor in point.network.buffers()]
            for i in range(count):
                put_back(point.network, state)
                _, gradients = loss_and_gradients(point, *point.batches.at(first + per_epoch * i // count))
                found.append({name: by_lane(g, point.lanes) for name, g in gradients.items()})
        together = [torch.cat(list(gradients.values()), 1) for gradients in found]
        norm, variance = norm_and_variance(together)
        weights = [name for name in found[0] if roles[name] == "weight"]
        each = {layer_of(name): norm_and_variance([g[name] for g in found]) for name in weights}
        return Reading(
            {"norm": per_lane(norm), "variance": per_lane(variance)},
            {
                "norm": split_lanes({layer: n for layer, (n, _) in each.items()}, point.lanes),
                "variance": split_lanes({layer: v for layer, (_, v) in each.items()}, point.lanes),
            },
        )


def norm_and_variance(gradients: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean length and variance, (K,) each, of gradients (K, values), one per batch."""
    stacked = torch.stack(gradients)  # (batches, K, values)
    deviation = stacked - stacked.mean(0)
    return stacked.norm(dim=2).mean(0), deviation.square().sum(2).mean(0)
