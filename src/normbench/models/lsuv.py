"""LSUV: initial weights that give every layer's output variance 1 on the run's own first images.

    for every convolution and linear layer, in the order in which the images pass them:
        W_k ← W_k / √Var(y_k)            Var over the images, channels and positions of lane k

Weights start orthonormal (saxe2014; drawn in `models.builder`). A layer's output is then proportional to its
weight, since biases are 0: one division is exact, where the paper repeats it until a tolerance is met. Each
layer is done before its output goes on, so one pass through the network does them all. Norms and dropout act
as they will at the first step. Where a weight map keeps the scale in a gain, that is divided instead.

Reference:  mishkin2016 — All You Need Is a Good Init, ICLR 2016, arXiv:1511.06422, Algorithm 1.
Deviations: none but the above; like the authors' code it does the classifier, too, and leaves norms alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normbench import weight_norms
from normbench.errors import InputError
from normbench.models.layers import Conv2d, Linear
from normbench.spec import RunSpec

#: Images that the variances are taken over, at least.
IMAGES = 128


def check(spec: RunSpec) -> None:
    """Refuse LSUV where nothing keeps the scale that it sets.

    Raises:
        InputError: the weight map fixes the scale of the weight.
    """
    if spec.model.init == "lsuv" and weight_norms.entry(spec.weight.name).scale == "fixed":
        raise InputError(
            f"model.init=lsuv sets the scale of the weights, which weight={spec.weight.name} fixes; "
            "use model.init=he, or weight=none, wn, scaled_ws or centered"
        )


@torch.no_grad()
def equalize(network: nn.Module, x: Tensor, lanes: int) -> None:
    """Scale the weights of a fresh network, in place; its state is left as it was.

    Args:
        network: in training mode, told of its first step, biases at 0.
        x:       images of the lanes, (N, K·C, H, W).
        lanes:   K.
    """
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    layers = [module for module in network.modules() if isinstance(module, Conv2d | Linear)]
    hooks = [layer.register_forward_hook(lambda *call: _scale(*call, lanes=lanes)) for layer in layers]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    for name, buffer in network.named_buffers():
        buffer.copy_(before[name])


def _scale(layer: nn.Module, inputs: tuple[Tensor], y: Tensor, *, lanes: int) -> Tensor:
    """Scale a layer by what it put out, and put out what it gives then."""
    assert isinstance(layer, Conv2d | Linear)
    by_lane = y.unflatten(1, (lanes, -1)).transpose(0, 1).flatten(1)  # (K, N·Cout·positions)
    var = by_lane.var(1, correction=0)
    # a lane that is constant or no number cannot be helped
    layer.weight_norm.rescale(layer.weight, torch.where(var > 0, var.rsqrt(), 1.0))
    return layer.forward(*inputs)
