"""What is decided about images that differ: over all of them, in any order, and said in the record."""

from __future__ import annotations

import shutil
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from normbench import data


def grey(side=6):
    return Image.fromarray((np.arange(side**2) % 256).astype(np.uint8).reshape(side, side))


def colour(side=6):
    return Image.fromarray(np.full((side, side, 3), (200, 100, 0), np.uint8))


@pytest.mark.parametrize("name", ["train/cat/0.png", "train/eel/1.png", "test/dog/1.png"])
def test_one_grey_image_does_not_grey_a_colour_data_set(data_spec, pictures, name):
    before = data.load(data_spec("folder", path=pictures.folder))
    grey().save(pictures.folder / name)
    dataset = data.load(data_spec("folder", path=pictures.folder))
    assert dataset.channels == 3
    assert torch.equal(dataset.train_images[1], before.train_images[1])
    assert dataset.fitted == "as is (6×6); 3 channels: 14 of 15 images have colour"


@pytest.mark.parametrize("name", ["train/cat/0.png", "train/eel/1.png", "test/dog/1.png"])
def test_one_small_image_does_not_shrink_a_data_set(data_spec, pictures, name):
    colour(3).save(pictures.folder / name)
    dataset = data.load(data_spec("folder", path=pictures.folder))
    assert dataset.size == 6
    assert dataset.fitted == (
        "as is (6×6); side 6: the median of 15 images of 3 … 6; "
        "1 of 15 images cropped to a square and resized to 6×6"
    )


def test_a_data_set_is_grey_if_all_its_images_are(data_spec, pictures):
    for number, file in enumerate(sorted(pictures.folder.rglob("*.png"))):
        grey().convert(("L", "1", "LA")[number % 3]).save(file)
    dataset = data.load(data_spec("folder", path=pictures.folder))
    assert (dataset.channels, dataset.fitted) == (1, "as is (6×6)")


def test_the_median_is_the_lower_one_of_two(data_spec, pictures):
    files = sorted(pictures.folder.rglob("*.png"))
    files[0].unlink()
    for number, file in enumerate(files[1:]):
        colour(4 + number).save(file)  # 4 … 17
    assert data.shape_of(data_spec("folder", path=pictures.folder)).size == 10


def test_given_numbers_are_not_decided_again(data_spec, pictures):
    grey(3).save(pictures.folder / "train" / "cat" / "0.png")
    dataset = data.load(data_spec("folder", path=pictures.folder, size=5, channels=1))
    assert dataset.shape == data.Shape(1, 5, 3, 9, 6)
    assert dataset.fitted == "as is (5×5); 15 of 15 images cropped to a square and resized to 5×5"


def test_what_was_decided_is_said_again_by_a_kept_copy(data_spec, pictures, tmp_path):
    grey().save(pictures.folder / "train" / "cat" / "0.png")
    spec = data_spec("folder", path=pictures.folder)
    first, again = (data.load(spec, cache=tmp_path / "cache") for _ in range(2))
    assert first.fitted == again.fitted == "as is (6×6); 3 channels: 14 of 15 images have colour"


def test_frames_orientation_and_unused_images_are_said(data_spec, pictures):
    frames = [colour(), colour().point(lambda level: 255 - level)]
    frames[0].save(pictures.folder / "train" / "cat" / "8.gif", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    colour().save(pictures.folder / "train" / "cat" / "9.jpg", exif=exif)
    shutil.copytree(pictures.folder / "test", pictures.folder / "val")
    shutil.copy(pictures.folder / "test" / "cat" / "0.png", pictures.folder / "train" / "stray.png")
    dataset = data.load(data_spec("folder", path=pictures.folder))
    assert torch.equal(dataset.train_images[-2, :, 0, 0], torch.tensor([200, 100, 0], dtype=torch.uint8))
    assert dataset.fitted == (
        "as is (6×6); first frame of 1 animated image; EXIF orientation of 1 image not applied; "
        "6 images in val/ not used; 1 image outside class folders of train/, test/ and val/ not used"
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "YCbCr", "LA", "1", "PA"])
def test_every_mode_of_eight_bits_becomes_rgb(data_spec, pictures, mode):
    suffix = {"CMYK": "tif", "YCbCr": "jpg", "PA": "tif"}.get(mode, "png")
    image = colour().convert("P").convert("PA") if mode == "PA" else colour().convert(mode)
    options = {"transparency": b"\x80" * 4} if mode == "P" else {}
    try:
        image.save(pictures.folder / "train" / "cat" / f"0a.{suffix}", **options)
    except (OSError, KeyError, ValueError):
        pytest.skip(f"this Pillow cannot write mode {mode}")
    dataset = data.load(data_spec("folder", path=pictures.folder))
    expected = np.asarray(image.convert("RGBA").convert("RGB")).transpose(2, 0, 1)
    assert np.abs(dataset.train_images[3].numpy().astype(int) - expected).max() <= (
        2 if suffix == "jpg" else 0
    )


def test_a_class_may_be_spelled_in_another_unicode_form_in_test(data_spec, pictures):
    """An archive packed on a Mac decomposes accents."""
    for split, form in {"train": "NFC", "test": "NFD"}.items():
        name = unicodedata.normalize(form, "café")
        (pictures.folder / split / "cat").rename(pictures.folder / split / name)
    dataset = data.load(data_spec("folder", path=pictures.folder))
    assert dataset.classes == 3
    assert dataset.test_labels.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("exif", [b"Exif\0\0damaged", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0"])
def test_damaged_exif_does_not_damage_an_image(data_spec, pictures, exif):
    colour().save(pictures.folder / "train" / "cat" / "9.jpg", exif=exif)
    assert data.load(data_spec("folder", path=pictures.folder)).fitted == "as is (6×6)"


@pytest.mark.filterwarnings("error")
def test_no_warning_of_the_image_library_reaches_the_user(data_spec, pictures, monkeypatch):
    """A large scan makes Pillow warn of a decompression bomb, once per image."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    assert data.load(data_spec("folder", path=pictures.folder)).shape.train_images == 9
