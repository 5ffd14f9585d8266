"""What norms with running statistics share: chunks, momentum per lane, and where evaluation looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from normbench.errors import NormError
from normbench.momentum import Momentum, parse_momentum
from normbench.norms.core import Affine, Norm, PerLane, per_lane, positions
from normbench.norms.ema import blend, rates, update_rates, weight_of_new, weights_at

PerLaneMomentum = float | str | Sequence[float | str]


class RunningNorm(Norm):
    """Base of norms that take batch statistics in training and keep running ones for evaluation.

    A subclass registers its statistics as lane-major buffers, moves them with `move`, and asks `by_batch` and
    `tracks` what a call is to do.

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
        eps:      ε > 0; one value or one per lane.
        affine:   True, False, "weight" or "bias".
        track:    keep running statistics; without them evaluation uses the batch, too.
        batch:    images per statistic, dividing N; None for all of x.

    Attributes:
        source:   what evaluation uses: "running" statistics or those of the "batch".
        tracked:  whether running statistics are kept.
        after_phase_change: whether the forward pass is that after `phase_change_at`, as `begin_step` said;
                  None if nobody says.

    Raises:
        NormError: an argument out of range.
    """

    num_batches_tracked: Tensor | None
    rate: Tensor

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
        if not isinstance(track, bool):
            raise NormError(f"{self.key}: track must be true or false; got {track!r}")
        self.batch = None if batch is None else self.whole("batch", batch)
        self.source = "running"
        self.after_phase_change: bool | None = None
        self.tracked = track
        self.banks: Banks | None = None
        if not track:
            self.num_batches_tracked = None
            return
        given: tuple[float | str, ...] = per_lane(f"{self.key}: momentum", momentum, lanes)
        self.momenta = tuple(map(parse_momentum, given))
        self.register_buffer("rate", rates(self.momenta), persistent=False)
        count = torch.zeros((lanes,) if lanes > 1 else (), dtype=torch.long)
        self.register_buffer("num_batches_tracked", count)

    def add_banks(self, momenta: Sequence[PerLaneMomentum]) -> None:
        """Keep the running statistics again for other momenta; `using_bank` lets evaluation read them.

        Training must not read running statistics (see `Entry.reads_history`), and takes one batch a step, as
        `begin_step` tells.

        Args:
            momenta: of every further bank, one value or one per lane.
        """
        given: list[tuple[float | str, ...]]
        given = [per_lane(f"{self.key}: momentum", momentum, self.lanes) for momentum in momenta]
        kept = {name: t for name, t in self._buffers.items() if t is not None and name.startswith("running_")}
        self.banks = Banks([tuple(map(parse_momentum, lanes)) for lanes in given], kept)

    @contextmanager
    def using_bank(self, number: int) -> Iterator[None]:
        """Let the layer have the statistics of a bank in place of its own; 0 are its own."""
        if number == 0 or self.banks is None:
            yield
            return
        own = {name: t for name, t in self._buffers.items() if t is not None and name in self.banks.kept}
        # copies in the order in memory of the layer's own, which can change the bits of a product
        lent = {name: torch.empty_like(t).copy_(self.banks.of(number, t, name)) for name, t in own.items()}
        self._buffers.update(lent)
        try:
            yield
        finally:
            self._buffers.update(own)

    @property
    def by_batch(self) -> bool:
        """Whether a call now uses the statistics of its batch."""
        return self.training or self.source == "batch" or not self.tracked

    @property
    def knows_progress(self) -> bool:
        """Whether somebody tells the layer how far the run is."""
        return self.after_phase_change is not None

    @property
    def tracks(self) -> bool:
        """Whether a call now moves the running statistics."""
        return self.training and self.tracked

    def begin_step(self, step: int, steps: int) -> None:
        progress = step / steps
        self.after_phase_change = self.phase_change_at is not None and progress >= self.phase_change_at
        if not self.tracked:
            return
        update_rates(self.rate, self.momenta, progress)
        if self.banks is not None:
            self.banks.begin_step(step, steps, self.rate)

    def statistic_size(self, images: int) -> int:
        """Images per statistic, out of so many in x."""
        return self.batch or images

    def chunks(self, images: int) -> int:
        """S, the statistics that so many images make.

        Raises:
            NormError: they do not make whole ones.
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
        remedy = "use batch ≥ 2, another norm, or placement.sites without this site"
        self.need_several(size * count, what, remedy)

    def by_chunk(self, x: Tensor) -> Tensor:
        """View x: (N, K·C, *spatial) as (S, B, K·C, *spatial): one chunk of images per statistic."""
        return torch.unflatten(x, 0, (self.chunks(x.shape[0]), -1))

    def move(self, **new: Tensor) -> None:
        """Count a batch and move running statistics: s ← s + w_t (new − s), w_t by lane; gradients end here.

        Args:
            new: by the name of a lane-major buffer, the batch's statistic in the same shape.
        """
        weight = self.weigh(self.count())
        for name, statistic in new.items():
            blend(getattr(self, name), statistic, weight)
            if self.banks is not None:
                blend(getattr(self.banks, name), statistic, self.banks.weight)

    def weigh(self, count: Tensor) -> Tensor:
        """w_t of every lane for batch number t: (K,) in fp64."""
        return weight_of_new(self.momenta, self.rate, count, self.knows_progress)

    def share(self, name: str, value: float) -> float:
        """The value, if it lies in [0, 1].

        Raises:
            NormError: it does not; the message names the argument.
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise NormError(f"{self.key}: {name} must be a number in [0, 1]; got {value!r}")
        return value

    def count(self) -> Tensor:
        """t, batches seen with the one that is counted now: (K,), a scalar for K = 1."""
        assert self.num_batches_tracked is not None
        return self.num_batches_tracked.add_(1)

    def extra_repr(self) -> str:
        momenta = dict.fromkeys(map(str, self.momenta)) if self.tracked else ()
        return f"{super().extra_repr()}, momentum={', '.join(momenta) or None}, batch={self.batch}"


class Banks(nn.Module):
    """Further sets of a layer's running statistics, each moved with momenta of its own, all in one go.

    Args:
        momenta: of every bank, one per lane.
        kept:    the layer's running statistics by name, as they begin; each is held here as (M, K, values).
    """

    #: w_t of every bank and lane in the present step: (M, K).
    weight: Tensor

    def __init__(self, momenta: Sequence[tuple[Momentum, ...]], kept: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.lanes, self.kept = len(momenta[0]), tuple(kept)
        self.momenta = tuple(momentum for lanes in momenta for momentum in lanes)  # (M·K)
        for name, statistic in kept.items():
            self.register_buffer(name, torch.stack([statistic.reshape(self.lanes, -1)] * len(momenta)))
        weight = torch.zeros(len(momenta), self.lanes, dtype=torch.float64)
        self.register_buffer("weight", weight, persistent=False)

    def of(self, number: int, like: Tensor, name: str) -> Tensor:
        """A statistic of bank 1, 2, …: a view in the shape of the layer's own."""
        bank: Tensor = getattr(self, name)[number - 1]
        return bank.view(like.shape)

    def begin_step(self, step: int, steps: int, like: Tensor) -> None:
        """Find the weights of a step, in the dtype and on the device of the layer's own rate."""
        now = weights_at(self.momenta, step, steps, like.dtype, like.device)
        self.weight.copy_(now.view(-1, self.lanes))
