"""What every norm layer shares: the lane layout, the affine map, per-lane eps, and the registry.

A layer sees K stacked runs side by side in the channel axis, x: (N, K·C, *spatial) with any number of spatial
axes ≥ 0. Statistics never reduce over the lane axis: that is what makes training a stack the same as training
its runs alone.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar, TypeVar

import torch
import yaml
from torch import Tensor, nn

from normbench.errors import NormError

PerLane = float | Sequence[float]
Affine = bool | str

L = TypeVar("L", bound="type[Norm]")
T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """A registered method: what the catalogue shows and what models must know to place it.

    Attributes:
        family:           what statistics range over: batch, sample, channel, pointwise, mixture or whitening.
        reduces:          the axes averaged over, as the docstring writes them.
        reference:        citation key of docs/references.bib.
        batch_statistics: the training output of an image depends on the images beside it.
        absorbs_bias:     a bias added just before the layer has no effect in training, whatever the layer's
                          arguments.
        eval_differs:     the output in evaluation differs from that in training.
        exact_gradient:   the backward pass is the gradient of the forward pass.
        activates:        the layer stands for the activation after it, too; it is built with `activated`
                          false where none follows.
    """

    key: str
    layer: type[Norm]
    family: str
    reduces: str
    reference: str
    batch_statistics: bool
    absorbs_bias: bool
    eval_differs: bool
    exact_gradient: bool
    activates: bool

    @property
    def reads_history(self) -> bool:
        """Whether training itself reads what earlier batches left, so that momentum changes training.

        It follows from `banks` in conf/norm/<key>.yaml, which plans read without torch.
        """
        return self.eval_differs and not _has_banks(self.key)

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the constructor besides channels and lanes, each with its default."""
        parameters = inspect.signature(self.layer).parameters.values()
        return {p.name: p.default for p in parameters if p.name not in ("channels", "lanes")}


REGISTRY: dict[str, Entry] = {}


@cache
def _has_banks(key: str) -> bool:
    file = files("normbench.conf") / "norm" / f"{key}.yaml"
    return bool(yaml.safe_load(file.read_text(encoding="utf-8"))["banks"]) if file.is_file() else False


def register(
    key: str,
    *,
    family: str,
    reduces: str,
    reference: str,
    batch_statistics: bool = False,
    absorbs_bias: bool = False,
    eval_differs: bool = False,
    exact_gradient: bool = True,
    activates: bool = False,
) -> Callable[[L], L]:
    """Class decorator that enters a norm layer in the catalogue under its key; see `Entry` for the rest."""
    assert key not in REGISTRY, f"two norm layers are registered as {key}"

    def enter(layer: L) -> L:
        layer.key = key
        REGISTRY[key] = Entry(
            key, layer, family, reduces, reference, batch_statistics, absorbs_bias, eval_differs,
            exact_gradient, activates,
        )  # fmt: skip
        return layer

    return enter


