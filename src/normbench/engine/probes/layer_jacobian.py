"""Singular values of the Jacobian of a layer (name: layer_jacobian)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from normbench.data.shape import Shape
from normbench.data.standardize import Standardize
from normbench.data.streamed import pixels
from normbench.engine.arrangement import shuffled
from normbench.engine.device import STORAGE, default_memory_format
from normbench.engine.lane_assignment import running_norms, using_bank
from normbench.engine.probes.protocol import Point, Probe, Reading, mean_and_max, split_lanes
from normbench.errors import InputError, unknown
from normbench.models import Network
from normbench.models.layers import Conv2d, Linear

#: Training images at a reading.
IMAGES = 2
#: Rows of a Jacobian that are computed at a time.
ROWS = 128
#: Most entries of a Jacobian. PERF: the singular values of 1,448² take about a second on a core.
ENTRIES = 2**21
#: Quantiles of the singular values by layer.
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


class LayerJacobian(Probe):
    """Singular values σ of J_l = ∂ h_{l+1} / ∂ h_l for single images.

        largest     = mean over layers of max σ               of each layer the mean over 2 training images
        mean_square = mean over layers of Σ σ² / min(m, n)    J_l is m × n

    h_l is the input of the l-th convolution or linear layer in the order of the forward pass, and h_{L+1} the
    logits. So J_l includes the norm, the activation and the pooling after the layer. Norms are in evaluation
    with running statistics, dropout is off. By layer: the quantiles 0, ¼, ½, ¾, 1 of σ. All σ are 1 if
    lengths are kept (dynamical isometry). `layer_jacobian@fc1` reads one layer, by its site or its place in
    the network. A layer that the next one does not read is left out. A J of more than 2²¹ entries is refused.
    There is none for norms with batch statistics that keep no running ones.

    Source:     saxe2014, §3 and §4 (singular values of Jacobians near 1).
    Deviations: saxe2014 studies the product over all layers; here every factor has its own values.
    Cost:       a backward pass per output of a layer, 128 at a time, and 2 decompositions per layer and lane.
    """

    per_bank = True
    cheap = False

    def check(self, network: Network, image: Shape) -> None:
        """Refuse a layer that does not exist, and Jacobians that are too large.

        Raises:
            InputError: names the layer.
        """
        for layer in network.norms().values():
            layer.forward = lambda x: x  # type: ignore[method-assign]
        x = torch.zeros(1, image.channels, image.size, image.size)
        with torch.no_grad(), _inputs(network) as inputs:
            inputs["logits"] = network(x)
        for name, (given, made) in self._pairs(network, inputs).items():
            rows, columns = made.numel(), given.numel()
            if rows * columns > ENTRIES:
                size = f"{rows}×{columns}, more than {ENTRIES:,} entries"
                raise InputError(
                    f"layer_jacobian: the Jacobian of layer {name} is {size}; use a smaller network, "
                    "or name a smaller layer: layer_jacobian@fc1"
                )

    def read(self, point: Point, bank: int) -> Reading:
        network, lanes, data = point.network, point.lanes, point.dataset
        nothing = [None] * lanes
        if not all(layer.tracked for layer in running_norms(network)):
            return Reading({"largest": nothing, "mean_square": nothing})
        device = data.train_images.device
        channels_last = default_memory_format(device) == torch.channels_last
        prepare = Standardize(data, lanes, channels_last, STORAGE[point.spec.engine.precision])
        chosen = shuffled(len(data.train_labels))[:IMAGES].to(device)
        found: dict[str, list[Tensor]] = {}
        network.eval()
        with using_bank(network, bank), torch.enable_grad():
            for image in pixels(data.train_images[chosen]):
                x = prepare(image.repeat(ROWS, lanes, 1, 1)).requires_grad_()
                with _inputs(network) as inputs:
                    inputs["logits"] = network(x).flatten(1)
                for name, (given, made) in self._pairs(network, inputs).items():
                    if (jacobian := _jacobian(given, made, lanes)) is not None:
                        found.setdefault(name, []).append(singular_values(jacobian))
        network.train()
        values = {name: torch.stack(images) for name, images in found.items()}  # (images, K, values)
        largest = {name: each.amax(2).mean(0) for name, each in values.items()}
        square = {name: each.square().mean(2).mean(0) for name, each in values.items()}
        levels = torch.tensor(QUANTILES, dtype=torch.float64, device=device)
        quantiles = {name: each.quantile(levels, 2).mean(1).t() for name, each in values.items()}
        return Reading(
            {"largest": mean_and_max(largest, lanes)[0], "mean_square": mean_and_max(square, lanes)[0]},
            {"quantiles": split_lanes(quantiles, lanes)},
        )

    def _pairs(self, network: Network, inputs: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """The input of each layer that is asked for, and that of the next one, by layer."""
        names = list(inputs)
        pairs = {a: (inputs[a], inputs[b]) for a, b in pairwise(names)}
        if not self.argument:
            return pairs
        sites = {}
        for path, unit in network.body.named_modules():
            site = next((m.site for m in unit.children() if getattr(m, "site", "")), "")
            if site and f"{path}.0" in pairs:
                sites[site] = f"{path}.0"
        name = sites.get(self.argument, self.argument)
        if name not in pairs:
            raise unknown("layer of layer_jacobian", self.argument, [*sites, *pairs])
        return {name: pairs[name]}


@contextmanager
def _inputs(network: Network) -> Iterator[dict[str, Tensor]]:
    """What every convolution and linear layer is given in the forward passes inside, in their order."""
    found: dict[str, Tensor] = {}
    layers = {name: m for name, m in network.body.named_modules() if isinstance(m, Conv2d | Linear)}

    def keep(name: str) -> object:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            found[name] = given[0]

        return hook

    hooks = [layer.register_forward_pre_hook(keep(name)) for name, layer in layers.items()]  # type: ignore[arg-type]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _jacobian(given: Tensor, made: Tensor, lanes: int) -> Tensor | None:
    """The Jacobians of every lane, (K, m, n) in fp64; None if `made` does not follow from `given`.

    Args:
        given: ROWS copies of one input, (ROWS, K·…).
        made:  what follows from each of them, so that a backward pass gives ROWS rows.
    """
    outputs = made.reshape(ROWS, lanes, -1)
    parts = []
    for first in range(0, outputs.shape[2], ROWS):
        rows = min(ROWS, outputs.shape[2] - first)
        picked = outputs.diagonal(first, 0, 2)[:, :rows]  # (K, rows): copy r gives output first + r
        (gradient,) = torch.autograd.grad(picked.sum(), given, retain_graph=True, allow_unused=True)
        if gradient is None:
            return None
        parts.append(gradient.reshape(ROWS, lanes, -1)[:rows].transpose(0, 1).double())
    return torch.cat(parts, 1)


def singular_values(jacobians: Tensor) -> Tensor:
    """Singular values of every lane, (K, min(m, n)); nan for a lane that is not finite."""
    finite = jacobians.isfinite().all(2).all(1)
    values: Tensor = torch.linalg.svdvals(jacobians.where(finite[:, None, None], 0.0))
    return values.where(finite[:, None], torch.nan)
