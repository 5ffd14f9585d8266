"""What a norm costs against batch norm: time forward and backward, and memory kept in between."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from normbench import norms
from normbench.norms.core import Norm


@dataclass(frozen=True)
class Cost:
    """Ratios to batch norm on the same input; None where the norm refuses it.

    Attributes:
        forward:  time of the forward pass in training.
        backward: time of the backward pass.
        memory:   bytes kept from the forward pass for the backward pass, the input included.
    """

    forward: float
    backward: float
    memory: float


def cost(key: str, shape: Sequence[int], seconds: float = 0.5, device: str = "cpu") -> Cost | None:
    """Measure a norm against batch norm, in turns, medians of the ratios.

    Args:
        key:     a key of `norms.catalogue()`, built with its defaults.
        shape:   of the input, (N, C, *spatial).
        seconds: how long to go on.
        device:  where.

    Returns:
        None if the norm refuses to be built or to be trained on this shape.
    """
    try:
        layer = norms.build(key, shape[1]).to(device)
        layer.check(shape)
    except norms.NormError:
        return None
    base = norms.build("bn", shape[1]).to(device)
    x = torch.randn(*shape, device=device, requires_grad=True)
    kept = _kept(layer, x), _kept(base, x)
    ratios: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(ratios) < 5:
        if len(ratios) % 2:  # neither always finds what the other left in the cache
            mine, theirs = _times(layer, x), _times(base, x)
        else:
            theirs, mine = _times(base, x), _times(layer, x)
        ratios.append((mine[0] / theirs[0], mine[1] / theirs[1]))
    forward, backward = (median(times) for times in zip(*ratios[2:], strict=True))  # the first ones warm up
    return Cost(forward, backward, kept[0] / kept[1])


def _times(layer: Norm, x: Tensor) -> tuple[float, float]:
    """Seconds of a forward and of a backward pass."""
    began = _now(x)
    y = layer(x)
    middle = _now(x)
    if y.requires_grad:
        torch.autograd.grad(y, [x, *layer.parameters()], torch.ones_like(y), allow_unused=True)
    return middle - began, _now(x) - middle


def _now(x: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter()


def _kept(layer: Norm, x: Tensor) -> int:
    """Bytes of the distinct tensors that autograd keeps for the backward pass, parameters apart."""
    own = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    kept = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _held = layer(x)  # while they are counted, or an address could be used twice
    return sum(kept.values())
