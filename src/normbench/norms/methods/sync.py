"""Synchronized batch normalization (key: sync)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed

from normbench import ranks
from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, along_channels, positions
from normbench.norms.methods.bn import BatchNorm
from normbench.norms.registry import register


@register(
    "sync",
    family="batch",
    reduces="N, H, W",
    reference="peng2018",
    batch_statistics=True,
    absorbs_bias=True,
    eval_differs=True,
)
class SyncBatchNorm(BatchNorm):
    """Synchronized batch normalization: batch norm over the images of all workers.

        y = γ (x − μ) / √(σ² + ε) + β
        μ, σ² over 𝒮 = {same channel} × batches of all workers × H × W   training
        μ, σ² ← running statistics                                     evaluation

    Symbols:      μ mean · σ² var (biased) · γ weight · β bias
    Reduces:      (N, H, W) for each channel; N counts all images of a step, for any number of workers.
    Train / eval: differ. Batch-independent: no.
    Workers:      simulated workers have their images in one x, all of which is used. In training within a
                  torch.distributed process group (any backend), the images of all processes are used: two
                  sums of K·C numbers forward and two backward. Processes may hold different numbers of
                  images, also none; all must call the layer. Evaluation never communicates.
    Gradients:    those of the sum of all processes' losses, as in torch's SyncBatchNorm. For γ and β each
                  process has its own part. So after DistributedDataParallel's averaging, all gradients are
                  those of the mean of the processes' losses.
    Running statistics: as bn's: mean and Bessel-corrected variance of all images, the same in every process.
    Numerics:     fp32 (fp64 for fp64 input); ε inside the root; two passes over processes as over images.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean, running_var: (K·C,);  num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
        eps:      ε > 0; one value or one per lane. torch: 1e-5.
        affine:   True, False, "weight" or "bias".
        track:    whether to keep running statistics. Without them evaluation uses the batch.
        variance: "unbiased": the running variance is Bessel-corrected, as in torch; "biased": it is not, as
                  in Keras and flax.
        total:    images per statistic in evaluation with batch statistics, those of a step; must divide N.
                  None: all of x.

    Raises:
        NormError: an argument out of range, or one value per statistic; in evaluation with batch statistics,
                   N not a multiple of `total`.

    Same as:    bn, in one process.
    Reference:  peng2018 — MegDet: A Large Mini-Batch Object Detector, CVPR 2018, arXiv:1711.07240.
    Deviations: none from torch.nn.SyncBatchNorm; this layer also runs on CPUs. With one worker it is bn.
    """

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        track: bool = True,
        variance: str = "unbiased",
        total: int | None = None,
    ) -> None:
        super().__init__(
            channels, lanes, momentum=momentum, eps=eps, affine=affine, track=track, variance=variance
        )
        self.batch = None if total is None else self.whole("total", total)

    def statistic_size(self, images: int) -> int:
        return images if self.training else super().statistic_size(images)

    def check(self, shape: Sequence[int]) -> None:
        images = processes() * shape[0]
        self.need_several(
            images * positions(shape),
            f"{images} image of all workers on a map of {positions(shape)} position",
            "use more images, another norm, or leave this layer out",
        )

    def _empty(self, x: Tensor) -> Tensor:
        """A process without images takes part too, because the others wait for its sums."""
        return self.normalize(x) if self.training and processes() > 1 else super()._empty(x)

    def _by_batch(self, x: Tensor) -> Tensor:
        return self._over_processes(x) if self.training and processes() > 1 else super()._by_batch(x)

    def _over_processes(self, x: Tensor) -> Tensor:
        axes = (0, *range(2, x.dim()))
        values = x.new_full((1,), x.numel() // x.shape[1])
        totals = over_processes(torch.cat([x.sum(axes), values]))
        count = totals[-1]
        mean = totals[:-1] / count
        centred = x - along_channels(mean, x)
        var = over_processes(centred.square().sum(axes)) / count
        if self.tracks:
            correction = 1 if self.variance == "biased" else count / (count - 1)
            self.move(running_mean=mean, running_var=var * correction)
        return self.scale_shift(centred * (along_channels(var, x) + self.eps_along(x)).rsqrt())


class SumOverProcesses(torch.autograd.Function):
    """Forward: the sum of all processes' tensors. Backward: the sum of all processes' gradients of it."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        total = mine.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


def over_processes(mine: Tensor) -> Tensor:
    """The sum of a tensor over all processes; gradients flow to every summand."""
    total: Tensor = SumOverProcesses.apply(mine)
    return total


def processes() -> int:
    """Number of processes that train together: as `ranks.holding` says, else all of the process group, if
    there is one.
    """
    if (held := ranks.held()) is not None:
        return held.count
    together = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if together else 1
