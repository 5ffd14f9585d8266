"""The images of training steps if they are streamed: read ahead on the host, then copied to the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from normbench.data.read_ahead import ReadAhead
from normbench.data.resized_crop import Draws, keys_of
from normbench.data.stored_images import Request
from normbench.data.streamed import StreamedImages


class StepImages:
    """Pixels of the step that `seek` chose, in memory that keeps its place.

    Lanes of one seed see the same images with the same crops, so these are read once.

    Args:
        images:          the training split.
        seeds:           one per lane.
        total:           N, images per lane and step.
        steps_per_epoch: of all lanes.
        orders:          epoch → numbers of images in the order of each lane, (images, K) on the CPU.
    """

    def __init__(
        self,
        images: StreamedImages,
        seeds: Sequence[int],
        total: int,
        steps_per_epoch: int,
        orders: Callable[[int], Tensor],
    ) -> None:
        self._images, self._total, self._per_epoch = images, total, steps_per_epoch
        self._orders = orders
        distinct = list(dict.fromkeys(seeds))
        self._firsts = [seeds.index(seed) for seed in distinct]
        self._keys = keys_of(distinct)
        lanes = torch.tensor([distinct.index(seed) for seed in seeds], device=images.device)
        self._lanes = None if len(distinct) == len(seeds) else lanes
        self._part: slice | None = None
        self._ahead = ReadAhead(images.stored, images.readers, lambda step: self._request(step, self._part))
        self._pixels: Tensor | None = None

    def seek(self, step: int, part: slice | None, *, ahead: bool) -> None:
        """Read the images of a step, counted from 0.

        Args:
            part:  which of them; None: all.
            ahead: whether the next steps follow. A step out of turn is read by this process.
        """
        if ahead and part != self._part:
            self._part = part
            self._ahead.close()
        found = self._ahead(step) if ahead else self._images.stored.read(self._request(step, part))
        if self._pixels is None or self._pixels.shape != found.shape:
            self._pixels = torch.empty_like(found, device=self._images.device)
        self._pixels.copy_(found)

    def pixels(self) -> Tensor:
        """The images of the step, (N·K, C, H, W) uint8 on the device: all lanes of the first place, then of
        the second one, and so on.
        """
        assert self._pixels is not None, "seek comes first"
        if self._lanes is None:
            return self._pixels
        by_place = self._pixels.unflatten(0, (-1, len(self._firsts)))
        chosen: Tensor = by_place.index_select(1, self._lanes)
        return chosen.flatten(0, 1)

    def close(self) -> None:
        """End the readers."""
        self._ahead.close()

    def _request(self, step: int, part: slice | None) -> Request:
        epoch, place = divmod(step, self._per_epoch)
        places = torch.arange(place * self._total, (place + 1) * self._total)
        if part is not None:
            places = places[part]
        numbers = self._orders(epoch)[places][:, self._firsts]  # (N, distinct seeds)
        rows = self._images.rows[numbers.flatten().numpy()]
        if not self._images.crops:
            return Request(rows)
        positions = places[:, None].expand(numbers.shape).flatten().numpy()
        keys = torch.from_numpy(self._keys).repeat(len(numbers)).numpy()
        return Request(rows, Draws(self._images.crops, keys, epoch, positions))
