"""Smoothness of the loss along the gradient (name: smoothness)."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.engine.probes.gradients import loss_and_gradients, preserved, put_back, squared_norm
from normbench.engine.probes.protocol import Point, Probe, Reading, per_lane

#: Lengths of the moves along −g, as multiples of the run's learning rate without its schedule.
FACTORS = (0.5, 1.0, 2.0, 4.0)


class Smoothness(Probe):
    """How loss and gradient g of one batch change along −g, at θ_a = θ − a η g for a = ½, 1, 2, 4.

        loss_range           = max L(θ_a) − min L(θ_a)            θ among the θ_a
        gradient_change      = max ‖g − g(θ_a)‖
        effective_smoothness = max ‖g − g(θ_a)‖ / ‖θ_a − θ‖

    The batch is that of the last step, norms are in training, and η is `optim.lr` as scaled, without its
    schedule, so that points of one run can be compared. The metric of a run is the mean over its readings.

    Source:     santurkar2018, §3.1 and figure 4: variation in loss, gradient predictiveness, effective
                β-smoothness.
    Deviations: four moves; the paper does not fix the number. Weight decay and momentum do not enter.
    Cost:       5 forward and backward passes of a training batch at a reading.
    """

    averages = True
    cheap = False

    def read(self, point: Point, bank: int) -> Reading:
        assert point.batches is not None
        x, y = point.batches.at(point.step - 1)
        network, lanes = point.network, point.lanes
        with preserved(network):
            state = [tensor.detach().clone() for tensor in network.buffers()]
            trained = list(network.trained_parameters().values())
            start = [p.detach().clone() for p in trained]
            loss, gradients = loss_and_gradients(point, x, y)
            rates = torch.tensor([s.lr for s in point.assignment.lanes], dtype=torch.float64, device=x.device)
            losses, changes, smoothness = [loss], [], []
            for factor in FACTORS:
                moves = [scaled(g, -factor * rates) for g in gradients.values()]
                with torch.no_grad():
                    for p, old, move in zip(trained, start, moves, strict=True):
                        p.copy_(old + move)
                put_back(network, state)
                there, others = loss_and_gradients(point, x, y)
                change = squared_norm([g - others[name] for name, g in gradients.items()], lanes).sqrt()
                losses.append(there)
                changes.append(change)
                smoothness.append(change / squared_norm(moves, lanes).sqrt())
        along = torch.stack(losses)
        return Reading(
            {
                "loss_range": per_lane(along.amax(0) - along.amin(0)),
                "gradient_change": per_lane(torch.stack(changes).amax(0)),
                "effective_smoothness": per_lane(torch.stack(smoothness).amax(0)),
            }
        )


def scaled(tensor: Tensor, factors: Tensor) -> Tensor:
    """A lane-major tensor times one factor per lane."""
    by_lane = tensor.unflatten(0, (len(factors), -1))
    moved: Tensor = by_lane * factors.to(tensor.dtype).view(-1, *(1,) * (by_lane.dim() - 1))
    return moved.flatten(0, 1)
