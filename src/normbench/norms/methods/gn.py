"""Group normalization (key: gn)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from normbench.errors import NormError
from normbench.norms.core import Affine, Norm
from normbench.norms.lanes import PerLane, positions
from normbench.norms.registry import register

#: Most channels per group if neither the number of groups nor their size is given.
DEFAULT_SIZE = 16


@register("gn", family="sample", reduces="C/G, H, W", reference="wu2018")
class GroupNorm(Norm):
    """Group normalization: statistics per image over groups of channels.

        y = γ (x − μ) / √(σ² + ε) + β                                  eqs. (1), (6)
        μ, σ² over 𝒮 = {same image, same group of channels} × H × W     eqs. (2), (7)

    Symbols:      μ mean · σ² var (biased) · γ weight · β bias · G num_groups
    Reduces:      (C/G, H, W) for each image and group.
    Train / eval: identical; no running state. Batch-independent: yes.
    Numerics:     fp32 (fp64 for fp64 input); ε inside the root. The layer removes a bias before it only if
                  the group size is 1. Models drop that bias because β replaces it; without β they keep it.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias: (K·C,)

    Args:
        channels:   C, channels of one run.
        lanes:      K, stacked runs; 1 for a lone run.
        num_groups: G, groups of one run; must divide C. The paper: 32.
        group_size: C/G instead; must divide C. With neither: the largest divisor of C up to 16, so that
                    narrow layers do not become instance norm.
        eps:        ε > 0; one value or one per lane.
        affine:     True, False, "weight" or "bias".

    Attributes:
        num_groups, group_size: the values in effect, of one run.

    Raises:
        NormError: an argument out of range, both num_groups and group_size, or a value that does not divide
                   C.

    Same as:    ln_chw for num_groups=1; in for group_size=1.
    Reference:  wu2018 — Group Normalization, ECCV 2018, arXiv:1803.08494, §3.1.
    Deviations: the default is a group size, not 32 groups.
    """

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        num_groups: int | None = None,
        group_size: int | None = None,
        eps: PerLane = 1e-5,
        affine: Affine = True,
    ) -> None:
        super().__init__(channels, lanes, eps=eps, affine=affine)
        self.num_groups, self.group_size = groups_of(self, num_groups, group_size)

    def normalize(self, x: Tensor) -> Tensor:
        groups = self.lanes * self.num_groups
        return F.group_norm(self.equalized(x), groups, self.weight, self.bias, self.eps)

    def check(self, shape: Sequence[int]) -> None:
        check_groups(self, self.group_size, shape)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_groups={self.num_groups}, group_size={self.group_size}"


def groups_of(norm: Norm, num_groups: int | None, group_size: int | None) -> tuple[int, int]:
    """G and C/G of one run from either; from neither, see `GroupNorm`.

    Raises:
        NormError: both are given, or a value does not divide C.
    """
    if num_groups is not None and group_size is not None:
        raise NormError(
            f"{norm.key}: give num_groups or group_size, not both; "
            f"got num_groups={num_groups} and group_size={group_size}"
        )
    if num_groups is not None:
        return num_groups, norm.channels // _divisor(norm, "num_groups", num_groups)
    if group_size is None:
        group_size = max(d for d in divisors(norm.channels) if d <= DEFAULT_SIZE)
    return norm.channels // _divisor(norm, "group_size", group_size), group_size


def check_groups(norm: Norm, group_size: int, shape: Sequence[int]) -> None:
    """Refuse a shape (N, K·C, *spatial) on which a group is a single value."""
    norm.need_several(
        group_size * positions(shape),
        f"a group of {group_size} channel on a map of {positions(shape)} position",
        "use group_size ≥ 2, another norm, or leave this layer out",
    )


def _divisor(norm: Norm, name: str, value: int) -> int:
    if norm.channels % norm.whole(name, value):
        fitting = ", ".join(map(str, divisors(norm.channels)))
        raise NormError(
            f"{norm.key}: {name} must divide the channels; got {name}={value} for {norm.channels} channels. "
            f"Set {name} to a divisor of {norm.channels} ({fitting}), or leave it out"
        )
    return value


def divisors(number: int) -> list[int]:
    """Divisors in ascending order.

    >>> divisors(6)
    [1, 2, 3, 6]
    """
    return [d for d in range(1, number + 1) if number % d == 0]
