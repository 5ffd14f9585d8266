"""Batches of a stack: a lane sees the images it sees alone, at any step; each at most once per epoch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from normbench import rng
from normbench.data import batches
from normbench.data.batches import Batches
from normbench.errors import InputError

AUGMENTED = {"flip": True, "crop": 2}
KINDS = [
    {},
    {"flip": True},
    {"crop": 2},
    AUGMENTED,
    {"channels_last": True, **AUGMENTED},
    {"dtype": torch.float64},
]
SEEDS = (3, 1, 4, 1)


def lane(x, k, lanes):
    """Lane k of x: (N, K·C, H, W)."""
    return x.unflatten(1, (lanes, -1))[:, k]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_lane_sees_the_same_bytes_in_a_stack_and_alone(tiny, kind, channels):
    dataset = tiny(channels=channels)
    stack = Batches(dataset, SEEDS, 5, **kind)
    for k, seed in enumerate(SEEDS):
        alone = Batches(dataset, [seed], 5, **kind)
        for step in (0, 3, 9):
            (x, y), (x1, y1) = stack.at(step), alone.at(step)
            assert torch.equal(lane(x, k, len(SEEDS)), x1)
            assert torch.equal(y[:, k], y1[:, 0])


def test_lanes_of_different_seeds_see_different_orders_and_crops(tiny):
    dataset = tiny()
    _, y = Batches(dataset, (0, 1), 30).at(0)
    assert not torch.equal(y[:, 0], y[:, 1])
    same = replace(dataset, train_images=dataset.train_images[:1].expand_as(dataset.train_images))
    x, _ = Batches(same, (0, 1), 30, **AUGMENTED).at(0)
    assert not torch.equal(lane(x, 0, 2), lane(x, 1, 2))


@pytest.mark.parametrize("total", [1, 4, 7, 32])
def test_an_epoch_shows_every_image_at_most_once_and_drops_the_rest(tiny, total):
    dataset = replace(tiny(), train_labels=torch.arange(32))
    stack = Batches(dataset, (0, 1, 2), total)
    assert stack.steps_per_epoch == 32 // total
    for epoch in range(2):
        steps = range(epoch * stack.steps_per_epoch, (epoch + 1) * stack.steps_per_epoch)
        seen = torch.cat([stack.at(step)[1] for step in steps])
        for k in range(3):
            assert len(seen[:, k].unique()) == len(seen) == total * stack.steps_per_epoch


def test_epochs_differ_in_order_and_in_augmentation(tiny):
    stack = Batches(tiny(), [0], 32, **AUGMENTED)
    (x, y), (x2, y2) = stack.at(0), stack.at(1)
    assert not torch.equal(y, y2)
    assert not torch.equal(x.sort(0).values, x2.sort(0).values)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_any_step_can_be_asked_for_in_any_order(tiny, kind):
    dataset = tiny()
    walked = Batches(dataset, SEEDS, 5, **kind)
    expected = {step: walked.at(step) for step in range(14)}
    for step in (13, 0, 7, 6, 12, 1):
        x, y = Batches(dataset, SEEDS, 5, **kind).at(step)
        assert torch.equal(x, expected[step][0])
        assert torch.equal(y, expected[step][1])
        jumped = walked.at(step)
        assert torch.equal(jumped[0], x)


def test_the_order_and_the_crops_do_not_depend_on_the_batch_size(tiny):
    dataset = tiny()
    by_two, by_eight = Batches(dataset, [5], 2, **AUGMENTED), Batches(dataset, [5], 8, **AUGMENTED)
    pieces = [by_two.at(step) for step in range(16)]
    whole = [by_eight.at(step) for step in range(4)]
    assert torch.equal(torch.cat([x for x, _ in pieces]), torch.cat([x for x, _ in whole]))
    assert torch.equal(torch.cat([y for _, y in pieces]), torch.cat([y for _, y in whole]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("flip", "crop"), [(False, 0), (True, 0), (False, 2), (True, 3)])
def test_crops_and_flips_are_those_of_a_loop_over_images(tiny, flip, crop, channels):
    dataset, seed, total, step = tiny(channels=channels), 11, 4, 13  # step 5 of epoch 1
    x, y = Batches(dataset, [seed], total, flip=flip, crop=crop, dtype=torch.float64).at(step)
    order = torch.randperm(32, generator=rng.generator(seed, "order/1"))
    flips, corners = (
        rng.uniform(rng.lane_keys([seed], purpose), 1, count=32, dtype=torch.float64)[0]
        for purpose in ("flip", "crop")
    )
    mean, std = (
        torch.tensor(m, dtype=torch.float64).view(-1, 1, 1) * 255 for m in (dataset.mean, dataset.std)
    )
    for n in range(total):
        place = 5 * total + n
        image = dataset.train_images[order[place]]
        side = image.shape[-1]
        if crop:
            canvas = torch.zeros(channels, side + 2 * crop, side + 2 * crop, dtype=torch.uint8)
            canvas[:, crop : crop + side, crop : crop + side] = image
            top, left = divmod(int(corners[place] * (2 * crop + 1) ** 2), 2 * crop + 1)
            image = canvas[:, top : top + side, left : left + side]
        if flip and flips[place] < 0.5:
            image = image.flip(-1)
        assert torch.equal(x[n], (image - mean) / std)
        assert y[n, 0] == dataset.train_labels[order[place]]


def test_every_crop_is_as_likely_as_any_other(tiny):
    dataset = tiny(count=9000, size=3)
    marked = torch.zeros(9000, 1, 3, 3, dtype=torch.uint8)
    marked[:, :, 1, 1] = 255
    dataset = replace(dataset, train_images=marked, mean=(0.0,), std=(1.0,))
    x, _ = Batches(dataset, [0], 9000, crop=1).at(0)
    share = x.mean(0)[0]  # the mark is moved to each of nine places
    assert (share - 1 / 9).abs().max() < 5 * (1 / 9 * 8 / 9 / 9000) ** 0.5


def test_half_of_the_images_are_flipped(tiny):
    dataset = tiny(count=4000)
    plain, mirrored = (Batches(dataset, [0], 4000, flip=flip).at(0)[0] for flip in (False, True))
    flipped = (plain != mirrored).flatten(1).any(1)
    assert torch.equal(mirrored[flipped], plain[flipped].flip(-1))
    assert abs(flipped.double().mean() - 0.5) < 5 * (0.25 / 4000) ** 0.5


def test_padding_is_black_before_standardization(tiny):
    dataset = replace(tiny(), train_images=torch.full((32, 3, 6, 6), 255, dtype=torch.uint8))
    x, _ = Batches(dataset, [0], 32, crop=2).at(0)
    black, white = (
        torch.tensor([(v - m) / s for m, s in zip(dataset.mean, dataset.std, strict=True)]) for v in (0, 1)
    )
    for c in range(3):
        assert torch.allclose(x[:, c].unique(), torch.stack((black[c], white[c])))


def test_a_whole_split_has_mean_0_and_deviation_1(tiny):
    dataset = tiny(count=500)
    x, _ = Batches(dataset, [0], 500, dtype=torch.float64).at(0)
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(x.var((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_images_come_in_the_dtype_and_memory_format_asked_for(tiny, dtype, channels_last):
    stack = Batches(tiny(), SEEDS, 4, dtype=dtype, channels_last=channels_last)
    (test, _), *_ = batches.test_batches(tiny(), 4, lanes=4, dtype=dtype, channels_last=channels_last)
    memory = torch.channels_last if channels_last else torch.contiguous_format
    for x in (stack.at(0)[0], test):
        assert (x.shape, x.dtype) == ((4, 12, 6, 6), dtype)
        assert x.is_contiguous(memory_format=memory)


def test_half_precision_is_rounded_once_from_single(tiny):
    single, half = (Batches(tiny(), [0], 8, dtype=d).at(0)[0] for d in (torch.float32, torch.bfloat16))
    assert torch.equal(single.bfloat16(), half)


def test_a_split_smaller_than_a_step_is_refused(tiny):
    with pytest.raises(InputError, match=r"a step takes 33 images, but .* holds 32; lower batch or workers"):
        Batches(tiny(), [0], 33)


def test_every_lane_is_tested_on_the_same_images_in_order(tiny):
    dataset = tiny(tests=10)
    seen = list(batches.test_batches(dataset, 4, lanes=2, dtype=torch.float64))
    assert [len(y) for _, y in seen] == [4, 4, 2]
    x, y = torch.cat([x for x, _ in seen]), torch.cat([y for _, y in seen])
    assert torch.equal(y, dataset.test_labels)
    assert torch.equal(lane(x, 0, 2), lane(x, 1, 2))
    mean, std = (
        torch.tensor(m, dtype=torch.float64).view(-1, 1, 1) * 255 for m in (dataset.mean, dataset.std)
    )
    assert torch.equal(lane(x, 0, 2), (dataset.test_images - mean) / std)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_batches_on_a_cuda_device_are_those_of_the_cpu(tiny, kind):
    here, there = Batches(tiny(), SEEDS, 5, **kind), Batches(tiny().to("cuda"), SEEDS, 5, **kind)
    for step in (0, 8):
        for ours, theirs in zip(here.at(step), there.at(step), strict=True):
            assert torch.equal(ours, theirs.cpu())
