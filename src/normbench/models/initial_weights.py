"""Initial weights and biases: the values of `model.init`.

    name        weight                                            bias                      source
    he          N(0, gain² / fan_in)                              0                         he2015
    he:relu     N(0, 2 / fan_in)                                  0                         he2015
    xavier      U(−a, a), a = √(6 / (fan_in + fan_out))           0                         glorot2010
    normal:σ    N(0, σ²)                                          0                         krizhevsky2012
    torch       U(−1/√fan_in, 1/√fan_in)                          U(−1/√fan_in, 1/√fan_in)  torch.nn
    orthogonal  gain × orthonormal rows, or columns if fewer      0                         saxe2014
    lsuv        orthonormal, then scaled by data (`models.lsuv`)  0                         mishkin2016

The gain belongs to the activation (`models.activations`). fan_in is Cin·k², fan_out Cout·k². Every rule also
draws the classifier. Its gain is 1/√3 for `he`: then its weights have the variance of torch's linear layers,
and a net starts without a preference for any class. Its gain is 1 for `orthogonal`, as no activation follows.

`he:relu` has the gain of relu before every activation and in the classifier, as torch.nn.init.kaiming_normal_
with its defaults. `he` has gain 1 before sigmoid, so its weights are smaller there.

`xavier` is equation 16 of glorot2010 without a gain, as torch.nn.init.xavier_uniform_. `torch` gives a lone
layer the numbers that nn.Conv2d and nn.Linear would draw from the same generator.

Deviations: d2l's nets with xavier weights keep torch's biases; here they are 0, as in glorot2010.
krizhevsky2012 (σ = 0.01) starts some biases at 1; here all are 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

#: Gain of the classifier under `he`.
HE_HEAD = 3.0**-0.5


def initial_weight(
    init: str, shape: tuple[int, ...], gain: float | None, generator: torch.Generator
) -> Tensor:
    """The initial weight of a layer of one run, in fp32.

    Args:
        init:      a value of `model.init`.
        shape:     (Cout, Cin) or (Cout, Cin, k, k).
        gain:      of the activation that follows; None for the classifier.
        generator: of the layer's random numbers.
    """
    kind, _, number = init.partition(":")
    fan_in = math.prod(shape[1:])
    if init == "he":
        deviation: float = (HE_HEAD if gain is None else gain) / fan_in**0.5
        return torch.randn(shape, generator=generator) * deviation
    if kind == "normal":
        return torch.randn(shape, generator=generator) * float(number)
    return FILLS[init](torch.empty(shape), 1.0 if gain is None else gain, generator)


def initial_bias(init: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """The initial bias of a layer of one run, (Cout,), in fp32.

    Args:
        init:      a value of `model.init`.
        shape:     that of the layer's weight.
        generator: the one that drew the weight, in the state after that.
    """
    bias = torch.zeros(shape[0])
    bound = math.prod(shape[1:]) ** -0.5
    return nn.init.uniform_(bias, -bound, bound, generator=generator) if init == "torch" else bias


def _he_relu(weight: Tensor, gain: float, generator: torch.Generator) -> Tensor:
    return nn.init.kaiming_normal_(weight, generator=generator)


def _xavier(weight: Tensor, gain: float, generator: torch.Generator) -> Tensor:
    return nn.init.xavier_uniform_(weight, generator=generator)


def _torch(weight: Tensor, gain: float, generator: torch.Generator) -> Tensor:
    return nn.init.kaiming_uniform_(weight, a=5**0.5, generator=generator)


def _orthogonal(weight: Tensor, gain: float, generator: torch.Generator) -> Tensor:
    return nn.init.orthogonal_(weight, gain, generator=generator)


def _lsuv(weight: Tensor, gain: float, generator: torch.Generator) -> Tensor:
    return nn.init.orthogonal_(weight, generator=generator)


FILLS: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "he:relu": _he_relu,
    "xavier": _xavier,
    "torch": _torch,
    "orthogonal": _orthogonal,
    "lsuv": _lsuv,
}
