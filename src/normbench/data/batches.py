"""Batches for a stack: each lane has its own order; images are augmented and standardized on the device.

A lane's order is a permutation drawn from (seed, epoch). Its crops and flips are drawn from (seed, epoch,
position in that order). So a lane sees the same bytes alone and in a stack. It sees the same images with the
same crops in the same order at every batch size. The batch of any step can be computed, so a run can resume.
With `class_pure`, the order depends on the batch size, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from normbench import rng
from normbench.data.class_pure import class_pure_order
from normbench.data.dataset import Dataset
from normbench.data.orders_ahead import OrdersAhead
from normbench.data.standardize import Standardize
from normbench.data.step_images import StepImages
from normbench.data.streamed import in_turn
from normbench.errors import InputError

#: Devices on which the orders of the next epoch are drawn during this one. PERF: a CPU has nothing to gain.
AHEAD_ON = ("cuda",)


class Batches:
    """Training batches of K lanes as a function of the step.

    Args:
        dataset:       lies on the device where batches are wanted, or is streamed to it.
        seeds:         one per lane.
        total:         N, images per lane and optimiser step. An epoch's last incomplete step is dropped.
        flip:          mirror an image left to right with probability ½.
        crop:          pad each side by this many black pixels, then cut out the old size at random; 0: none.
        class_pure:    images in a row that are of one class, dividing N; 0: all classes at random.
        channels_last: memory format of the images.
        dtype:         of the images; float64 is standardized in float64, all others in float32.

    Raises:
        InputError: the training split holds fewer images than one step takes.
    """

    def __init__(
        self,
        dataset: Dataset,
        seeds: Sequence[int],
        total: int,
        *,
        flip: bool = False,
        crop: int = 0,
        class_pure: int = 0,
        channels_last: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        images = len(dataset.train_images)
        if images < total:
            raise InputError(
                f"a step takes {total} images, but the training split of {dataset.name} holds {images}; "
                "lower batch or workers"
            )
        self.steps_per_epoch = images // total
        self._dataset, self._seeds, self._total = dataset, tuple(seeds), total
        self._flip, self._crop, self._class_pure = flip, crop, class_pure
        self._labels = dataset.train_labels.cpu() if class_pure else None
        self._standardize = Standardize(dataset, len(seeds), channels_last, dtype)
        self._rows = _first_row_pixels(dataset, len(seeds) * total, crop) if crop else None
        device = dataset.train_images.device
        self._first = torch.arange(total, device=device)
        self._places = self._first.clone()  # positions of the step's images in the order of the epoch
        drawn = torch.zeros(images, len(seeds), dtype=torch.long, device=device)
        self._order, self._corners = drawn, drawn.clone() if crop else drawn
        self._flips = drawn.bool()
        self._epoch = -1
        self._part: slice | None = None
        self._drawn: dict[int, Tensor] = {}  # orders by epoch, if images are read ahead
        self._streamed: StepImages | None = None
        self._ahead: OrdersAhead | None = None
        if isinstance(dataset.train_images, Tensor) and device.type in AHEAD_ON:
            self._ahead = OrdersAhead(self._orders)
        if not isinstance(dataset.train_images, Tensor):
            self._streamed = StepImages(
                dataset.train_images, self._seeds, total, self.steps_per_epoch, self._orders
            )

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """The batch of a global step, counted from 0: x (N, K·C, H, W) and labels (N, K) int64."""
        self.seek(step, ahead=False)
        return self.read()

    def seek(self, step: int, part: slice | None = None, *, ahead: bool = True) -> None:
        """Choose the step whose batch `read` returns.

        Args:
            step:  counted from 0.
            part:  the images of the step that `read` returns; None: all.
            ahead: whether the steps after it are read ahead, if images are streamed.
        """
        self._part = part
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._draw(epoch)
        torch.add(self._first, place * self._total, out=self._places)
        if self._streamed is not None:
            self._streamed.seek(step, part, ahead=ahead)

    def read(self) -> tuple[Tensor, Tensor]:
        """The batch that `seek` chose. Every step runs the same operations on the same memory."""
        places = self._places if self._part is None else self._places[self._part]
        order = self._order.index_select(0, places)  # (N, K)
        pixels = self._pixels(order.view(-1))  # (N·K, C, H, W)
        if self._rows is not None:
            corners = self._corners.index_select(0, places)
            rows = self._rows if self._part is None else self._rows[: corners.numel()]
            pixels = _crop_images(pixels, rows + corners.view(-1, 1, 1), self._crop)
        if self._flip:
            pixels = _mirror(pixels, self._flips.index_select(0, places).view(-1))
        labels = self._dataset.train_labels.index_select(0, order.view(-1)).view(order.shape)
        return self._standardize(pixels.view(len(places), -1, *pixels.shape[2:])), labels

    def close(self) -> None:
        """End what works ahead: a thread that draws orders, and processes that read images. Later steps work
        without the thread, and start new processes.
        """
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None  # it refers to these batches
        if self._streamed is not None:
            self._streamed.close()

    def _pixels(self, order: Tensor) -> Tensor:
        """The pixels of the step, given the numbers of its images, lane after lane for each of them."""
        if self._streamed is not None:
            return self._streamed.pixels()
        images = self._dataset.train_images
        assert isinstance(images, Tensor)
        return images.index_select(0, order)

    def _draw(self, epoch: int) -> None:
        """Draw the order, corners and flips of an epoch, each (images, K). A step uses consecutive rows."""
        orders = (self._ahead or self._orders)(epoch)
        self._order[: len(orders)].copy_(orders, non_blocking=True)
        if self._crop:
            offsets = 2 * self._crop + 1
            corner = (self._uniform("crop", epoch) * offsets**2).long()
            self._corners.copy_(corner // offsets * (self._dataset.size + 2 * self._crop) + corner % offsets)
        if self._flip:
            self._flips.copy_(self._uniform("flip", epoch) < 0.5)
        self._epoch = epoch

    def _orders(self, epoch: int) -> Tensor:
        """The orders of all lanes in an epoch, (images, K) on the CPU."""
        if epoch in self._drawn:
            return self._drawn[epoch]
        orders = torch.stack([self._order_of(seed, epoch) for seed in self._seeds], 1)
        if self._streamed is not None:
            neighbours = {known: order for known, order in self._drawn.items() if abs(known - epoch) == 1}
            self._drawn = {**neighbours, epoch: orders}
        return orders

    def _order_of(self, seed: int, epoch: int) -> Tensor:
        """The order of a lane's images in an epoch; with `class_pure`, of those that its steps use."""
        generator = rng.generator(seed, f"order/{epoch}")
        if self._labels is None:
            return torch.randperm(len(self._order), generator=generator)
        groups = self.steps_per_epoch * (self._total // self._class_pure)
        return class_pure_order(self._labels, self._class_pure, groups, generator)

    def _uniform(self, purpose: str, epoch: int) -> Tensor:
        keys = rng.lane_keys(self._seeds, purpose).to(self._dataset.train_images.device)
        images = len(self._dataset.train_images)
        return rng.uniform(keys, epoch, count=images, dtype=torch.float64).t().contiguous()


def test_batches(
    dataset: Dataset,
    size: int,
    *,
    lanes: int = 1,
    channels_last: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The test split in order, the same images for every lane: x (n, K·C, H, W) and labels (n,).

    n is `size`; the last batch holds the remaining images.
    """
    read = test_reader(dataset, lanes=lanes, channels_last=channels_last, dtype=dtype)
    for start in range(0, len(dataset.test_images), size):
        yield read(slice(start, start + size))


def test_reader(
    dataset: Dataset, *, lanes: int = 1, channels_last: bool = False, dtype: torch.dtype = torch.float32
) -> Callable[[slice], tuple[Tensor, Tensor]]:
    """A function that returns some test images, the same for every lane: x (n, K·C, H, W) and labels (n,)."""
    standardize = Standardize(dataset, lanes, channels_last, dtype)
    images = in_turn(dataset.test_images)

    def read(some: slice) -> tuple[Tensor, Tensor]:
        return standardize(images(some).repeat(1, lanes, 1, 1)), dataset.test_labels[some]

    return read


def _first_row_pixels(dataset: Dataset, images: int, crop: int) -> Tensor:
    """Index of the first pixel of each row of the top left crop, in padded images: (images, C, H)."""
    device, side = dataset.train_images.device, dataset.size + 2 * crop
    planes = torch.arange(images * dataset.channels, device=device).view(images, -1, 1) * side**2
    return planes + torch.arange(dataset.size, device=device) * side


def _crop_images(pixels: Tensor, rows: Tensor, crop: int) -> Tensor:
    """Pad images (B, C, H, W) with zeros; cut out the rows that begin at the pixels `rows`, (B, C, H)."""
    padded = F.pad(pixels, (crop, crop, crop, crop))
    windows = padded.view(-1).unfold(0, pixels.shape[-1], 1)  # a view: W pixels that start at each pixel
    return windows.index_select(0, rows.view(-1)).view(pixels.shape)


def _mirror(pixels: Tensor, flips: Tensor) -> Tensor:
    """Mirror those images (B, C, H, W) left to right for which flips (B,) is true."""
    # PERF: index_select takes a third of the time of torch.where with a broadcast mask (CPU).
    number = torch.arange(len(pixels), device=pixels.device)
    return torch.cat((pixels, pixels.flip(-1))).index_select(0, number + flips * len(pixels))
