"""The cost of a norm relative to batch norm: time forward and backward, and memory kept between the two."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from normbench import norms
from normbench.instruments import SavedBytes, now
from normbench.norms.core import Norm


@dataclass(frozen=True)
class Cost:
    """Ratios to batch norm on the same input.

    Attributes:
        forward:  time of the forward pass in training.
        backward: time of the backward pass.
        both:     time of the two.
        memory:   bytes kept from the forward pass for the backward pass, the input included.
    """

    forward: float
    backward: float
    both: float
    memory: float


def cost(key: str, shape: Sequence[int], seconds: float = 0.5, device: str = "cpu") -> Cost | None:
    """Measure a norm and batch norm alternately; return the medians of the ratios.

    Args:
        key:     a key of `norms.catalogue()`, built with its defaults.
        shape:   shape of the input, (N, C, *spatial).
        seconds: how long to measure.
        device:  the device to measure on.

    Returns:
        None if the norm refuses to be built or to be trained on this shape.
    """
    feeder = nn.Linear(shape[1], shape[1], bias=False).to(device)
    layer, base = (_built(name, shape, feeder, device) for name in (key, "bn"))
    if layer is None or base is None:
        return None
    kept = _kept(layer, _input(shape, feeder)), _kept(base, _input(shape, feeder))
    rounds: list[tuple[float, ...]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds) < 5:
        x = _input(shape, feeder)
        if len(rounds) % 2:  # so that neither always runs on the other's cache
            mine, theirs = _times(layer, x), _times(base, x)
        else:
            theirs, mine = _times(base, x), _times(layer, x)
        rounds.append((mine[0] / theirs[0], mine[1] / theirs[1], sum(mine) / sum(theirs)))
    forward, backward, both = (median(ratios) for ratios in zip(*rounds[2:], strict=True))  # without warm-up
    return Cost(forward, backward, both, kept[0] / kept[1])


def _built(key: str, shape: Sequence[int], feeder: nn.Linear, device: str) -> Norm | None:
    """A layer with its defaults, fed by a linear layer; None if it refuses the shape."""
    try:
        layer = norms.build(key, shape[1]).to(device)
        layer.follow(feeder)
        layer.check(shape)
    except norms.NormError:
        return None
    return layer


def _input(shape: Sequence[int], feeder: nn.Linear) -> Tensor:
    """The output of the linear layer, as contiguous images. Gradients are taken up to here."""
    rows = torch.randn(shape[0], *shape[2:], shape[1], device=feeder.weight.device)
    y: Tensor = feeder(rows).movedim(-1, 1).contiguous()
    return y


def _times(layer: Norm, x: Tensor) -> tuple[float, float]:
    """Seconds of a forward pass and of a backward pass."""
    began = now(x.device)
    y = layer(x)
    middle = now(x.device)
    wanted = [x, *layer.parameters()]
    torch.autograd.grad(y, wanted, torch.ones_like(y), allow_unused=True, retain_graph=True)
    return middle - began, now(x.device) - middle


def _kept(layer: Norm, x: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass: x in any case, parameters never."""
    with SavedBytes(without=[x, *layer.parameters()]) as saved:
        _alive = layer(x)  # while the bytes are counted
    return saved.total + x.untyped_storage().nbytes()
