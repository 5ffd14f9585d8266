"""Image folders and archives: the same data set in every packing."""

from __future__ import annotations

import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image

from normbench import data


def test_a_directory_is_read_in_rounds_over_its_sorted_classes(data_spec, pictures):
    dataset = data.load(data_spec("folder", path=pictures.folder))
    names = [
        "train/cat/0.png", "train/dog/0.png", "train/eel/0.png", "train/cat/1.png", "train/dog/1.png",
        "train/eel/1.png", "train/cat/2.png", "train/dog/2.png", "train/cat/3.png",
    ]  # fmt: skip
    assert np.array_equal(dataset.train_images.numpy(), [pictures.pixels[name] for name in names])
    assert dataset.train_labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 0]
    assert dataset.test_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.shape == data.Shape(channels=3, size=6, classes=3, train_images=9, test_images=6)


@pytest.mark.parametrize("top", ["", "./", "set/"])
@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz", "set.tgz", "set.zip", "set.of.unknown.name"])
def test_an_archive_is_the_same_data_set_as_its_directory(
    data_spec, pictures, tmp_path, name, top, pack, same
):
    archive = pack(pictures.folder, tmp_path / name, top)
    packed, plain = (data_spec("folder", path=path) for path in (archive, pictures.folder))
    assert data.shape_of(packed) == data.shape_of(plain)
    assert same(data.load(packed), data.load(plain))


def test_val_stands_in_for_test_and_gives_way_to_it(data_spec, pictures, same):
    shutil.copytree(pictures.folder / "test" / "cat", pictures.folder / "val" / "rat")
    both = data.load(data_spec("folder", path=pictures.folder))
    shutil.rmtree(pictures.folder / "val")
    (pictures.folder / "test").rename(pictures.folder / "val")
    assert same(data.load(data_spec("folder", path=pictures.folder)), both)


def test_hidden_files_and_files_that_are_no_images_are_passed_over(data_spec, pictures, same):
    plain = data.load(data_spec("folder", path=pictures.folder))
    for name in (
        "train/cat/._0.png",
        "train/.thumbs/a/0.png",
        "train/cat/labels.txt",
        "__MACOSX/train/rat/0.png",
        "a.png",
    ):
        (pictures.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures.folder / name).write_bytes(b"not an image")
    assert same(data.load(data_spec("folder", path=pictures.folder)), plain)


def test_images_are_cut_to_their_middle_square_and_resized(data_spec, pictures):
    wide = np.zeros((8, 20, 3), np.uint8)
    wide[:, 6:14] = 200  # the middle square alone
    Image.fromarray(wide).save(pictures.folder / "train" / "cat" / "0.png")
    dataset = data.load(data_spec("folder", path=pictures.folder, size=8))
    assert torch.equal(dataset.train_images[0], torch.full((3, 8, 8), 200, dtype=torch.uint8))
    assert dataset.fitted == "as is (8×8); 15 of 15 images cropped to a square and resized to 8×8"
    assert data.load(data_spec("folder", path=pictures.folder, size=4)).train_images.shape == (9, 3, 4, 4)


def test_transparency_and_palettes_become_rgb(data_spec, pictures):
    first = Image.open(pictures.folder / "train" / "cat" / "0.png")
    first.convert("RGBA").save(pictures.folder / "train" / "cat" / "0.png")
    first.quantize(256).save(pictures.folder / "train" / "cat" / "1.png")
    dataset = data.load(data_spec("folder", path=pictures.folder))
    assert np.array_equal(dataset.train_images[0], pictures.pixels["train/cat/0.png"])
    assert np.array_equal(dataset.train_images[3], pictures.pixels["train/cat/0.png"])


def test_part_of_a_folder_holds_all_classes(data_spec, pictures):
    dataset = data.load(data_spec("folder", path=pictures.folder, train_size=3, test_size=3))
    assert dataset.train_labels.tolist() == dataset.test_labels.tolist() == [0, 1, 2]


def test_cifar_10_as_jpeg_is_known_by_its_names(data_spec, real_data):
    archive = real_data("cifar10-jpeg.tar.gz") / "cifar10-jpeg.tar.gz"
    assert data.shape_of(data_spec("folder", path=archive)) == data.Shape(3, 32, 10, 50_000, 10_000)


@pytest.mark.slow
def test_cifar_10_as_jpeg_is_decoded_once_and_mapped_afterwards(data_spec, real_data, tmp_path, same):
    spec = data_spec("folder", path=real_data("cifar10-jpeg.tar.gz") / "cifar10-jpeg.tar.gz")
    decoded = data.load(spec, cache=tmp_path)
    began = time.perf_counter()
    mapped = data.load(spec, cache=tmp_path)
    assert time.perf_counter() - began < 2
    assert same(decoded, mapped)
    assert decoded.train_labels.bincount().tolist() == [5000] * 10
    assert decoded.test_labels.bincount().tolist() == [1000] * 10
    assert decoded.mean == pytest.approx((0.491, 0.482, 0.447), abs=1e-3)  # the usual constants
