"""Top eigenvalue of the Hessian of the loss (name: top_eigenvalue)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from normbench import norms, rng
from normbench.engine.evaluate import lane_losses
from normbench.engine.probes.gradients import preserved
from normbench.engine.probes.protocol import Point, Probe, Reading, per_lane
from normbench.norms import Norm

#: Products with the Hessian at a reading, unless the request says another number.
PRODUCTS = 10


class TopEigenvalue(Probe):
    """The eigenvalue of largest magnitude of the Hessian H of one batch's loss, by power iteration.

        v₀ normal, ‖v₀‖ = 1;   v_{i+1} = H v_i / ‖H v_i‖;   eigenvalue = v_{n−1}ᵀ H v_{n−1}

    The batch is that of the last step, norms are in training, and H is over all parameters that train. v₀ is
    the same for all runs and readings. `top_eigenvalue@n` sets n; the default is 10. The magnitude of the
    estimate is at most the true one. The metric of a run is the mean over its readings. There is none for a
    norm whose backward pass is not the gradient, or cannot be differentiated again.

    Source:     yao2020, §2.2 (power iteration with exact products); ghorbani2019 (outliers of the spectrum
                with and without batch norm).
    Deviations: one batch instead of the training split; a fixed number of products.
    Cost:       n + 1 backward passes of twice the usual length, and one forward pass, at a reading.
    """

    averages = True
    cheap = False

    def read(self, point: Point, bank: int) -> Reading:
        assert point.batches is not None
        nothing = Reading({"eigenvalue": [None] * point.lanes})
        if not all(norms.entry(layer.key).exact_gradient for layer in _norms(point)):
            return nothing
        x, y = point.batches.at(point.step - 1)
        parameters = point.network.trained_parameters()
        with preserved(point.network), torch.enable_grad():
            losses = lane_losses(point.network(x), y, point.spec.optim.label_smoothing).mean(0)
            gradients = torch.autograd.grad(losses.sum(), list(parameters.values()), create_graph=True)
            if _end_of_derivatives(gradients):
                return nothing
            v = _unit([start(name, p, point.lanes) for name, p in parameters.items()], point.lanes)
            for _ in range(int(self.argument or PRODUCTS)):
                product = _product(list(parameters.values()), gradients, v)
                eigenvalue = _dot(v, product, point.lanes)
                v = _unit(product, point.lanes)
        return Reading({"eigenvalue": per_lane(eigenvalue)})


def start(name: str, parameter: Tensor, lanes: int) -> Tensor:
    """The part of v₀ that belongs to a parameter: equal in every lane."""
    one = parameter.unflatten(0, (lanes, -1))[0]
    draws = torch.randn(one.shape, generator=rng.generator(0, f"probe/{name}"), dtype=torch.float64)
    return torch.cat([draws] * lanes).to(parameter)


def _norms(point: Point) -> list[Norm]:
    return list(point.network.norms().values())


def _end_of_derivatives(gradients: Sequence[Tensor]) -> bool:
    """Whether a backward pass on the way to these gradients was declared with @once_differentiable.

    torch puts a node named Error there. `autograd.grad` does not visit it, since no parameter is behind it,
    so the product would silently lack this part.
    """
    seen, waiting = set(), [g.grad_fn for g in gradients]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("Error"):
            return True
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return False


def _product(parameters: list[Tensor], gradients: Sequence[Tensor], v: list[Tensor]) -> list[Tensor]:
    """H v."""
    found = torch.autograd.grad(
        gradients, parameters, v, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return [product.detach() for product in found]


def _dot(one: list[Tensor], other: list[Tensor], lanes: int) -> Tensor:
    """Inner product of every lane: (K,) in fp64."""
    pairs = zip(one, other, strict=True)
    each = [(a.double() * b.double()).unflatten(0, (lanes, -1)).flatten(1).sum(1) for a, b in pairs]
    return torch.stack(each).sum(0)


def _unit(v: list[Tensor], lanes: int) -> list[Tensor]:
    """Vectors of length 1 in every lane."""
    length = _dot(v, v, lanes).sqrt()
    made = []
    for part in v:
        by_lane = part.unflatten(0, (lanes, -1))
        factor = length.to(part.dtype).view(-1, *(1,) * (by_lane.dim() - 1))
        made.append((by_lane / factor).flatten(0, 1))
    return made
