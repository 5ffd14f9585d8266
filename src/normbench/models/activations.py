"""Activations of a net, and the gains of the initial weights before them."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

#: `model.activation` → layer, with torch's defaults: slope 0.01 of leaky_relu, α = 1 of elu, the exact gelu.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
#: Gains of the initial weights, by the activation that follows. relu and leaky_relu: √(2 / (1 + slope²))
#: (he2015), as torch.nn.init.calculate_gain. sigmoid and tanh: calculate_gain. elu, silu and gelu have no
#: gain there; theirs follow from the rule of he2015, gain² = 1 / E[f(z)²] with z ~ N(0, 1).
GAINS = {
    "relu": 2.0**0.5,
    "leaky_relu": (2 / (1 + 0.01**2)) ** 0.5,
    "elu": 1.245198,
    "silu": 1.676532,
    "gelu": 1.533530,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
}
