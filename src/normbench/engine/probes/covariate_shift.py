"""Internal covariate shift as a change of gradients (name: covariate_shift)."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.engine.evaluate import lane_losses
from normbench.engine.probes.gradients import by_lane, loss_and_gradients, preserved, put_back
from normbench.engine.probes.protocol import Point, Probe, Reading, layer_of, split_lanes
from normbench.engine.probes.smoothness import scaled


class CovariateShift(Probe):
    """How much an update of the layers below changes the gradient of a layer's weight.

        shift[l]  = ‖g_l − g'_l‖          g_l  the gradient of w_l with all weights as they are
        cosine[l] = cos(g_l, g'_l)        g'_l the same after θ ← θ − η g of all parameters before w_l

    The batch is that of the last step, norms are in training, and η is `optim.lr` as scaled, without its
    schedule, as for smoothness. Layers are the convolutions and linear layers in the order of the network,
    without the first, which has no layer below. Parameters before w_l include biases and norms. Scalars are
    means over layers; a network of one layer has none. The metric of a run is the mean over its readings.

    Source:     santurkar2018, definition 2.1 and figure 2.
    Deviations: the update is the plain gradient step. Weight decay and momentum do not enter.
    Cost:       one forward and backward pass of a training batch per layer at a reading.
    """

    averages = True
    cheap = False

    def read(self, point: Point, bank: int) -> Reading:
        assert point.batches is not None
        x, y = point.batches.at(point.step - 1)
        network, lanes = point.network, point.lanes
        roles, trained = network.roles(), network.trained_parameters()
        rates = torch.tensor([s.lr for s in point.assignment.lanes], dtype=torch.float64, device=x.device)
        shift: dict[str, Tensor] = {}
        cosine: dict[str, Tensor] = {}
        with preserved(network):
            state = [tensor.detach().clone() for tensor in network.buffers()]
            _, gradients = loss_and_gradients(point, x, y)
            for number, (name, p) in enumerate(trained.items()):
                if roles[name] == "weight" and number > 0:
                    put_back(network, state)
                    layer = layer_of(name)
                    before, after = (by_lane(g, lanes) for g in (gradients[name], _gradient(point, p, x, y)))
                    shift[layer] = (before - after).norm(dim=1)
                    cosine[layer] = torch.cosine_similarity(before, after, dim=1)
                with torch.no_grad():
                    p.add_(scaled(gradients[name], -rates))
        return Reading(
            {"shift": _mean(shift, lanes), "cosine": _mean(cosine, lanes)},
            {"shift": split_lanes(shift, lanes), "cosine": split_lanes(cosine, lanes)},
        )


def _gradient(point: Point, p: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of one parameter."""
    with torch.enable_grad():
        losses = lane_losses(point.network(x), y, point.spec.optim.label_smoothing).mean(0)
        return torch.autograd.grad(losses.sum(), p)[0]


def _mean(by_layer: dict[str, Tensor], lanes: int) -> list[float | None]:
    if not by_layer:
        return [None] * lanes
    mean: list[float | None] = torch.stack(list(by_layer.values())).mean(0).tolist()
    return mean
