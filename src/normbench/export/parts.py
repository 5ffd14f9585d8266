"""The modules of a trained network that torch does not have. Their text is copied into exported folders.

Images are (N, C, H, W) and activations (N, channels, …): one network, no lanes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench.data.fit import fit


class TrainedNetwork(nn.Module):
    """A trained network: standardized images (N, C, H, W) → logits (N, classes).

    Attributes:
        body:  the layers.
        about: run, model, norm, data, `input` (channels, height, width), `classes` (names), `standardize`,
               metrics of the run, and notes.
    """

    def __init__(self, body: nn.Module, about: dict[str, Any]) -> None:
        super().__init__()
        self.body, self.about = body, about

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits

    def preprocess(self, images: Tensor) -> Tensor:
        """Images (N, C, side, side) uint8, levels 0 to 255 → standardized images as the network takes them.

        Square images of another side are padded or resized as the training images were.

        Raises:
            ValueError: the numbers of the standardization are not known, because the data were not there.
        """
        how = self.about["standardize"]
        pixels = fit(images, self.about["input"][1])
        wide = torch.float64 if self.about["dtype"] == "float64" else torch.float32
        if how["kind"] == "image":
            shift, scale = _of_images(pixels)
        elif how["mean"] is None:
            raise ValueError(f"the standardization is not known: {how['why']}")
        else:
            sides = (1, 1) if len(how["mean"]) == pixels.shape[1] else pixels.shape[2:]
            shift, scale = (
                torch.tensor(numbers, dtype=torch.float64).mul(255).view(-1, *sides)
                for numbers in (how["mean"], how["std"])
            )  # fmt: skip
        shift, scale = (numbers.to(pixels.device, wide) for numbers in (shift, scale))
        return pixels.to(wide).sub_(shift).div_(scale)


def _of_images(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every image, in levels: (N, 1, 1, 1) each; a deviation of 0 is 255."""
    levels = pixels.flatten(1).int()
    count = levels.shape[1]
    total, square = levels.sum(1), levels.square().sum(1)
    variance = (square * count - total * total).double() / count**2
    deviation = torch.where(variance == 0, 255.0, variance.sqrt())
    return (total.double() / count).view(-1, 1, 1, 1), deviation.view(-1, 1, 1, 1)


class Residual(nn.Module):
    """y = tail(branch(entry(x)) + shortcut(x)); the shortcut reads entry(x) if `shared_entry`."""

    def __init__(
        self, entry: nn.Module, branch: nn.Module, shortcut: nn.Module, tail: nn.Module, shared_entry: bool
    ) -> None:
        super().__init__()
        self.entry, self.branch, self.shortcut, self.tail = entry, branch, shortcut, tail
        self.shared_entry = shared_entry

    def forward(self, x: Tensor) -> Tensor:
        inner = self.entry(x)
        out: Tensor = self.tail(self.branch(inner) + self.shortcut(inner if self.shared_entry else x))
        return out


class Subsample(nn.Module):
    """Every stride-th position, with further channels that are 0."""

    def __init__(self, stride: int, extra_channels: int) -> None:
        super().__init__()
        self.stride, self.extra_channels = stride, extra_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra_channels))


class Scale(nn.Module):
    """y = a x with one number a."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Shift(nn.Module):
    """y = x + b with one number b."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias
