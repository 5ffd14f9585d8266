"""How good predicted probabilities are: calibration, the optimal temperature, errors per class.

    nll           mean of −log p_y: the test loss
    ece           Σ_b n_b/n |hits_b − confidence_b| over 15 bins of equal width of the highest probability;
                  a bin includes its upper edge (guo2017, equation 3)
    temperature   T > 0 with the least mean of −log softmax(z / T)_y (guo2017, §4.2), fitted on the test
                  images themselves; None if there is no least, as when no image is classified wrong
    reliability   count, mean confidence and share of hits of every bin: the curve that ece sums up
    confusion     images of class t (row) that are taken for class g (column)
    class_error   share of errors among the images of each class

Reference: guo2017 — On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599.
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 15
#: Temperatures are sought between the reciprocals of these.
_COLDEST, _HOTTEST = 1e4, 1e-4
_ITERATIONS = 60


def reliability(logits: Tensor, labels: Tensor) -> Tensor:
    """Per lane and bin: images, sum of confidences, hits; (3, K, BINS) in fp64.

    Args:
        logits: (n, K, classes).
        labels: (n, K).
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    confidence, guess = wide.softmax(2).max(2)
    edges = torch.linspace(0, 1, BINS + 1, dtype=wide.dtype, device=wide.device)[1:-1]
    bins = torch.bucketize(confidence, edges)
    member = (bins[:, :, None] == torch.arange(BINS, device=bins.device)).double()
    hits = (guess == labels).double()
    parts = (torch.ones_like(hits), confidence.double(), hits)
    return torch.stack([(member * part[:, :, None]).sum(0) for part in parts])


def calibration_error(bins: Tensor) -> Tensor:
    """ECE of every lane, (K,), from `reliability` of all images."""
    count, confidence, hits = bins
    error: Tensor = (hits - confidence).abs().sum(1) / count.sum(1)
    return error


def per_class_error(confusion: Tensor) -> Tensor:
    """(K, classes) from (K, true class, guessed class); not a number for a class without images."""
    return 1 - confusion.diagonal(dim1=1, dim2=2) / confusion.sum(2)


def temperature(logits: Tensor, labels: Tensor) -> list[float | None]:
    """The optimal temperature of every lane.

    The loss is convex in β = 1 / T: Newton's method, with bisection where it leaves the bracket.

    Args:
        logits: (n, K, classes).
        labels: (n,).
    """
    z = logits.double().transpose(0, 1)  # (K, n, classes)
    z = z - z.gather(2, labels[None, :, None].expand(len(z), -1, 1))

    def slope(beta: Tensor) -> tuple[Tensor, Tensor]:
        """First and second derivative of the loss for β."""
        p = (beta[:, None, None] * z).softmax(2)
        mean = (p * z).sum(2)
        return mean.mean(1), ((p * z.square()).sum(2) - mean.square()).mean(1)

    low, high = (z.new_full((len(z),), edge) for edge in (_HOTTEST, _COLDEST))
    inside = (slope(low)[0] < 0) & (slope(high)[0] > 0)
    beta, done = torch.ones_like(low), ~inside
    for _ in range(_ITERATIONS):
        first, second = slope(beta)
        low, high = torch.where(first < 0, beta, low), torch.where(first < 0, high, beta)
        step = beta - first / second
        wanted = torch.where((step > low) & (step < high), step, (low * high).sqrt())
        before, beta = beta, torch.where(done, beta, wanted)  # a lane stops by itself
        done = done | ((beta - before).abs() <= 1e-12 * beta)
        if bool(done.all()):
            break
    return [1 / b if ok else None for b, ok in zip(beta.tolist(), inside.tolist(), strict=True)]
