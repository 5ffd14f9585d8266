"""Residual branches without norms: the scalars and the initial scales of SkipInit and Fixup.

SkipInit (de2020) multiplies the end of every residual branch by a scalar that starts at 0. It changes nothing
else, so it can be combined with norms and weight maps.

Fixup (zhang2019b, §3) replaces norms. With L branches of m convolutions each:

    1. the last convolution of every branch and the classifier start at 0;
    2. the other convolutions of a branch start L^(−1/(2m−2)) times as large as without Fixup;
    3. every convolution, activation and classifier gets a scalar bias before it, 0 at the start; every branch
       ends with a scalar multiplier, 1 at the start.

As in the authors' code (hongyi-zhang/Fixup): convolutions have no other bias, the first convolution has none
before it, a shortcut that changes the shape reads the input of the first convolution, and the scalars learn
at a tenth of the learning rate.

Deviations: in the authors' code the classifier's bias also learns at a tenth, and weights are drawn by
fan-out instead of fan-in. That code has the units of conv_norm_act only; those of norm_act_conv follow from
the rules above.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from normbench import weight_norms
from normbench.errors import InputError
from normbench.norms.lanes import along_channels, spread
from normbench.spec import RunSpec

FIXUP_PLACEMENTS = ("conv_norm_act", "norm_act_conv")


class SkipInit(nn.Module):
    """y = α x with one α per lane, 0 at the start.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype;  scale: (K,)
    """

    roles: ClassVar[dict[str, str]] = {"scale": "scale"}
    start: ClassVar[float] = 0.0

    def __init__(self, lanes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((lanes,), self.start))

    def forward(self, x: Tensor) -> Tensor:
        return x * broadcast_lanes(self.scale, x)


class FixupScale(SkipInit):
    """Fixup's multiplier: y = a x with one a per lane, 1 at the start."""

    roles: ClassVar[dict[str, str]] = {"scale": "scalar"}
    start: ClassVar[float] = 1.0


class FixupBias(nn.Module):
    """Fixup's bias: y = x + b with one b per lane, 0 at the start.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype;  bias: (K,)
    """

    roles: ClassVar[dict[str, str]] = {"bias": "scalar"}

    def __init__(self, lanes: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(lanes))

    def forward(self, x: Tensor) -> Tensor:
        return x + broadcast_lanes(self.bias, x)


#: `model.branch` → the scalar multiplier at the end of a residual branch.
BRANCH_SCALES: dict[str, type[SkipInit] | None] = {"plain": None, "skipinit": SkipInit, "fixup": FixupScale}


def broadcast_lanes(scalars: Tensor, x: Tensor) -> Tensor:
    """View one number per lane, (K,), so that it broadcasts over x: (N, K·C, *spatial), in the dtype of x."""
    per_channel = spread(scalars, x.shape[1] // len(scalars))
    return along_channels(per_channel, x).to(x.dtype)


def initial_scales(spec: RunSpec, branches: int, convolutions: int) -> tuple[float, ...]:
    """The factors of the initial weights of a branch, one per convolution in their order.

    Args:
        spec:         the run; `model.branch` decides.
        branches:     L, residual branches of the net.
        convolutions: m ≥ 2, convolutions of a branch.
    """
    if spec.model.branch != "fixup":
        return (1.0,) * convolutions
    inner: float = branches ** (-1 / (2 * convolutions - 2))
    return (*(inner,) * (convolutions - 1), 0.0)


def check(spec: RunSpec, *, residual: bool) -> None:
    """Refuse a `model.branch` that contradicts the rest of the specification.

    Args:
        spec:     the run.
        residual: the model has residual branches.

    Raises:
        InputError: the model has no residual branches, a branch could never leave 0, or Fixup is combined
            with a norm, weight map, initialisation or placement for which it is not defined.
    """
    branch = spec.model.branch
    if branch == "plain":
        return
    if not residual:
        raise InputError(
            f"model.branch={branch} needs residual branches, and model {spec.model.name} has none; "
            "use a resnet, or model.branch=plain"
        )
    if spec.model.zero_last:
        raise InputError(
            f"model.branch={branch} and model.zero_last=true both start a branch at 0, so neither would get "
            "a gradient; use model.zero_last=false"
        )
    if branch == "fixup":
        _check_fixup(spec)


def _check_fixup(spec: RunSpec) -> None:
    if spec.norm.name != "none":
        raise InputError(
            f"model.branch=fixup replaces norms; got norm={spec.norm.name}. "
            "Use norm=none, or model.branch=skipinit"
        )
    if weight_norms.entry(spec.weight.name).scale != "weight":
        raise InputError(
            f"model.branch=fixup sets the scale of the initial weights, and weight={spec.weight.name} would "
            "overwrite it; use weight=none or weight=centered"
        )
    if spec.model.init != "he":
        raise InputError(
            f"model.branch=fixup is an initialisation itself; got model.init={spec.model.init}. "
            "Use model.init=he, or model.branch=skipinit"
        )
    if spec.placement.name not in FIXUP_PLACEMENTS:
        raise InputError(
            "model.branch=fixup is defined for units that end with a convolution: "
            f"placement={' and '.join(FIXUP_PLACEMENTS)}; got placement={spec.placement.name}"
        )
