"""What every norm layer shares: the lane layout, the affine map, per-lane eps, and which inputs it takes.

A layer sees K stacked runs side by side in the channel axis, x: (N, K·C, *spatial) with any number of spatial
axes ≥ 0. Statistics never reduce over the lane axis. So training a stack equals training its runs alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from normbench.errors import NormError
from normbench.norms.arguments import Arguments
from normbench.norms.ema import MovingAverage
from normbench.norms.lanes import PerLane, along_channels, per_lane, spread

Affine = bool | str
#: Types that statistics are computed in; all others are computed in the first.
WIDE = (torch.float32, torch.float64)
MomentumValue = float | str | None


class Norm(Arguments, nn.Module):
    """Base of all norm layers: validates arguments, owns γ and β, keeps half precision out of the statistics.

    A subclass implements `normalize`.

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        eps:      ε > 0, one number or one per lane; () if the method has none.
        affine:   True: γ and β; "weight": γ alone; "bias": β alone; False: neither.

    Raises:
        NormError: an argument out of its range; the message names it.
    """

    #: Parameter name → role; optimisers decide on weight decay by role.
    roles: ClassVar[dict[str, str]] = {"weight": "scale", "bias": "shift"}

    #: The layer's place in a network, set by whoever builds the network.
    site: str = ""
    #: The layer replaces the activation after it, too; set by whoever builds the network.
    activated: bool = False
    #: Matrix products and convolutions of the method are in fp64; set by whoever builds the network, because
    #: TF32 would give them 10 bits of mantissa.
    in_double: bool = False
    #: Share of the run after which the forward pass changes; None if it never does. Before and after that,
    #: every step runs the same operations on the same memory; what changes from step to step is in tensors.
    phase_change_at: float | None = None
    #: The operation of a step that waits for the host, if there is one. A CUDA graph cannot hold such a step.
    waits_for_host: ClassVar[str] = ""
    #: The statistic that needs all workers at once, because it does not move to the mean over them, if there
    #: is one. Processes that hold different workers cannot move it, each alone.
    joins_workers: ClassVar[str] = ""
    #: Evaluation computes what training computes, so it needs the same statistics. Set by the registry.
    same_in_evaluation: ClassVar[bool] = False

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    eps_gain: Tensor | None

    def __init__(self, channels: int, lanes: int = 1, *, eps: PerLane = (), affine: Affine = False) -> None:
        super().__init__()
        self.channels, self.lanes = self.whole("channels", channels), self.whole("lanes", lanes)
        if not isinstance(affine, bool) and affine not in ("weight", "bias"):
            raise NormError(f"{self.key}: affine must be true, false, weight or bias; got {affine!r}")
        self.affine = affine
        self._checked: set[tuple[torch.Size, bool]] = set()
        self._trained_on: set[tuple[torch.Size, torch.dtype]] = set()
        stacked = lanes * channels
        self.weight = nn.Parameter(torch.ones(stacked)) if affine in (True, "weight") else None
        self.bias = nn.Parameter(torch.zeros(stacked)) if affine in (True, "bias") else None
        no_eps = isinstance(eps, tuple) and not eps
        self.lane_eps = () if no_eps else self._lane_eps(eps)
        self.register_buffer("eps_gain", self._eps_gain(), persistent=False)

    @property
    def num_features(self) -> int:
        """Channels of the input, as torch calls them: K·C."""
        return self.lanes * self.channels

    @property
    def eps(self) -> float:
        """ε of the kernel call; other lanes' own comes in through `eps_gain`. It can be set, per lane too."""
        if not self.lane_eps:
            raise AttributeError(f"{self.key} has no eps")
        return self.lane_eps[0]

    @eps.setter
    def eps(self, eps: PerLane) -> None:
        if not self.lane_eps:
            raise NormError(f"{self.key}: the method has no eps; got {eps!r}. Leave it out")
        self.lane_eps = self._lane_eps(eps)
        gain, like = self._eps_gain(), next(chain(self.parameters(), self.buffers()), None)
        self.eps_gain = gain if gain is None or like is None else gain.to(like.device)

    @property
    def momentum(self) -> MomentumValue | tuple[MomentumValue, ...]:
        """Only norms with running statistics have one."""
        raise AttributeError(f"{self.key} has no momentum")

    @momentum.setter
    def momentum(self, momentum: Any) -> None:
        raise NormError(f"{self.key}: no running statistics are kept, so there is no momentum to set")

    def _lane_eps(self, eps: PerLane) -> tuple[float, ...]:
        given = per_lane(f"{self.key}: eps", eps, self.lanes)
        for value in given:
            self.number("eps", value, above=0)
        return given

    def _eps_gain(self) -> Tensor | None:
        """√(ε₀/ε_k) per channel; None if all lanes have the same ε."""
        if len(set(self.lane_eps)) < 2:
            return None
        gain = torch.tensor([math.sqrt(self.lane_eps[0] / e) for e in self.lane_eps], dtype=torch.float64)
        return spread(gain, self.channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x: (N, K·C, *spatial) → same shape and dtype; statistics in fp32, fp64 for fp64 input.

        An x without values comes back empty and leaves the layer as it is.

        Raises:
            NormError: x is no floating-point tensor of K·C channels, or `check` refuses its shape.
        """
        dtype = x.dtype
        if not (self.training and (x.shape, dtype) in self._trained_on):  # PERF: hundreds of equal shapes
            self._admit(x)
            if x.numel() == 0:
                return self._empty(x)
        y = self.normalize(x if dtype in WIDE or self.widens(x) else x.float())
        return y if y.dtype == dtype else y.to(dtype)

    def normalize(self, x: Tensor) -> Tensor:
        """The method itself, in fp32 or fp64: (N, K·C, *spatial) → the same shape. The base returns x."""
        return x

    def widens(self, x: Tensor) -> bool:
        """Whether `normalize` takes half precision as it is, and computes in fp32 itself."""
        return False

    def for_products(self, x: Tensor) -> Tensor:
        """A factor of a matrix product, in fp64 if `in_double`."""
        return x.double() if self.in_double else x

    @property
    def takes_statistics(self) -> bool:
        """Whether a call now takes statistics of its input, whose shape `check` must accept then."""
        return self.training or self.same_in_evaluation

    def _admit(self, x: Tensor) -> None:
        """Refuse an input that cannot be normalized."""
        if not x.is_floating_point():
            raise NormError(
                f"{self.key}: the input must hold real floating-point numbers; got {x.dtype}. "
                "Convert it first, as with x.float()"
            )
        if x.dim() < 2 or x.shape[1] != self.lanes * self.channels:
            raise NormError(
                f"{self.key}: the input must have the shape (N, {self.num_features}, *spatial), with "
                f"{self.channels} channels for each of {self.lanes} lanes; got {tuple(x.shape)}"
            )
        state = x.shape, self.training
        if self.takes_statistics and state not in self._checked and x.numel():
            self.check(x.shape)
            if not torch.compiler.is_compiling():
                self._checked.add(state)
                if self.training:
                    self._trained_on.add((x.shape, x.dtype))

    def _empty(self, x: Tensor) -> Tensor:
        """The output for an input without values: x, with a gradient of 0 for every parameter."""
        for parameter in self.parameters():
            x = x + (0 * parameter.sum()).to(x.dtype)
        return x

    def equalized(self, x: Tensor) -> Tensor:
        """x scaled per lane, so that one kernel call with `eps` gives every lane its own ε.

        With a = √(ε₀/ε_k): (a·x − a·μ) / √(a²σ² + ε₀) = (x − μ) / √(σ² + ε_k), and likewise for a mean
        square.
        """
        return x if self.eps_gain is None else x * along_channels(self.eps_gain.to(x.dtype), x)

    def eps_along(self, x: Tensor) -> float | Tensor:
        """ε for formulas without `equalized`: a number, or (1, K·C, 1, …) if lanes differ."""
        if self.eps_gain is None:
            return self.eps
        return along_channels(self.eps / self.eps_gain.to(x.dtype).square(), x)

    def scale_shift(self, y: Tensor) -> Tensor:
        """γ y + β; a γ or β that the layer lacks is left out."""
        if self.weight is not None:
            y = y * along_channels(self.weight, y)
        if self.bias is not None:
            y = y + along_channels(self.bias, y)
        return y

    def scaled_by(self, centred: Tensor, gain: Tensor, x: Tensor) -> Tensor:
        """γ · centred · gain + β; `centred` is like x or its chunks. PERF: γ multiplies the gain."""
        if self.weight is not None:
            gain = gain * along_channels(self.weight, x)
        y = centred * gain
        return y if self.bias is None else y + along_channels(self.bias, x)

    def begin_step(self, step: int, steps: int) -> None:
        """Take note that step `step` of `steps` begins. Layers without a schedule ignore it."""

    def follow(self, layer: nn.Module | None) -> None:
        """Take note of the linear layer that feeds this one, None if none does. Most norms ignore it."""

    def check(self, shape: Sequence[int]) -> None:
        """Refuse an input shape (N, K·C, *spatial) of which this layer cannot take statistics.

        A layer that reads earlier batches in training may accept more there than in evaluation.

        Raises:
            NormError: a statistic would average a single value, or the shape does not fit the arguments.
        """

    def need_several(self, values: int, what: str, remedy: str) -> None:
        """Raise a NormError unless a statistic averages at least two values."""
        if values < 2:
            raise NormError(
                f"{self.key}: a statistic must average at least 2 values, but {what} gives 1; {remedy}"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        eps = f", eps={', '.join(f'{e:g}' for e in dict.fromkeys(self.lane_eps))}" if self.lane_eps else ""
        return f"{self.channels}, lanes={self.lanes}{eps}, affine={self.affine}"

    def averages(self) -> Iterable[MovingAverage]:
        """The moving averages that the layer keeps; they move and are cast with it."""
        return ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Norm:
        """Move and cast, but never below fp32: `model.half()` leaves parameters and statistics in fp32."""

        def keep_wide(tensor: Tensor) -> Tensor:
            cast = fn(tensor)
            return cast if cast.dtype not in (torch.float16, torch.bfloat16) else tensor.to(cast.device)

        super()._apply(keep_wide, recurse)  # type: ignore[no-untyped-call]
        for average in self.averages():
            average.apply(keep_wide)
        return self
