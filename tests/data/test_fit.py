"""Images fitted to a model's side: padded up to a ratio of 1.25, otherwise resized; and the words for it."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from normbench.data.fit import describe_fit, fit


def noise(side, count=3, channels=1):
    generator = torch.Generator().manual_seed(side)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("size", [None, 8])
def test_images_of_the_right_side_are_left_as_they_are(size):
    images = noise(8)
    assert fit(images, size) is images
    assert describe_fit(8, size) == "as is (8×8)"


@pytest.mark.parametrize(("side", "size", "before"), [(28, 32, 2), (8, 10, 1), (8, 9, 0), (32, 40, 4)])
def test_little_more_is_padded_evenly_with_zeros(side, size, before):
    images = noise(side)
    fitted = fit(images, size)
    inside = fitted[:, :, before : before + side, before : before + side]
    assert fitted.shape == (3, 1, size, size)
    assert torch.equal(inside, images)
    assert fitted.long().sum() == images.long().sum()
    assert describe_fit(side, size) == f"padded {side}→{size}"


@pytest.mark.parametrize(("side", "size"), [(8, 11), (8, 32), (32, 28), (32, 8)])
def test_much_more_and_less_is_resized_bilinearly_as_pillow_does(side, size):
    images = noise(side)
    fitted = fit(images, size)
    assert fitted.dtype == torch.uint8
    for image, ours in zip(images, fitted, strict=True):
        theirs = Image.fromarray(image[0].numpy()).resize((size, size), Image.Resampling.BILINEAR)
        assert (ours[0].int() - torch.tensor(list(theirs.tobytes())).view(size, size)).abs().max() <= 1
    assert describe_fit(side, size) == f"resized {side}→{size} bilinear"


def test_channels_are_resized_one_by_one_and_in_chunks_of_any_length():
    images = noise(4, count=1500, channels=3)
    fitted = fit(images, 9)
    assert torch.equal(fitted[1400:, 2:], fit(images[1400:, 2:], 9))
