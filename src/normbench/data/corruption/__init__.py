"""Corrupted test images: the families of CIFAR-10-C with its constants, computed where the images lie.

An image's corruption depends on its index in the test split, the family and the severity, and on nothing
else. Families take x: (n, C, S, S) in fp64, black 0 and white 1, and return the same shape; levels are cut
to whole ones, as the authors' code does. Grey images work for every family but saturate.

Lengths in pixels are those of images of 32 × 32. Larger images scale them with their side. Smaller images
keep them: a blur of a quarter of a pixel would be none. Elastic distortions and fog scale with every side.

Reference:  hendrycks2019 — Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
            ICLR 2019, arXiv:1903.12261; constants of `make_cifar_c.py` in github.com/hendrycks/robustness.
Deviations: random numbers are ours. Frost and spatter are left out (`normbench.corruptions.LEFT_OUT`).
            Images of other sides than 32. Motion blur follows ImageMagick's formula, and the warp of elastic
            distortions is exact, where OpenCV's has 32 positions per pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from normbench.corruptions import Corruption
from normbench.data.corruption import blur, digital, noise, weather
from normbench.data.corruption.draws import Draws
from normbench.data.dataset import Dataset
from normbench.errors import InputError

#: A family: images, severity from 1 to 5, random numbers → corrupted images.
Family = Callable[[Tensor, int, Draws], Tensor]
FAMILIES: dict[str, Family] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "fog": weather.fog,
    "brightness": digital.brightness,
    "contrast": digital.contrast,
    "saturate": digital.saturate,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}
#: The smallest images for which the families make sense.
LEAST_SIDE = 8
#: Images in work at a time, by device. PERF: glass blur takes thousands of small steps for each block.
BLOCK = {"cpu": 512, "cuda": 8192}
#: Part of a level that rounding errors may cost before levels are cut to whole ones.
_SLACK = 1e-6


def check(corruption: Corruption, channels: int, side: int) -> None:
    """Refuse a corruption that images of this kind cannot have.

    Raises:
        InputError: a family that needs colours on grey images, or images that are too small.
    """
    if corruption.name == "saturate" and channels == 1:
        raise InputError(
            "eval.corruptions: saturate needs colour images, but these have 1 channel; use another family or "
            "data.channels=3"
        )
    if side < LEAST_SIDE:
        raise InputError(
            f"eval.corruptions need images of at least {LEAST_SIDE}×{LEAST_SIDE}; got {side}×{side}"
        )


def corrupted(dataset: Dataset, corruption: Corruption | None) -> Dataset:
    """The data set with its test images corrupted; None: as it is."""
    if corruption is None:
        return dataset
    images = dataset.test_images
    if isinstance(images, Tensor):
        return replace(dataset, test_images=corrupt(images, corruption))
    check(corruption, dataset.channels, dataset.size)
    return replace(dataset, test_images=images.changed(partial(_corrupt, corruption)))


def corrupt(images: Tensor, corruption: Corruption, first: int = 0) -> Tensor:
    """Corrupt images (n, C, S, S) uint8, whose indices begin at `first`.

    Raises:
        InputError: as `check`.
    """
    check(corruption, images.shape[1], images.shape[-1])
    return _corrupt(corruption, images, torch.arange(first, first + len(images), device=images.device))


def _corrupt(corruption: Corruption, images: Tensor, indices: Tensor) -> Tensor:
    """Corrupt images whose indices in the test split are given, (n,) int64."""
    family, blocks = FAMILIES[corruption.name], []
    size = BLOCK[images.device.type]
    for block, at in zip(images.split(size), indices.split(size), strict=True):
        draws = Draws(str(corruption), at)
        levels = family(block.double() / 255, corruption.severity, draws).clamp(0, 1) * 255
        blocks.append((levels + _SLACK).to(torch.uint8))
    return torch.cat(blocks)
