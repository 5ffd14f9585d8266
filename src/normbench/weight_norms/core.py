"""What every weight map shares: the view of a stacked weight as filters, and the registry.

A weight map turns the stored, trained weight into the weight that is used. It works filter by filter, so
lanes do not mix. A filter is the part of the weight that computes one output channel of one run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from normbench.errors import NormError

M = TypeVar("M", bound="type[WeightNorm]")
Scale = Literal["weight", "gain", "fixed"]
REGISTRY: dict[str, type[WeightNorm]] = {}


def register(key: str, *, reference: str, on_head: bool, scale: Scale) -> Callable[[M], M]:
    """Class decorator that registers a weight map under its key.

    Args:
        reference: citation key of docs/references.bib.
        on_head:   whether the map also applies to the classifier.
        scale:     what sets the scale of the effective weight: the stored "weight", a learned "gain", or
                   nothing ("fixed").
    """
    assert key not in REGISTRY, f"two weight maps are registered as {key}"

    def enter(kind: M) -> M:
        kind.key, kind.reference, kind.on_head, kind.scale = key, reference, on_head, scale
        REGISTRY[key] = kind
        return kind

    return enter


class WeightNorm(nn.Module):
    """Base of all weight maps. A subclass implements `normalize` on filters in fp32 or fp64.

    A map's state, if it has any, is in lane-major buffers. Training moves it, evaluation does not.

    Args:
        weight: initial weight, (K·Cout, Cin, *kernel) or (K, Cout, Cin) with lanes = K.
        lanes:  K, stacked runs.

    Raises:
        NormError: the weight is no stacked weight of that many lanes.
    """

    key: ClassVar[str]
    reference: ClassVar[str]
    on_head: ClassVar[bool]
    scale: ClassVar[Scale]
    #: Matrix products of the map are in fp64; set by whoever builds the network, because TF32 would give them
    #: 10 bits of mantissa.
    in_double: bool = False
    #: Parameter name → role; optimisers decide on weight decay by role.
    roles: ClassVar[dict[str, str]] = {}

    def __init__(self, weight: Tensor, lanes: int = 1) -> None:
        super().__init__()
        leading = weight.shape[0] // lanes * lanes if weight.dim() > 3 else lanes
        if weight.dim() < 3 or weight.shape[0] != leading:
            raise NormError(
                f"{self.key}: a stacked weight must be (lanes·outputs, inputs, *kernel) or "
                f"(lanes, outputs, inputs); got {tuple(weight.shape)} for {lanes} lanes"
            )

    def forward(self, weight: Tensor) -> Tensor:
        """The effective weight: same shape and dtype; computed in fp32 (fp64 for an fp64 weight)."""
        wide = weight if weight.dtype in (torch.float32, torch.float64) else weight.float()
        return self.normalize(filters(wide)).view_as(weight).to(weight.dtype)

    def normalize(self, filters: Tensor) -> Tensor:
        """The map itself: (K·Cout, fan_in) → the same shape. The base returns the filters."""
        return filters

    @torch.no_grad()
    def rescale(self, weight: Tensor, factors: Tensor) -> None:
        """Multiply every lane's effective weight by a factor, in place, in the tensor that sets its scale.

        Args:
            weight:  the stored weight.
            factors: (K,), finite and > 0.

        Raises:
            NormError: the scale is fixed.
        """
        if self.scale == "fixed":
            raise NormError(f"{self.key}: the map fixes the scale of the weight; nothing can multiply it")
        kept = weight if self.scale == "weight" else self.get_parameter("gain")
        by_lane = kept.unflatten(0, (len(factors), -1))
        by_lane *= factors.to(kept.dtype).view(-1, *(1,) * (by_lane.dim() - 1))

    def need_several(self, weight: Tensor) -> None:
        """Raise a NormError unless a filter holds at least two values."""
        if filters(weight).shape[1] < 2:
            raise NormError(
                f"{self.key}: a filter must hold at least 2 values for its mean to be removed, but fan-in 1 "
                "gives 1; use the map none or wn"
            )

    def positive(self, eps: object) -> float:
        """The given ε, if it is a finite number > 0; a NormError if not."""
        if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 < eps < math.inf:
            raise NormError(f"{self.key}: eps must be a finite number > 0; got {eps!r}")
        return eps


def filters(weight: Tensor) -> Tensor:
    """A stacked weight as rows: (K·Cout, Cin, *kernel) or (K, Cout, Cin) → (K·Cout, fan_in).

    >>> filters(torch.zeros(8, 3, 5, 5)).shape, filters(torch.zeros(2, 10, 84)).shape
    (torch.Size([8, 75]), torch.Size([20, 84]))
    """
    return weight.flatten(0, 1) if weight.dim() == 3 else weight.flatten(1)
