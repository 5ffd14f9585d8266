"""Losses and gradients of all lanes on a training batch, as a step would compute them, without the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from normbench.engine.evaluate import lane_losses
from normbench.engine.probes.protocol import Point
from normbench.models import Network


@contextmanager
def preserved(network: Network) -> Iterator[None]:
    """Put back every parameter and buffer at the end, in the same memory."""
    tensors = [*network.parameters(), *network.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, old in zip(tensors, before, strict=True):
                tensor.copy_(old)
        network.train()


def loss_and_gradients(point: Point, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of every lane, (K,), and the gradients of the parameters that train, by name and lane-major.

    As in training, but in the type of the parameters under every precision, and without a loss scale.
    """
    parameters = point.network.trained_parameters()
    with torch.enable_grad():
        losses = lane_losses(point.network(x), y, point.spec.optim.label_smoothing).mean(0)
        gradients = torch.autograd.grad(losses.sum(), list(parameters.values()))
    return losses.detach(), dict(zip(parameters, gradients, strict=True))


def put_back(network: Network, state: Sequence[Tensor]) -> None:
    """Give the buffers earlier values, so that every pass of a reading starts from the same statistics.

    Args:
        state: clones of `network.buffers()`, in their order.
    """
    with torch.no_grad():
        for tensor, old in zip(network.buffers(), state, strict=True):
            tensor.copy_(old)


def by_lane(tensor: Tensor, lanes: int) -> Tensor:
    """A lane-major tensor as (K, values) in fp64."""
    values: Tensor = tensor.unflatten(0, (lanes, -1))
    return values.flatten(1).double()


def squared_norm(tensors: Sequence[Tensor], lanes: int) -> Tensor:
    """Squared length of every lane over all tensors together: (K,) in fp64."""
    return torch.stack([by_lane(tensor, lanes).square().sum(1) for tensor in tensors]).sum(0)
