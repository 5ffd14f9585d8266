"""The validation split: a part of the training split, fixed, stratified, and never trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from normbench import data
from normbench.data import shape_of
from normbench.data.batches import Batches
from normbench.data.validation import shares, validation_mask
from normbench.errors import InputError


def rows(images):
    """The images as a multiset of byte strings."""
    return sorted(image.numpy().tobytes() for image in images)


@pytest.mark.parametrize("valid", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_both_splits_together_are_the_training_images_in_use(data_spec, name, valid):
    spec = data_spec(name, train_size=210, valid=valid)
    whole, split = data.load(data_spec(name, train_size=210)), data.load(spec)
    assert split.shape == shape_of(spec)
    assert len(split.valid_labels) == round(valid * 210 + 1e-9)
    assert rows(torch.cat((split.train_images, split.valid_images))) == rows(whole.train_images)
    assert torch.equal(split.test_images, whole.test_images)
    # labels stay with their images, and the training images keep their order
    by_image = {
        i.numpy().tobytes(): int(y) for i, y in zip(whole.train_images, whole.train_labels, strict=True)
    }
    for images, labels in (
        (split.train_images, split.train_labels),
        (split.valid_images, split.valid_labels),
    ):
        assert [by_image[i.numpy().tobytes()] for i in images] == labels.tolist()


@pytest.mark.parametrize("valid", [0.01, 0.1, 0.333, 0.5, 0.9])
def test_the_split_is_stratified_to_within_one_image(data_spec, valid):
    whole, split = data.load(data_spec("digits")), data.load(data_spec("digits", valid=valid))
    of_class = np.bincount(whole.train_labels)
    exact = of_class * len(split.valid_labels) / len(whole.train_labels)
    assert np.abs(np.bincount(split.valid_labels, minlength=10) - exact).max() < 1


def test_the_split_depends_on_labels_and_size_alone(data_spec):
    """A change of this split changes every run with a validation split."""
    one, other = (data.load(data_spec("digits", valid=0.1, standardize=k)) for k in ("channel", "none"))
    assert torch.equal(one.valid_images, other.valid_images)
    labels = torch.arange(30) % 3
    assert validation_mask(labels, 6).nonzero().flatten().tolist() == [2, 3, 13, 15, 19, 23]


def test_a_larger_share_contains_the_smaller_one():
    labels = torch.arange(200) % 7
    small, large = validation_mask(labels, 20), validation_mask(labels, 77)
    assert small.sum() == 20
    assert not (small & ~large).any()


@pytest.mark.parametrize("seed", range(5))
def test_shares_add_up_and_are_proportional(seed):
    rng = np.random.default_rng(seed)
    of_class = torch.from_numpy(rng.integers(0, 40, 9))
    n = int(of_class.sum())
    for count in range(1, n):
        taken = shares(of_class, count)
        assert taken.sum() == count
        assert (taken <= of_class).all()
        assert ((taken - of_class * count / n).abs() < 1).all()


def test_validation_images_are_never_trained_on(data_spec):
    dataset = data.load(data_spec("digits", valid=0.2))
    held = set(rows(dataset.valid_images)) - set(rows(dataset.train_images))
    batches = Batches(dataset, [0, 1], 64)
    for step in range(batches.steps_per_epoch):
        order = batches.at(step) and batches._order[batches._places]
        assert not held & set(rows(dataset.train_images[order.flatten()]))
    assert len(batches._order) == len(dataset.train_labels)


def test_epochs_and_lengths_follow_the_smaller_training_split(make_spec):
    whole, split = (
        make_spec("data=digits", "batch=32"),
        make_spec("data=digits", "batch=32", "data.valid=0.5"),
    )
    assert whole.length(shape_of(whole.data).train_images) == 10 * (1297 // 32)
    assert split.length(shape_of(split.data).train_images) == 10 * (648 // 32)
    assert whole.signature != split.signature
    assert make_spec("data=digits", "batch=32", "data.valid=0").signature == whole.signature


def test_a_folder_gives_its_part_of_train_whatever_else_it_has(data_spec, pictures, same):
    """A val/ beside test/ is not used, as before; `data.valid` takes images of train/."""
    from PIL import Image

    spec = data_spec("folder", path=pictures.folder, valid=0.34)
    dataset = data.load(spec)
    assert dataset.shape == shape_of(spec) == data.Shape(3, 6, 3, 6, 6, 3)
    assert sorted(dataset.valid_labels.tolist()) == [0, 1, 2]
    beside = pictures.folder / "val" / "cat" / "0.png"
    beside.parent.mkdir(parents=True)
    Image.new("RGB", (6, 6), "red").save(beside)
    again = data.load(data_spec("folder", path=pictures.folder, valid=0.34))
    assert same(again, dataset)
    assert torch.equal(again.valid_images, dataset.valid_images)


@pytest.mark.parametrize(("valid", "split"), [(0.0001, "validation"), (0.9999, "training")])
def test_an_empty_split_is_refused_before_pixels_are_read(data_spec, valid, split):
    spec = data_spec("mnist", train_size=1000, valid=valid, root="/nowhere")
    with pytest.raises(
        InputError, match=rf"data.valid must .* {valid:g} of the 1000 training .* the {split} split empty"
    ):
        shape_of(spec)
