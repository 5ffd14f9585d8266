"""`data.standardize` against plain numpy on whole arrays: training, test and augmented images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from normbench import data, rng
from normbench.data import batches
from normbench.data.batches import Batches
from normbench.data.moments import statistics

KINDS = ("channel", "pixel", "image", "minmax", "none")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def oracle(kind, images, train):
    """Images (n, C, H, W) uint8 standardized by the statistics of `train`, in float64 from 0 to 255."""
    x, t = images.astype(np.float64), train.astype(np.float64)
    if kind == "none":
        return x / 255
    if kind == "minmax":
        return (x - t.min()) / ((t.max() - t.min()) or 255)
    if kind == "image":
        out = np.empty_like(x)
        for i, image in enumerate(x):
            out[i] = (image - image.mean()) / (image.std() or 255)
        return out
    axes = (0, 2, 3) if kind == "channel" else 0
    mean, sd = t.mean(axes), t.std(axes)
    sd = np.where(t.max(axes) == t.min(axes), 255, sd)
    if kind == "channel":
        mean, sd = mean[:, None, None], sd[:, None, None]
    return (x - mean) / sd


def of(dataset, kind):
    """The data set with the statistics of a kind."""
    mean, std = statistics(kind, dataset.train_images)
    return replace(dataset, standardize=kind, mean=mean, std=std)


@pytest.fixture
def uneven(tiny):
    """Grey levels of 30 to 230, one constant position in every image, one channel of few levels, one constant
    image."""

    def build(channels=3):
        dataset = tiny(count=50, channels=channels)
        train, test = (
            (30 + images * (200 / 255)).byte() for images in (dataset.train_images, dataset.test_images)
        )
        train[:, -1] //= 8
        train[:, :, 2, 4] = 90
        train[7] = 90
        return replace(dataset, train_images=train, test_images=test)

    return build


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_training_and_test_images_are_those_of_numpy(uneven, kind, channels):
    dataset = of(uneven(channels), kind)
    train, test = dataset.train_images.numpy(), dataset.test_images.numpy()
    x, _ = Batches(dataset, [3], 50, dtype=torch.float64).at(0)
    order = torch.randperm(50, generator=rng.generator(3, "order/0"))
    np.testing.assert_allclose(x.numpy(), oracle(kind, train[order], train), rtol=1e-12, atol=1e-12)
    seen = torch.cat([x for x, _ in batches.test_batches(dataset, 3, dtype=torch.float64)])
    np.testing.assert_allclose(seen.numpy(), oracle(kind, test, train), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_black_and_counts_in_the_statistics_of_an_image_alone(uneven, kind):
    dataset, crop, count, seed = of(uneven(), kind), 3, 50, 5
    x, _ = Batches(dataset, [seed], count, crop=crop, flip=True, dtype=torch.float64).at(0)
    order = torch.randperm(count, generator=rng.generator(seed, "order/0"))
    flips, corners = (
        rng.uniform(rng.lane_keys([seed], purpose), 0, count=count, dtype=torch.float64)[0]
        for purpose in ("flip", "crop")
    )
    cropped = np.zeros(dataset.train_images.shape, np.uint8)
    for n, image in enumerate(dataset.train_images.numpy()[order]):
        canvas = np.pad(image, ((0, 0), (crop, crop), (crop, crop)))
        top, left = divmod(int(corners[n] * (2 * crop + 1) ** 2), 2 * crop + 1)
        cropped[n] = canvas[:, top : top + 6, left : left + 6]
        if flips[n] < 0.5:
            cropped[n] = cropped[n][:, :, ::-1]
    wanted = oracle(kind, cropped, dataset.train_images.numpy())
    np.testing.assert_allclose(x.numpy(), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_lane_has_the_bits_of_a_lone_run_in_every_precision(uneven, kind, dtype, channels_last):
    dataset, knobs = of(uneven(), kind), {"dtype": dtype, "channels_last": channels_last, "crop": 2}
    stack = Batches(dataset, (4, 1, 6), 5, **knobs)
    for step in (0, 7, 12):
        x, _ = stack.at(step)
        for k, seed in enumerate((4, 1, 6)):
            alone, _ = Batches(dataset, [seed], 5, **knobs).at(step)
            assert torch.equal(x.unflatten(1, (3, -1))[:, k], alone)
            exact, _ = Batches(dataset, [seed], 5, **knobs | {"dtype": torch.float64}).at(step)
            fine = 2**-7 if dtype == torch.bfloat16 else 2**-10 if dtype == torch.float16 else 1e-5
            torch.testing.assert_close(alone.double(), exact, rtol=fine, atol=fine)
    del knobs["crop"]
    (x, _), *_ = batches.test_batches(dataset, 4, lanes=3, **knobs)
    (alone, _), *_ = batches.test_batches(dataset, 4, **knobs)
    assert torch.equal(x.unflatten(1, (3, -1))[:, 2], alone)


@pytest.mark.parametrize("name", ["digits", "synthetic", "folder", "mnist"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_source_is_standardized_by_its_training_images_in_use(
    data_spec, pictures, real_data, name, kind
):
    knobs = {"train_size": 40, "test_size": 7}
    if name == "folder":
        knobs = {"path": pictures.folder, "train_size": 8}
    elif name == "mnist":
        knobs["root"] = str(real_data("MNIST/raw/t10k-images-idx3-ubyte"))
    dataset = data.load(data_spec(name, standardize=kind, **knobs), size=10)
    train, test = dataset.train_images.numpy(), dataset.test_images.numpy()
    seen = torch.cat([x for x, _ in batches.test_batches(dataset, 4, dtype=torch.float64)])
    np.testing.assert_allclose(seen.numpy(), oracle(kind, test, train), rtol=1e-12, atol=1e-12)


def test_positions_that_never_change_are_divided_by_1(uneven):
    dataset = of(uneven(1), "pixel")
    assert dataset.std[2 * 6 + 4] == 1.0
    assert min(dataset.std) > 0
    constant = torch.full((4, 2, 3, 3), 51, dtype=torch.uint8)
    assert statistics("pixel", constant) == ((0.2,) * 18, (1.0,) * 18)
    assert statistics("minmax", constant) == ((0.2,) * 2, (1.0,) * 2)
    assert statistics("channel", constant) == ((0.2,) * 2, (1.0,) * 2)


def test_validation_images_are_not_in_the_statistics(data_spec):
    for kind in ("channel", "pixel", "minmax"):
        dataset = data.load(data_spec("digits", standardize=kind, valid=0.3))
        assert (dataset.mean, dataset.std) == statistics(kind, dataset.train_images)
        whole = data.load(data_spec("digits", standardize=kind))
        assert kind == "minmax" or (dataset.mean, dataset.std) != (whole.mean, whole.std)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_images_on_a_cuda_device_are_those_of_the_cpu(uneven, kind):
    dataset = of(uneven(), kind)
    for dtype in DTYPES:
        here, there = (Batches(d, (4, 1), 5, crop=2, dtype=dtype) for d in (dataset, dataset.to("cuda")))
        assert torch.equal(here.at(3)[0], there.at(3)[0].cpu())
