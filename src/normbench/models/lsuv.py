"""LSUV: initial weights that give every layer's output variance 1 on the run's own first images.

    for every convolution and linear layer, in the order of the forward pass:
        W_k ← W_k / √Var(y_k)            Var over the images, channels and positions of lane k

Weights start orthonormal (saxe2014; drawn in `models.initial_weights`). Biases are 0, so a layer's output is
proportional to its weight: one division is exact, and the paper's loop up to a tolerance is not needed. Each
layer is scaled before its output is passed on, so one forward pass scales all of them. Norms and dropout act
as at the first step. If a weight map has a gain, the gain is divided instead of the weight.

Reference:  mishkin2016 — All You Need Is a Good Init, ICLR 2016, arXiv:1511.06422, Algorithm 1.
Deviations: only the above. As in the authors' code, the classifier is scaled, too, and norms are not changed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normbench import weight_norms
from normbench.errors import InputError
from normbench.models.layers import Conv2d, Linear
from normbench.spec import RunSpec

#: Least number of images in the variances.
IMAGES = 128


def check(spec: RunSpec) -> None:
    """Refuse LSUV with a weight map that would undo its scaling.

    Raises:
        InputError: the weight map fixes the scale of the weight.
    """
    if spec.model.init == "lsuv" and weight_norms.entry(spec.weight.name).scale == "fixed":
        raise InputError(
            f"model.init=lsuv sets the scale of the weights, but weight={spec.weight.name} fixes it; "
            "use model.init=he, or weight=none, wn, scaled_ws or centered"
        )


@torch.no_grad()
def equalize(network: nn.Module, x: Tensor, lanes: int) -> None:
    """Scale the weights of a new network in place. Its buffers do not change.

    Args:
        network: in training mode, after `begin_step` of its first step, biases at 0.
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
    """Scale a layer by the deviation of its output, and return its new output."""
    assert isinstance(layer, Conv2d | Linear)
    per_lane = y.unflatten(1, (lanes, -1)).transpose(0, 1).flatten(1)  # (K, N·Cout·positions)
    var = per_lane.var(1, correction=0)
    # a lane whose output is constant or not a number keeps its weight
    layer.weight_norm.rescale(layer.weight, torch.where(var > 0, var.rsqrt(), 1.0))
    return layer.forward(*inputs)
