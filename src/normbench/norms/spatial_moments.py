"""Statistics of maps (one channel of one image), from which statistics of larger sets follow."""

from __future__ import annotations

import torch
from torch import Tensor

from normbench.norms.lanes import positions


def saturated(statistic: Tensor) -> Tensor:
    """A statistic with infinities replaced by the largest finite numbers of its dtype; NaN stays NaN.

    Squares of fp32 inputs above 1.8e19 overflow. Products and differences of infinite variances are NaN;
    those of saturated ones are finite.
    """
    most = torch.finfo(statistic.dtype).max
    return statistic.clamp(-most, most)


def map_mean(x: Tensor) -> Tensor:
    """Mean of every map: (N, K·C, *spatial) → (N, K·C, 1, …); without spatial axes x itself.

    PERF: the gradient of a sum is a view, that of a mean a copy.
    """
    if x.dim() == 2:
        return x
    return x.sum(tuple(range(2, x.dim())), keepdim=True) / positions(x.shape)


def map_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x minus the mean of its map, that mean, and the biased variance; the last two are (N, K·C, 1, …).

    PERF: on a CPU ten times as fast as torch.var_mean over the same axes.
    """
    mean = map_mean(x)
    centred = x - mean
    return centred, mean, saturated(map_mean(centred.square()))


def merged(mean: Tensor, var: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of the union of equally large sets along an axis, which stays with size 1.

    σ² of the union is the mean of the variances plus the variance of the means: no digits cancel.

    >>> import torch
    >>> m, v = merged(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0]), 0)
    >>> m.item(), v.item()
    (1.0, 3.0)
    """
    middle = mean.mean(axis, keepdim=True)
    return middle, saturated((var + (mean - middle).square()).mean(axis, keepdim=True))
