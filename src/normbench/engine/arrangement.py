"""In which order test images are taken if an image's output depends on the images beside it.

Always the same random order, which has nothing to do with classes. In groups of `size` images:

    class_pure       every group holds images of one class
    class_disjoint   no two images of a group are of one class

Both show what batch statistics tell about the classes beside an image (ioffe2017, §4.3: batches of few
classes). Images that fill no group are left out.

Reference: ioffe2017 — Batch Renormalization, arXiv:1702.03275.
"""

from __future__ import annotations

import torch
from torch import Tensor

from normbench import rng


def shuffled(images: int) -> Tensor:
    """A permutation of so many images that is always the same: (images,)."""
    return torch.randperm(images, generator=rng.generator(0, "test order"))


def arranged(labels: Tensor, size: int, form: str) -> Tensor:
    """Indices of the images group by group: (groups · size,), on the CPU.

    Args:
        labels: of all images, (n,).
        size:   images per group.
        form:   empty, class_pure or class_disjoint.
    """
    order = shuffled(len(labels))
    if not form:
        return order
    classes = labels.tolist()
    of_class: dict[int, list[int]] = {}
    for image in order.tolist():
        of_class.setdefault(classes[image], []).append(image)
    queues = [of_class[label] for label in sorted(of_class)]
    if form == "class_pure":
        kept = [image for queue in queues for image in queue[: len(queue) // size * size]]
        return torch.tensor(kept, dtype=torch.long)
    kept = []
    while sum(map(bool, queues)) >= size:
        queues.sort(key=len, reverse=True)  # stable, so classes of equal size keep their order
        kept += [queue.pop(0) for queue in queues[:size]]
    return torch.tensor(kept, dtype=torch.long)
