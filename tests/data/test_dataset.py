"""Loading: the images of every source, and the moments that standardize them."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import pytest
import torch

from normbench import data
from normbench.data.moments import moments
from normbench.errors import InputError


def test_digits_are_the_real_ones_in_a_split_that_never_changes(data_spec):
    """A change of this hash changes every run on digits."""
    from sklearn.datasets import load_digits

    dataset = data.load(data_spec("digits"))
    images = torch.cat((dataset.train_images, dataset.test_images)).flatten(1).numpy()
    source = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
    assert np.array_equal(images[np.lexsort(images.T)], source[np.lexsort(source.T)])
    digest = hashlib.sha256()
    for tensor in (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels):
        digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest()[:16] == "c1c5379cabca3df6"


def test_the_digits_split_is_stratified(data_spec):
    dataset = data.load(data_spec("digits"))
    train, test = dataset.train_labels.bincount(), dataset.test_labels.bincount()
    assert (train / (train + test) - 1297 / 1797).abs().max() < 0.005


def test_a_synthetic_image_does_not_depend_on_how_many_are_made(data_spec):
    knobs = {"classes": 4, "size": 5, "channels": 3, "test_size": 6}
    few, many = (data.load(data_spec("synthetic", train_size=n, **knobs)) for n in (10, 700))
    assert torch.equal(few.train_images, many.train_images[:10])
    assert torch.equal(few.test_images, many.test_images)
    assert not torch.equal(few.train_images[:6], few.test_images)
    assert few.train_labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_synthetic_classes_can_be_told_apart_but_not_by_eye(data_spec):
    dataset = data.load(data_spec("synthetic", train_size=2000, test_size=500))
    train, test = dataset.train_images.flatten(1).float(), dataset.test_images.flatten(1).float()
    prototypes = torch.stack([train[dataset.train_labels == c].mean(0) for c in range(10)])
    nearest = torch.cdist(test, prototypes).argmin(1)
    assert (nearest == dataset.test_labels).float().mean() == 1
    assert train.std(0).mean() > 2 * prototypes.std(0).mean()


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_a_loaded_data_set_has_the_shape_that_was_announced(data_spec, name):
    spec = data_spec(name, train_size=100, test_size=30)
    dataset = data.load(spec)
    assert dataset.shape == data.shape_of(spec)
    assert dataset.train_images.shape == (100, dataset.channels, dataset.size, dataset.size)
    assert dataset.test_images.shape == (30, dataset.channels, dataset.size, dataset.size)
    assert (dataset.train_images.dtype, dataset.train_labels.dtype) == (torch.uint8, torch.int64)
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (100, 30)


def test_part_of_a_split_is_its_first_images_and_sets_the_moments(data_spec):
    whole, part = data.load(data_spec("digits")), data.load(data_spec("digits", train_size=50, test_size=7))
    assert torch.equal(part.train_images, whole.train_images[:50])
    assert torch.equal(part.test_labels, whole.test_labels[:7])
    assert (part.mean, part.std) == moments(whole.train_images[:50])


def test_images_are_fitted_and_measured_afterwards(data_spec):
    dataset = data.load(data_spec("digits"), size=32)
    assert (dataset.size, dataset.fitted) == (32, "resized 8→32 bilinear")
    assert (dataset.mean, dataset.std) == moments(dataset.train_images)


def test_moments_are_those_of_all_pixels_of_a_channel(tiny):
    images = tiny(count=50).train_images
    mean, std = moments(images)
    white = images.double() / 255
    assert mean == pytest.approx(white.mean((0, 2, 3)).tolist())
    assert std == pytest.approx(white.std((0, 2, 3), correction=0).tolist())


def test_a_constant_channel_is_not_divided_by_zero():
    assert moments(torch.full((4, 1, 2, 2), 51, dtype=torch.uint8)) == ((0.2,), (1.0,))


def test_a_data_set_moves_as_a_whole(tiny):
    moved = tiny().to("meta")
    assert {moved.train_images.device.type, moved.train_labels.device.type} == {"meta"}
    assert {moved.test_images.device.type, moved.test_labels.device.type} == {"meta"}


def test_an_unknown_name_is_answered_with_the_nearest(data_spec):
    spec = data_spec("mnist").model_copy(update={"name": "mnits"})
    for ask in (data.shape_of, data.load):
        with pytest.raises(InputError, match="unknown data 'mnits'; nearest: mnist"):
            ask(spec)


def test_digits_are_read_once_and_kept(data_spec, tmp_path, monkeypatch):
    first = data.load(data_spec("digits"), cache=tmp_path)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)  # whoever imports it now fails
    again = data.load(data_spec("digits"), cache=tmp_path)
    assert torch.equal(first.train_images, again.train_images)
    assert torch.equal(first.test_labels, again.test_labels)
    with pytest.raises(ImportError):
        data.load(data_spec("digits"), cache=tmp_path / "another")
