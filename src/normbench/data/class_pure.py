"""Orders of an epoch in which every group of `batch` images is of one class (`data.sampling=class_pure`).

An epoch has as many steps as with `iid`. Every class is shuffled and cut into groups. What is left of a class
and fills no group is used only if the groups are too few for the steps: the classes with the most images left
fill one more group, and images that the class has shown already in this epoch complete it. If there are more
groups than the steps take, some at random are left out. So an image is seen at most once in an epoch, except
for those that complete groups.

Reference: ioffe2017 — Batch Renormalization, NIPS 2017, §4.3 (non-i.i.d. minibatches), there with two images
           of each of 16 classes. Groups of one class are its extreme.
"""

from __future__ import annotations

import torch
from torch import Tensor


def class_pure_order(labels: Tensor, batch: int, groups: int, generator: torch.Generator) -> Tensor:
    """Numbers of images, (groups · batch,): each `batch` in a row are of one class.

    Args:
        labels:    (n,) int64 on the CPU.
        batch:     images of a group.
        groups:    at most ⌊n / batch⌋.
        generator: of the lane and epoch.
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    whole, partial = [], []
    for images in by_class.split(torch.bincount(labels).tolist()):
        left = len(images) % batch
        whole.append(images[: len(images) - left].view(-1, batch))
        if left:
            again = images.repeat(-(-batch // len(images)))[: batch - left]
            partial.append((left, torch.cat((images[len(images) - left :], again))))
    made = torch.cat(whole)
    if (lacking := groups - len(made)) > 0:
        at_random = [partial[i] for i in torch.randperm(len(partial), generator=generator).tolist()]
        fullest = sorted(at_random, key=lambda group: -group[0])[:lacking]
        made = torch.cat((made, torch.stack([images for _, images in fullest])))
    return made[torch.randperm(len(made), generator=generator)[:groups]].view(-1)
