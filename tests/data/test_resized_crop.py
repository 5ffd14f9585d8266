"""Random resized crops are torchvision's, drawn from the seed, the epoch and the position of an image."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from normbench import data, rng
from normbench.data import shapes
from normbench.data.batches import Batches
from normbench.data.image import decode
from normbench.data.resized_crop import TRIES, box
from normbench.errors import InputError


def numbers(count, seed=0):
    return np.random.default_rng(seed).random((count, 4 * TRIES)).tolist()


@pytest.mark.parametrize(("width", "height", "least"), [(40, 30, 0.08), (30, 30, 0.5), (200, 20, 0.08)])
def test_boxes_have_the_distribution_of_torchvision(width, height, least):
    """Means of top, left, height and width over 1000 boxes, and of squares, within five standard errors."""
    torch.manual_seed(0)
    theirs = v2.RandomResizedCrop(8, scale=(least, 1))
    image = torch.zeros(1, height, width, dtype=torch.uint8)
    found = [theirs.make_params([image]) for _ in range(1000)]
    expected = np.array([[each[key] for key in ("top", "left", "height", "width")] for each in found])
    ours = np.array([box(least, row, width, height) for row in numbers(1000)])
    for moments in (lambda x: x, np.square):
        one, other = moments(ours.astype(float)), moments(expected.astype(float))
        error = (one.var(0) / 1000 + other.var(0) / 1000) ** 0.5
        assert (abs(one.mean(0) - other.mean(0)) <= 5 * error).all()
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()


def test_a_box_is_that_of_the_formula():
    share, slant, down, along = 0.25, 0.75, 0.5, 0.999
    area, aspect = (0.1 + 0.25 * 0.9) * 1200, math.exp(math.log(4 / 3) / 2)
    w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
    assert box(0.1, [share, slant, down, along], 40, 30) == ((31 - h) // 2, 40 - w, h, w)


@pytest.mark.parametrize(
    ("width", "height", "middle"),
    [(100, 9, (0, 44, 9, 12)), (9, 100, (44, 0, 12, 9)), (12, 10, (0, 0, 10, 12))],
)
def test_if_no_box_fits_it_is_the_middle_with_the_nearest_aspect(width, height, middle):
    never = [0.999999, 0.0 if width > height else 0.999, 0.3, 0.3] * TRIES
    assert box(1.0, never, width, height) == middle


@pytest.fixture
def gradients(tmp_path):
    """12 training images of 24×18 that all differ, and 4 test images."""
    folder, draws = tmp_path / "gradients", np.random.default_rng(1)
    for split, count in {"train": 12, "test": 4}.items():
        for number in range(count):
            file = folder / split / "ab"[number % 2] / f"{number:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draws.integers(0, 256, (18, 24, 3), dtype=np.uint8)).save(file)
    return folder


@pytest.fixture
def cropped(data_spec, gradients, tmp_path):
    spec = data_spec("folder", path=gradients, size=8, resized_crop=0.2, crop=0, readers=0)
    return data.load(spec, cache=tmp_path / "cache")


def test_the_crops_of_a_step_are_those_of_a_loop_over_images(cropped, gradients):
    seeds, total, step = (4, 9), 3, 6  # step 2 of epoch 1
    batches = Batches(replace(cropped, standardize="none", mean=(0.0,) * 3, std=(1 / 255,) * 3), seeds, total)
    x, y = batches.at(step)
    names = [f"train/{'ab'[n % 2]}/{n:02}.png" for n in range(12)]  # in rounds: a, b, a, b, …
    for k, seed in enumerate(seeds):
        order = torch.randperm(12, generator=rng.generator(seed, "order/1"))
        for n in range(total):
            place = 2 * total + n
            key = rng.lane_keys([seed], "resized crop")
            draws = rng.uniform(key, 1, place, count=4 * TRIES, dtype=torch.float64)[0].tolist()
            image = Image.open(gradients / names[order[place]])
            top, left, h, w = box(0.2, draws, *image.size)
            expected = v2.functional.resized_crop(image, top, left, h, w, [8, 8], antialias=True)
            found = x.unflatten(1, (2, -1))[n, k]
            assert torch.equal(found, v2.functional.pil_to_tensor(expected).float())
            assert y[n, k] == order[place] % 2


def test_crops_do_not_depend_on_the_batch_or_on_other_lanes_and_differ_between_epochs(cropped):
    alone, stack, whole = (
        Batches(cropped, seeds, total) for seeds, total in (((3,), 4), ((1, 3, 3), 4), ((3,), 12))
    )
    for step in (0, 2, 4):
        lanes = stack.at(step)[0].unflatten(1, (3, -1))
        assert torch.equal(lanes[:, 1], alone.at(step)[0])
        assert torch.equal(lanes[:, 2], alone.at(step)[0])
    assert torch.equal(torch.cat([alone.at(step)[0] for step in range(3)]), whole.at(0)[0])
    first, second = (whole.at(epoch)[0].sort(0).values for epoch in (0, 1))
    assert not torch.equal(first, second)


def test_test_images_and_statistics_are_not_cropped(cropped, data_spec, gradients):
    plain = data.load(data_spec("folder", path=gradients, size=8, crop=0))
    assert torch.equal(cropped.test_images.read(), plain.test_images)
    assert (cropped.mean, cropped.std) == (plain.mean, plain.std)


@pytest.mark.parametrize(("width", "height"), [(40, 30), (30, 41), (32, 32)])
def test_the_middle_square_is_that_of_resize_and_centercrop(tmp_path, width, height):
    file = tmp_path / "image.png"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    image.save(file)
    theirs = v2.Compose([v2.Resize(16), v2.CenterCrop(14)])(image)
    assert np.array_equal(decode(file.read_bytes(), 3, 14, 0.875), np.asarray(theirs).transpose(2, 0, 1))


def test_two_kinds_of_random_crops_and_loaded_images_are_refused(data_spec, gradients):
    spec = data_spec("folder", path=gradients, resized_crop=0.2)
    with pytest.raises(InputError, match=r"two kinds of random crops; give data\.crop=0"):
        shapes.check_crop(spec, 8)
    with pytest.raises(InputError, match=r"so data\.stream must be true or auto; got false"):
        shapes.check_crop(spec.model_copy(update={"crop": 0, "stream": False}), 8)
