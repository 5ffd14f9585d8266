"""The validation split: a fixed, stratified part of the training split, the same for all runs and seeds.

It has round(`data.valid` × n) of the n training images in use. Each class gives its share of them, by the
method of largest remainders. Which images of a class are taken depends on the labels alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from normbench import rng


def validation_mask(labels: Tensor, count: int) -> Tensor:
    """Which images belong to the validation split: (n,) bool, `count` of them true.

    Args:
        labels: (n,) int64, of the training images in use.
        count:  images of the validation split, see `shapes.shape_of`.
    """
    shuffled = torch.randperm(len(labels), generator=rng.generator(0, "validation split"))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    of_class = torch.bincount(labels)
    taken = shares(of_class, count)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for images, share in zip(by_class.split(of_class.tolist()), taken.tolist(), strict=True):
        mask[images[:share]] = True
    return mask


def shares(of_class: Tensor, count: int) -> Tensor:
    """Images that each class gives, `count` in all, in proportion to its size.

    Remainders are rounded up for the largest of them; the smaller label comes first if they are equal.

    >>> shares(torch.tensor([50, 30, 20]), 9).tolist()
    [4, 3, 2]
    """
    exact = of_class * count  # in n-ths of an image
    taken, remainders = exact // of_class.sum(), exact % of_class.sum()
    taken[remainders.argsort(descending=True, stable=True)[: count - int(taken.sum())]] += 1
    return taken
