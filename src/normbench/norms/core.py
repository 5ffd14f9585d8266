"""What every norm layer shares: the lane layout, the affine map, per-lane eps, and the registry.

A layer sees K stacked runs side by side in the channel axis, x: (N, K·C, *spatial) with any number of spatial axes ≥ 0.
Statistics never reduce over the lane axis: that is what makes training a stack the same as training its runs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from normbench.errors import NormError

PerLane = float | Sequence[float]
Affine = bool | str


@dataclass(frozen=True)
class Entry:
    """A registered method: what the catalogue shows and what models must know to place it."""

    key: str
    layer: type[Norm]
    family: str              # batch | sample | channel | pointwise | mixture | whitening: what statistics range over
    reduces: str             # the axes averaged over, as the docstring writes them
    reference: str           # citation key
    batch_statistics: bool   # the training output of an image depends on the images beside it
    absorbs_bias: bool       # a bias added just before it has no effect in training


REGISTRY: dict[str, Entry] = {}
L = TypeVar("L", bound="type[Norm]")


def register(
    key: str, *, family: str, reduces: str, reference: str, batch_statistics: bool = False, absorbs_bias: bool = False
) -> Callable[[L], L]:
    """Class decorator that enters a norm layer in the catalogue under its key."""

    def enter(layer: L) -> L:
        layer.key = key
        REGISTRY[key] = Entry(key, layer, family, reduces, reference, batch_statistics, absorbs_bias)
        return layer

    return enter


class Norm(nn.Module):
    """Base of all norm layers: validates arguments, owns γ and β, promotes half precision.

    A subclass implements `normalize`, which gets fp32 or fp64 and returns the same shape.

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        eps:      ε > 0, one number or one per lane; None for a method without.
        affine:   True: γ and β; "weight": γ alone; "bias": β alone; False: neither.

    Raises:
        NormError: an argument out of its range; the message names it.
    """

    key: ClassVar[str]
    #: Parameter name → role; optimisers decide on weight decay by role.
    roles: ClassVar[dict[str, str]] = {"weight": "scale", "bias": "shift"}

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    eps_gain: Tensor | None

    def __init__(self, channels: int, lanes: int = 1, *, eps: PerLane | None = None, affine: Affine = False) -> None:
        super().__init__()
        if channels < 1 or lanes < 1:
            raise NormError(f"{self.key}: channels and lanes must be ≥ 1; got channels={channels}, lanes={lanes}")
        if affine not in (True, False, "weight", "bias"):
            raise NormError(f"{self.key}: affine must be true, false, weight or bias; got {affine!r}")
        self.channels, self.lanes, self.affine = channels, lanes, affine
        stacked = lanes * channels
        self.weight = nn.Parameter(torch.ones(stacked)) if affine in (True, "weight") else None
        self.bias = nn.Parameter(torch.zeros(stacked)) if affine in (True, "bias") else None
        self.lane_eps = () if eps is None else per_lane(f"{self.key}: eps", eps, lanes)
        if any(not e > 0 for e in self.lane_eps):
            raise NormError(f"{self.key}: eps must be > 0; got {eps}")
        self.register_buffer("eps_gain", self._eps_gain(), persistent=False)

    @property
    def eps(self) -> float:
        """ε of the kernel call. Lanes with another ε get it through `eps_gain`."""
        return self.lane_eps[0]

    def _eps_gain(self) -> Tensor | None:
        """√(ε₀/ε_k) per channel, None where all lanes agree: (a·x − a·μ)/√(a²σ² + ε₀) = (x − μ)/√(σ² + ε_k)."""
        if len(set(self.lane_eps)) < 2:
            return None
        gain = torch.tensor([(self.lane_eps[0] / e) ** 0.5 for e in self.lane_eps], dtype=torch.float64)
        return gain.repeat_interleave(self.channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x: (N, K·C, *spatial) → same shape and dtype; statistics in fp32 (fp64 for fp64 input)."""
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        return self.normalize(wide).to(x.dtype)

    def normalize(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def equalized(self, x: Tensor) -> Tensor:
        """x scaled lane by lane so that one kernel call with `eps` gives every lane its own ε; x itself where all agree."""
        return x if self.eps_gain is None else x * along_channels(self.eps_gain.to(x.dtype), x)

    def scale_shift(self, y: Tensor) -> Tensor:
        """γ y + β with what the layer has of them."""
        if self.weight is not None:
            y = y * along_channels(self.weight, y)
        if self.bias is not None:
            y = y + along_channels(self.bias, y)
        return y

    def check(self, shape: Sequence[int]) -> None:
        """Refuse an input shape (N, K·C, *spatial) on which training this layer makes no sense.

        Raises:
            NormError: every statistic would average a single value, or the shape does not fit the arguments.
        """

    def need_several(self, values: int, what: str, remedy: str) -> None:
        """Raise unless a centred statistic averages at least two values; one value minus itself is always 0."""
        if values < 2:
            raise NormError(
                f"{self.key}: a statistic must average at least 2 values, but {what} gives 1; {remedy}"
            )

    def extra_repr(self) -> str:
        eps = f", eps={self.lane_eps[0]:g}" if self.lane_eps else ""
        return f"{self.channels}, lanes={self.lanes}{eps}, affine={self.affine}"


def per_lane(name: str, value: PerLane, lanes: int) -> tuple[float, ...]:
    """One number per lane: a scalar is repeated, a sequence must have K entries."""
    values = (value,) * lanes if isinstance(value, int | float | str) else tuple(value)
    if len(values) != lanes:
        raise NormError(f"{name} must be one value or one per lane; got {len(values)} values for {lanes} lanes")
    return tuple(values)


def along_channels(vector: Tensor, x: Tensor) -> Tensor:
    """View a (K·C,) vector so that it broadcasts over x: (N, K·C, *spatial)."""
    return vector.view(1, -1, *(1,) * (x.dim() - 2))


def by_lane(x: Tensor, lanes: int) -> Tensor:
    """View x: (N, K·C, *spatial) as (N, K, C, *spatial)."""
    return x.unflatten(1, (lanes, -1))


def positions(shape: Sequence[int]) -> int:
    """Product of the spatial axes of (N, K·C, *spatial)."""
    count = 1
    for size in shape[2:]:
        count *= size
    return count
