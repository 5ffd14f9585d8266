"""Exponential and other moving averages of batch statistics: one object owns weight, schedule and update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Literal

import torch
from torch import Tensor

from normbench.errors import NormError
from normbench.momentum import Momentum, parse_momentum
from normbench.norms.lanes import per_lane

LaneMomentum = float | str | Momentum | None
PerLaneMomentum = LaneMomentum | Sequence[LaneMomentum]
#: What the first batch does to the initial values of a statistic.
#: blend:   it moves them by its weight, as torch does.
#: replace: it replaces them, whatever the momentum.
#: count:   it moves them, and they count as batch number 1.
Start = Literal["blend", "replace", "count"]


class MovingAverage:
    """A moving average s ← s + w_t (new − s), with a weight w_t for each lane.

        ema, schedules   w_t = m
        cumulative       w_t = 1 / t
        debiased         w_t = m / (1 − (1 − m)^t)

    The statistics s are buffers of the layer. This object is no module, so that norms stay leaves of a model;
    the layer passes its casts and moves on to `apply`.

    Args:
        momenta: one per lane, (K,); M banks of K lanes have M·K, bank after bank.
        start:   what the first batch does to the initial values, see `Start`.

    Attributes:
        told: whether `begin_step` was called. A schedule needs it.
        rate: m of every lane now: (K,), fp64 if nobody cast the layer. Steps change it in place, because a
              captured CUDA graph reads it.
    """

    def __init__(self, momenta: Sequence[Momentum], start: Start = "blend") -> None:
        self.start, self.told, self._progress = start, False, 0.0
        self._set(momenta)
        self.rate = self._by_step.rates(0.0)

    @property
    def momenta(self) -> tuple[Momentum, ...]:
        """The momentum of every lane. It can be set; the statistics stay as they are."""
        return self._momenta

    @momenta.setter
    def momenta(self, momenta: Sequence[Momentum]) -> None:
        self._set(momenta)
        self.rate.copy_(self._by_step.rates(self._progress))

    def _set(self, momenta: Sequence[Momentum]) -> None:
        self._momenta = tuple(momenta)
        self._schedules = [str(momentum) for momentum in momenta if momentum.scheduled]
        self._kinds = _kinds(momenta)
        self._by_step = _by_step(self._momenta)

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move and cast as the layer does, see `nn.Module._apply`."""
        self.rate = fn(self.rate)

    @property
    def constant(self) -> float | None:
        """m, if it is the same plain number for every lane and step; else None."""
        first, *others = dict.fromkeys(self._momenta)
        return first.rate if first.kind == "ema" and not others and self.start == "blend" else None

    def begin_step(self, step: int, steps: int) -> None:
        """Take note that optimiser step `step` of `steps` begins: schedules move on."""
        self.told, self._progress = True, step / steps
        if self._schedules:
            self.rate.copy_(self._by_step.rates_at(step, steps, self.rate.device), non_blocking=True)

    def weight(self, count: Tensor) -> Tensor:
        """w_t of every lane.

        Args:
            count: t, batches seen including the new one: (K,) or a scalar.

        Returns:
            (K,) in the dtype of `rate`, fp64 if nobody cast the layer.

        Raises:
            NormError: the momentum is a schedule, and nobody called `begin_step`.
        """
        if self._schedules and not self.told:
            raise NormError(
                f"momentum={self._schedules[0]} changes over the run, but nobody told the layer how far "
                "it is; call begin_step(step, steps) before every training step, or use a constant momentum"
            )
        weight = _weight(self._kinds, self.rate, count + 1 if self.start == "count" else count)
        return torch.where(count == 1, 1.0, weight) if self.start == "replace" else weight

    def weight_at(self, step: int, steps: int) -> Tensor:
        """`weight` for the batch of a step, if every step takes one batch and the first step is 0."""
        return self._by_step.weight_at(step, steps, self.rate.dtype, self.rate.device)

    @staticmethod
    def update(running: Tensor, new: Tensor, weight: Tensor) -> None:
        """Move a statistic in place: s ← s + w (new − s). No gradient goes through it.

        Args:
            running: lane-major, in any shape; (M, K, values) for M banks.
            new:     the batch's statistic, with as many values for each of the K lanes.
            weight:  w, (K,); (M, K) for M banks.
        """
        new = new.detach() if new.requires_grad else new
        new = new if new.dtype == running.dtype else new.to(running.dtype)
        weight = weight if weight.dtype == running.dtype else weight.to(running.dtype)
        if weight.numel() == 1 and new.shape == running.shape:
            running.lerp_(new, weight)  # PERF: views take longer than the arithmetic
            return
        running.view(*weight.shape, -1).lerp_(new.view(weight.shape[-1], -1), weight.unsqueeze(-1))