class Norm(nn.Module):
    """Base of all norm layers: validates arguments, owns γ and β, keeps half precision out of the statistics.

    A subclass says in `normalize` what it does.

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        eps:      ε > 0, one number or one per lane; () for a method without.
        affine:   True: γ and β; "weight": γ alone; "bias": β alone; False: neither.

    Raises:
        NormError: an argument out of its range; the message names it.
    """

    key: ClassVar[str]
    #: Parameter name → role; optimisers decide on weight decay by role.
    roles: ClassVar[dict[str, str]] = {"weight": "scale", "bias": "shift"}

    #: Where the layer stands in a network; whoever builds the network says so.
    site: str = ""
    #: Share of a run after which the forward pass is another, None where it stays. Before and after, it is
    #: the same operations on the same memory, and what changes from step to step lies in tensors.
    phase_change_at: float | None = None

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    eps_gain: Tensor | None

    def __init__(self, channels: int, lanes: int = 1, *, eps: PerLane = (), affine: Affine = False) -> None:
        super().__init__()
        self.channels, self.lanes = self.whole("channels", channels), self.whole("lanes", lanes)
        if affine not in (True, False, "weight", "bias"):
            raise NormError(f"{self.key}: affine must be true, false, weight or bias; got {affine!r}")
        self.affine = affine
        stacked = lanes * channels
        self.weight = nn.Parameter(torch.ones(stacked)) if affine in (True, "weight") else None
        self.bias = nn.Parameter(torch.zeros(stacked)) if affine in (True, "bias") else None
        self.lane_eps = () if eps == () else per_lane(f"{self.key}: eps", eps, lanes)
        if not all(isinstance(e, int | float) and 0 < e < math.inf for e in self.lane_eps):
            raise NormError(f"{self.key}: eps must be a finite number > 0; got {eps!r}")
        self.register_buffer("eps_gain", self._eps_gain(), persistent=False)

    @property
    def eps(self) -> float:
        """ε of the kernel call. Lanes with another ε get it through `eps_gain`."""
        return self.lane_eps[0]

    def _eps_gain(self) -> Tensor | None:
        """√(ε₀/ε_k) per channel, None where all lanes agree."""
        if len(set(self.lane_eps)) < 2:
            return None
        gain = torch.tensor([math.sqrt(self.lane_eps[0] / e) for e in self.lane_eps], dtype=torch.float64)
        return spread(gain, self.channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x: (N, K·C, *spatial) → same shape and dtype; statistics in fp32, fp64 for fp64 input."""
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        y = self.normalize(wide)
        return y if y.dtype == x.dtype else y.to(x.dtype)

    def normalize(self, x: Tensor) -> Tensor:
        """What a method does, in fp32 or fp64: (N, K·C, *spatial) → the same shape. Of itself, nothing."""
        return x

    def equalized(self, x: Tensor) -> Tensor:
        """x scaled lane by lane so that one kernel call with `eps` gives every lane its own ε.

        With a = √(ε₀/ε_k): (a·x − a·μ) / √(a²σ² + ε₀) = (x − μ) / √(σ² + ε_k), and likewise for a mean
        square.
        """
        return x if self.eps_gain is None else x * along_channels(self.eps_gain.to(x.dtype), x)

    def eps_along(self, x: Tensor) -> float | Tensor:
        """ε for a formula that `equalized` does not fit: a number, or (1, K·C, 1, …) where lanes differ."""
        if self.eps_gain is None:
            return self.eps
        return along_channels(self.eps / self.eps_gain.to(x.dtype).square(), x)

    def scale_shift(self, y: Tensor) -> Tensor:
        """γ y + β with what the layer has of them."""
        if self.weight is not None:
            y = y * along_channels(self.weight, y)
        if self.bias is not None:
            y = y + along_channels(self.bias, y)
        return y

    def scaled_by(self, centred: Tensor, gain: Tensor, x: Tensor) -> Tensor:
        """γ · centred · gain + β, centred like x or in chunks of it. PERF: γ is multiplied with the gain."""
        if self.weight is not None:
            gain = gain * along_channels(self.weight, x)
        y = centred * gain
        return y if self.bias is None else y + along_channels(self.bias, x)

    def begin_step(self, step: int, steps: int) -> None:
        """Be told that optimiser step `step` of `steps` begins; only layers with a schedule listen."""

    def follow(self, layer: nn.Module | None) -> None:
        """Be told which linear layer feeds this one directly, None where none does; few norms look at it."""

    def check(self, shape: Sequence[int]) -> None:
        """Refuse an input shape (N, K·C, *spatial) on which training this layer makes no sense.

        Raises:
            NormError: every statistic would average a single value, or the shape does not fit the arguments.
        """

    def need_several(self, values: int, what: str, remedy: str) -> None:
        """Raise unless a statistic averages at least two values: of one, normalization leaves nothing."""
        if values < 2:
            raise NormError(
                f"{self.key}: a statistic must average at least 2 values, but {what} gives 1; {remedy}"
            )

    def whole(self, name: str, value: object) -> int:
        """The value, if it is a whole number ≥ 1.

        Raises:
            NormError: it is not; the message names the argument.
        """
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise NormError(f"{self.key}: {name} must be a whole number ≥ 1; got {value!r}")
        return value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        eps = f", eps={', '.join(f'{e:g}' for e in dict.fromkeys(self.lane_eps))}" if self.lane_eps else ""
        return f"{self.channels}, lanes={self.lanes}{eps}, affine={self.affine}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Norm:
        """Move and cast, but not below fp32: `model.half()` leaves the parameters and statistics wide."""

        def keep_wide(tensor: Tensor) -> Tensor:
            cast = fn(tensor)
            return cast if cast.dtype not in (torch.float16, torch.bfloat16) else tensor.to(cast.device)

        super()._apply(keep_wide, recurse)  # type: ignore[no-untyped-call]
        return self


def per_lane(name: str, value: T | Sequence[T], lanes: int) -> tuple[T, ...]:
    """One value per lane: a single one is repeated, a sequence must have K entries.

    >>> per_lane("eps", 1e-5, 2), per_lane("eps", [1e-5, 1e-3], 2)
    ((1e-05, 1e-05), (1e-05, 0.001))

    Raises:
        NormError: a sequence of another length.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        return (value,) * lanes
    if len(value) != lanes:
        raise NormError(
            f"{name} must be one value or one per lane; got {len(value)} values for {lanes} lanes"
        )
    return tuple(value)


def spread(per_lane: Tensor, channels: int) -> Tensor:
    """(K,) → (K·C,): every lane's value at each of its channels."""
    return per_lane.unsqueeze(1).expand(-1, channels).flatten()


def along_channels(vector: Tensor, x: Tensor) -> Tensor:
    """View a (K·C,) vector so that it broadcasts over x: (N, K·C, *spatial)."""
    return vector.view(1, -1, *(1,) * (x.dim() - 2))


def along_first(values: Tensor, x: Tensor) -> Tensor:
    """View values of x's first axes, such as (N, K·C), so that they broadcast over x: (N, K·C, *spatial)."""
    return values[(...,) + (None,) * (x.dim() - values.dim())]


def by_lane(x: Tensor, lanes: int) -> Tensor:
    """View x: (N, K·C, *spatial) as (N, K, C, *spatial)."""
    return torch.unflatten(x, 1, (lanes, -1))


def over_channels(x: Tensor, lanes: int, apply: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Apply what reduces the channels of a run: `apply(view, axis)` gets x with C as that axis of the view.

    PERF: the view follows memory, which saves up to half the time on channels_last input.
    """
    if x.dim() > 2 and x.stride(1) == 1:
        rows = torch.unflatten(x.movedim(1, -1), -1, (lanes, -1))  # (N, *spatial, K, C)
        return apply(rows, -1).flatten(-2).movedim(-1, 1)
    return apply(by_lane(x, lanes), 2).flatten(1, 2)


def positions(shape: Sequence[int]) -> int:
    """Product of the spatial axes of (N, K·C, *spatial).

    >>> positions((2, 6, 28, 28)), positions((2, 100))
    (784, 1)
    """
    return math.prod(shape[2:])
