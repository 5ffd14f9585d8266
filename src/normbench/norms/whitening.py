"""What norms that decorrelate channels share: groups, covariances, and running statistics."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from normbench.norms.channel_matrices import as_matrices, from_matrices, without_autocast
from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane
from normbench.norms.methods.gn import groups_of
from normbench.norms.running import RunningNorm


class WhiteningNorm(RunningNorm):
    """Base of norms that whiten groups of channels over the batch: y = γ W (x − μ) + β.

    A subclass implements `whiten`: which W belongs to a covariance.

    Args:
        channels:   C, channels of one run.
        lanes:      K, stacked runs; 1 for a lone run.
        group_size: d, channels whitened together, dividing C. None: the largest divisor of C up to 16.
        momentum:   weight of the new batch, or another form of `normbench.momentum`; one value or one per
                    lane.
        eps:        ε > 0, added to the covariance's diagonal; one value or one per lane.
        affine:     True, False, "weight" or "bias".
        track:      whether to keep running statistics. Without them evaluation uses the batch.
        batch:      images per statistic; must divide N. None: all of x.

    Attributes:
        group_size: as in effect.

    Raises:
        NormError: an argument out of range, or group_size not dividing C.
    """

    running_mean: Tensor | None
    running_whitening: Tensor | None

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        group_size: int | None = None,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        track: bool = True,
        batch: int | None = None,
    ) -> None:
        super().__init__(channels, lanes, momentum=momentum, eps=eps, affine=affine, track=track, batch=batch)
        groups, self.group_size = groups_of(self, None, group_size)
        self.register_statistic("running_mean", partial(torch.zeros, lanes * channels))
        self.register_statistic("running_whitening", partial(_identities, lanes * groups, self.group_size))

    def whiten(self, covariance: Tensor, eps: float | Tensor) -> Tensor:
        """W of every covariance Σ: (L, d, d) → same shape; ε is a number or (L, 1, 1). The base returns Σ."""
        return covariance

    def normalize(self, x: Tensor) -> Tensor:
        x = self.for_products(x)
        with without_autocast(x):
            return self._by_batch(x) if self.by_batch else self._by_running(x)

    def _by_batch(self, x: Tensor) -> Tensor:
        chunks = self.chunks(x.shape[0])
        values = as_matrices(x, chunks, x.shape[1] // self.group_size)  # (S·K·G, d, m)
        centred, mean, covariance = Moments.apply(values)
        # an overflowing sum may be NaN. A NaN in the input still reaches the output, through `centred`
        whitening = self.whiten(torch.nan_to_num(covariance), self._eps(chunks, values))
        if self.tracks:
            new = (torch.unflatten(t.detach(), 0, (chunks, -1)).mean(0) for t in (mean, whitening))
            self.move(**dict(zip(("running_mean", "running_whitening"), new, strict=True)))
        return from_matrices(self._transform(whitening, centred, chunks), x, chunks)

    def _by_running(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_whitening is not None
        values = as_matrices(x, 1, x.shape[1] // self.group_size)
        centred = values - self.running_mean.to(x.dtype).view(-1, self.group_size, 1)
        return from_matrices(self._transform(self.running_whitening.to(x.dtype), centred, 1), x, 1)

    def _transform(self, whitening: Tensor, centred: Tensor, chunks: int) -> Tensor:
        """γ W (x − μ) + β. PERF: γ multiplies the rows of W, which hold fewer numbers than x."""
        scale, shift = (
            None if p is None else p.to(centred.dtype).view(-1, self.group_size, 1).repeat(chunks, 1, 1)
            for p in (self.weight, self.bias)
        )
        matrix = whitening if scale is None else scale * whitening
        return matrix @ centred if shift is None else torch.baddbmm(shift, matrix, centred)

    def _eps(self, chunks: int, values: Tensor) -> float | Tensor:
        """ε in the form that `whiten` takes."""
        eps = self.eps_along(values)
        if not isinstance(eps, Tensor):
            return eps
        return eps.view(-1, 1, 1)[:: self.group_size].repeat(chunks, 1, 1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, group_size={self.group_size}"


def _identities(count: int, size: int) -> Tensor:
    return torch.eye(size).repeat(count, 1, 1)


class Moments(torch.autograd.Function):
    """Centred values (L, d, m), mean (L, d, 1) and covariance (L, d, d) of values (L, d, m).

    PERF: one product and two passes backward; autograd takes two and five. The mean serves the running
    statistics alone and has no gradient.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = values.mean(2, keepdim=True)
        centred = values - mean
        ctx.save_for_backward(centred)
        ctx.mark_non_differentiable(mean)
        return centred, mean, torch.bmm(centred, centred.mT) / values.shape[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_centred: Tensor, by_mean: Tensor, by_covariance: Tensor) -> Tensor:
        (centred,) = ctx.saved_tensors
        grad = torch.bmm((by_covariance + by_covariance.mT) / centred.shape[2], centred)
        return grad.add_(by_centred).sub_(by_centred.mean(2, keepdim=True))