def lane_momenta(name: str, momentum: PerLaneMomentum, lanes: int) -> tuple[Momentum, ...]:
    """One momentum per lane, parsed. None is torch's word for cumulative.

    Raises:
        InputError: a momentum that cannot be read, or another number of them than lanes.
    """
    if momentum is None or isinstance(momentum, Momentum):
        momentum = (momentum,) * lanes
    given: tuple[LaneMomentum, ...] = per_lane(name, momentum, lanes)
    return tuple(parse_momentum("cumulative" if each is None else each, name) for each in given)


class _ByStep:
    """m and w_t of some momenta, (K,) each, at a step. All averages with these momenta share it.

    PERF: each step is computed once for all layers, and each momentum once for all lanes that have it. So the
    time does not grow with layers or lanes.
    """

    def __init__(self, momenta: tuple[Momentum, ...]) -> None:
        self._distinct = list(dict.fromkeys(momenta))
        places = {momentum: place for place, momentum in enumerate(self._distinct)}
        self._place = {torch.device("cpu"): torch.tensor([places[momentum] for momentum in momenta])}
        self._kinds = _kinds(self._distinct)
        self._rates: tuple[object, Tensor] | None = None
        self._weights: tuple[object, Tensor] | None = None

    def rates(self, progress: float) -> Tensor:
        """m when a share of the run is done: in fp64 on the CPU."""
        return self._spread(self._of_distinct(progress))

    def rates_at(self, step: int, steps: int, device: torch.device) -> Tensor:
        """m at a step, in fp64. Do not change it."""
        key = step, steps, device
        if self._rates is None or self._rates[0] != key:
            self._rates = key, self._spread(self._of_distinct(step / steps).to(device, non_blocking=True))
        return self._rates[1]

    def weight_at(self, step: int, steps: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """w_t at a step, if every step takes one batch and the first step is 0. Do not change it."""
        key = step, steps, dtype, device
        if self._weights is None or self._weights[0] != key:
            rates = self._of_distinct(step / steps).to(dtype)
            weights = _weight(self._kinds, rates, torch.tensor(step + 1))
            self._weights = key, self._spread(weights.to(device, non_blocking=True))
        return self._weights[1]

    def _of_distinct(self, progress: float) -> Tensor:
        return torch.tensor([momentum.at(progress) for momentum in self._distinct], dtype=torch.float64)

    def _spread(self, values: Tensor) -> Tensor:
        device = values.device
        if device not in self._place:
            self._place[device] = self._place[torch.device("cpu")].to(device)
        return values.index_select(0, self._place[device])


@lru_cache(maxsize=64)
def _by_step(momenta: tuple[Momentum, ...]) -> _ByStep:
    """The one object for some momenta."""
    return _ByStep(momenta)


def _kinds(momenta: Sequence[Momentum]) -> tuple[str, ...]:
    """The kind of every momentum; a schedule is an ema whose m changes."""
    return tuple("ema" if momentum.scheduled else momentum.kind for momentum in momenta)


def _weight(kinds: tuple[str, ...], rate: Tensor, count: Tensor) -> Tensor:
    """w_t of every lane from its kind of momentum, its m and t."""
    if kinds.count("ema") == len(kinds):
        return rate
    t = count.double().expand(len(kinds))
    weight = rate
    if "cumulative" in kinds:
        weight = torch.where(_are("cumulative", kinds, rate.device), 1 / t, weight)
    if "debiased" in kinds:
        debiased = rate / -torch.expm1(t * torch.log1p(-rate))  # keeps its digits for small m
        weight = torch.where(_are("debiased", kinds, rate.device), debiased, weight)
    return weight


@cache  # never freed: a captured CUDA graph reads them
def _are(kind: str, kinds: tuple[str, ...], device: torch.device) -> Tensor:
    """Which of the momenta are of a kind: (K,)."""
    return torch.tensor([each == kind for each in kinds], device=device)
