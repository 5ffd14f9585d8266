"""What norms with running statistics share: chunks, momentum per lane, and the source of statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from normbench.errors import NormError
from normbench.momentum import Momentum
from normbench.norms.banks import Banks
from normbench.norms.core import Affine, MomentumValue, Norm
from normbench.norms.ema import MovingAverage, PerLaneMomentum, Start, lane_momenta
from normbench.norms.lanes import PerLane, positions
from normbench.norms.spatial_moments import saturated

#: Which variance of a batch the running variance may take.
VARIANCES = ("unbiased", "biased")


class RunningNorm(Norm):
    """Base of norms that take batch statistics in training and keep running ones for evaluation.

    A subclass registers its statistics with `register_statistic` and moves them with `move`. `by_batch` and
    `tracks` tell it what a call must do.

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
        eps:      ε > 0; one value or one per lane.
        affine:   True, False, "weight" or "bias".
        track:    whether to keep running statistics. Without them evaluation uses the batch.
        batch:    images per statistic; must divide N. None: all of x.

    Attributes:
        source:   the statistics that evaluation uses, "running" or "batch".
        tracked:  whether running statistics are kept.
        after_phase_change: whether the run is past `phase_change_at`, as `begin_step` said; None if nobody
                  called it.

    Raises:
        NormError: an argument out of range.
    """

    #: Evaluation reads its input as (x − running_mean) / √(running_var + ε) alone, whatever it does next;
    #: without the subtraction if `center` is false, without the division if `scale` is false.
    standardizes: ClassVar[bool] = False
    center: bool = True
    scale: bool = True
    #: What the first batch does to the initial statistics, see `ema.Start`.
    first_batch: ClassVar[Start] = "blend"

    #: Of the state_dict, as torch's batch norm counts it.
    _version = 2

    num_batches_tracked: Tensor | None
    average: MovingAverage

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        momentum: PerLaneMomentum,
        eps: PerLane = (),
        affine: Affine = False,
        track: bool = True,
        batch: int | None = None,
    ) -> None:
        super().__init__(channels, lanes, eps=eps, affine=affine)
        self.flag("track", track)
        self.batch = None if batch is None else self.whole("batch", batch)
        self.source = "running"
        self.after_phase_change: bool | None = None
        self.tracked = track
        self.banks: Banks | None = None
        self._initial: dict[str, Callable[[], Tensor]] = {}
        self.register_statistic("num_batches_tracked", self._no_batches)
        if track:
            self.average = MovingAverage(self._lane_momenta(momentum), self.first_batch)

    def register_statistic(self, name: str, initial: Callable[[], Tensor], kept: bool = True) -> None:
        """Register a lane-major buffer that training moves.

        Args:
            initial: makes its initial value, also for `reset_running_stats`.
            kept:    whether this layer has it. Without it, and if nothing is tracked, the buffer is None.
        """
        kept = kept and self.tracked
        if kept:
            self._initial[name] = initial
        self.register_buffer(name, initial() if kept else None)

    def register_moments(self, variance: str) -> None:
        """Register running_mean and running_var, which start at 0 and 1 for every channel.

        Args:
            variance: which variance of a batch the running one takes: one of VARIANCES.
        """
        self.variance = self.choice("variance", variance, VARIANCES)
        for name, make in (("running_mean", torch.zeros), ("running_var", torch.ones)):
            self.register_statistic(name, partial(make, self.lanes * self.channels))

    def _no_batches(self) -> Tensor:
        """A count of 0 for every lane: (K,), a scalar for K = 1."""
        return torch.zeros((self.lanes,) if self.lanes > 1 else (), dtype=torch.long)

    @torch.no_grad()
    def reset_running_stats(self) -> None:
        """Give all statistics and counts, those of the banks too, their initial values."""
        for name, initial in self._initial.items():
            value = initial().to(self.get_buffer(name))
            self.get_buffer(name).copy_(value)
            if self.banks is not None and name in self.banks.kept:
                self.banks.reset(name, value)

    def add_banks(self, momenta: Sequence[PerLaneMomentum]) -> None:
        """Keep further sets of the running statistics, for other momenta; `using_bank` selects one.

        Training must not read the running statistics (`banks: true` in conf/norm/<key>.yaml), and must take
        one batch per step, as `begin_step` says.

        Args:
            momenta: for every further bank, one value or one per lane.
        """
        kept = {name: t for name, t in self._buffers.items() if t is not None and name.startswith("running_")}
        self.banks = Banks([self._lane_momenta(momentum) for momentum in momenta], kept, self.average.rate)

    @contextmanager
    def using_bank(self, number: int) -> Iterator[None]:
        """Replace the layer's statistics by those of a bank for a while; bank 0 is the layer's own."""
        if number == 0 or self.banks is None:
            yield
            return
        own = {name: t for name, t in self._buffers.items() if t is not None and name in self.banks.kept}
        # copies with the layer's own memory order: the order can change the bits of a product
        lent = {name: torch.empty_like(t).copy_(self.banks.of(number, t, name)) for name, t in own.items()}
        self._buffers.update(lent)
        try:
            yield
        finally:
            self._buffers.update(own)

    def averages(self) -> Iterable[MovingAverage]:
        return (self.average,) if self.tracked else ()

    @property
    def momenta(self) -> tuple[Momentum, ...]:
        """The momentum of every lane. It can be set; the statistics stay as they are."""
        return self.average.momenta

    @momenta.setter
    def momenta(self, momenta: Sequence[Momentum]) -> None:
        self.average.momenta = tuple(momenta)

    @property
    def momentum(self) -> MomentumValue | tuple[MomentumValue, ...]:
        """The momentum as torch shows it: None if cumulative; a tuple if lanes differ. It can be set."""
        if not self.tracked:
            return None
        shown = tuple(None if m.kind == "cumulative" else m.canonical for m in self.momenta)
        return shown if len(set(shown)) > 1 else shown[0]

    @momentum.setter
    def momentum(self, momentum: Any) -> None:
        if not self.tracked:
            raise NormError(f"{self.key}: no running statistics are kept, so there is no momentum to set")
        self.momenta = self._lane_momenta(momentum)

    @property
    def track_running_stats(self) -> bool:
        """Whether running statistics are kept, under torch's name. It cannot be changed."""
        return self.tracked

    @track_running_stats.setter
    def track_running_stats(self, track: bool) -> None:
        if track != self.tracked:
            raise NormError(
                f"{self.key}: a layer cannot change whether it keeps running statistics; got "
                f"track_running_stats={track}. Build it with track={track}; or set source='batch', which "
                "evaluates with the statistics of the batch"
            )

    def _lane_momenta(self, momentum: PerLaneMomentum) -> tuple[Momentum, ...]:
        return lane_momenta(f"{self.key}: momentum", momentum, self.lanes)

    @property
    def by_batch(self) -> bool:
        """Whether a call now normalizes with the statistics of its batch."""
        return self.training or self.source == "batch" or not self.tracked

    @property
    def takes_statistics(self) -> bool:
        return self.by_batch

    @property
    def knows_progress(self) -> bool:
        """Whether `begin_step` was called."""
        return self.after_phase_change is not None

    @property
    def tracks(self) -> bool:
        """Whether a call now moves the running statistics."""
        return self.training and self.tracked

    def begin_step(self, step: int, steps: int) -> None:
        change = self.phase_change_at
        after = change is not None and step / steps >= change
        if after is not self.after_phase_change:  # PERF: a module is slow at setting attributes
            self.after_phase_change = after
        if not self.tracked:
            return
        self.average.begin_step(step, steps)
        if self.banks is not None:
            self.banks.begin_step(step, steps)

    def statistic_size(self, images: int) -> int:
        """Images per statistic, if x holds that many images."""
        return self.batch or images

    def chunks(self, images: int) -> int:
        """S, how many statistics that many images make.

        Raises:
            NormError: the images do not fill whole statistics.
        """
        size = self.statistic_size(images)
        if images % size:
            raise NormError(
                f"{self.key}: the input must hold a multiple of {size} images, the size of one statistic; "
                f"got {images}. Drop the last incomplete batch"
            )
        return images // size

    def check(self, shape: Sequence[int]) -> None:
        self.chunks(shape[0])
        size, count = self.statistic_size(shape[0]), positions(shape)
        what = f"{size} image per statistic on a map of {count} position"
        remedy = "use batch ≥ 2, another norm, or leave this layer out"
        self.need_several(size * count, what, remedy)

    def by_chunk(self, x: Tensor) -> Tensor:
        """View x: (N, K·C, *spatial) as (S, B, K·C, *spatial): one chunk of images per statistic."""
        return torch.unflatten(x, 0, (self.chunks(x.shape[0]), -1))

    def move(self, **new: Tensor) -> None:
        """Count a batch and move running statistics: s ← s + w_t (new − s), w_t per lane. No gradient passes.

        Args:
            new: the batch's statistics, each under the name of its buffer and in the buffer's shape.
        """
        weight = self.average.weight(self.count())
        for name, statistic in new.items():
            self.average.update(getattr(self, name), statistic, weight)
            if self.banks is not None:
                self.banks.move(name, statistic)

    def share(self, name: str, value: float) -> float:
        """The value, if it lies in [0, 1].

        Raises:
            NormError: it does not; the message names the argument.
        """
        return self.number(name, value, least=0, most=1)

    def count(self) -> Tensor:
        """Count a batch. Returns t, the batches seen including this one: (K,), a scalar for K = 1."""
        assert self.num_batches_tracked is not None
        return self.num_batches_tracked.add_(1)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        """As torch's layer: the layer keeps its count if an old state_dict has no num_batches_tracked."""
        name = f"{prefix}num_batches_tracked"
        if local_metadata.get("version", 1) < 2 and self.num_batches_tracked is not None:
            state_dict.setdefault(name, self.num_batches_tracked.clone())
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def extra_repr(self) -> str:
        momenta = dict.fromkeys(map(str, self.momenta)) if self.tracked else ()
        return f"{super().extra_repr()}, momentum={', '.join(momenta) or None}, batch={self.batch}"


def over_chunks(statistic: Tensor) -> Tensor:
    """Mean over the chunks of a step, (S, …) → (…). A vector belongs to a single chunk and stays as it is.

    PERF: the mean of one chunk takes no call.
    """
    if statistic.dim() == 1:
        return statistic
    return statistic[0] if len(statistic) == 1 else saturated(statistic.mean(0))
