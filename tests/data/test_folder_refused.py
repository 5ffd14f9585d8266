"""Folders and archives that are no data set: refused in one line that names the place and the remedy."""

from __future__ import annotations

import gzip
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from normbench import data
from normbench.data.folder_index import index_folder
from normbench.errors import InputError


def refused(spec, match):
    """Expect the same one-line error from `shape_of` and `load`."""
    for ask in (data.shape_of, data.load):
        with pytest.raises(InputError, match=match) as raised:
            ask(spec)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_is_refused(data_spec, pictures, split):
    shutil.rmtree(pictures.folder / split)
    refused(
        data_spec("folder", path=pictures.folder),
        f"must hold images as train/<class>/.* none for the {split} split",
    )


def test_images_without_class_folders_are_refused(data_spec, tmp_path):
    for split in ("train", "test"):
        (tmp_path / "flat" / split).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "flat" / split / "0.png")
    refused(data_spec("folder", path=tmp_path / "flat"), "must hold images as train/<class>/")


@pytest.mark.parametrize("split", ["train", "test"])
def test_splits_of_different_classes_are_refused(data_spec, pictures, split):
    shutil.rmtree(pictures.folder / split / "dog")
    other = {"train": "test", "test": "train"}[split]
    refused(
        data_spec("folder", path=pictures.folder),
        rf"dog is only in {other} \(1 differ\); add or remove its images",
    )


def test_a_single_class_is_refused(data_spec, pictures):
    for split in ("train", "test"):
        for name in ("dog", "eel"):
            shutil.rmtree(pictures.folder / split / name)
    refused(data_spec("folder", path=pictures.folder), "must hold 2 classes or more; got cat alone")


def test_two_data_sets_in_one_archive_are_refused(data_spec, pictures, tmp_path):
    shutil.copytree(pictures.folder, tmp_path / "all" / "a")
    shutil.copytree(pictures.folder, tmp_path / "all" / "b")
    refused(data_spec("folder", path=tmp_path / "all"), "must hold one data set; got those in a, b; keep one")


def test_data_that_was_removed_is_refused(data_spec, pictures):
    spec = data_spec("folder", path=pictures.folder)
    shutil.rmtree(pictures.folder)
    index_folder.cache_clear()
    refused(spec, f"no data at data.path={pictures.folder}; give a directory or an archive")


def test_a_folder_without_a_path_is_refused(data_spec):
    refused(data_spec("folder"), "data=folder needs data.path")


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz", "set.zip"])
@pytest.mark.parametrize("part", [0, 0.3, 0.6, 0.95])
def test_a_truncated_archive_is_refused(data_spec, pictures, tmp_path, name, part, pack):
    archive = pack(pictures.folder, tmp_path / name)
    content = archive.read_bytes()
    if name == "set.tar":
        content = content.rstrip(b"\0")  # the padding at its end is not missed
    archive.write_bytes(content[: int(part * len(content))])
    refused(
        data_spec("folder", path=archive),
        f"data.path={archive} cannot be read (at|after) .*: copy or pack it again",
    )


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz"])
def test_a_damaged_header_does_not_end_an_archive_early(data_spec, pictures, tmp_path, name, pack):
    archive = pack(pictures.folder, tmp_path / "set.tar")
    content = bytearray(archive.read_bytes())
    with tarfile.open(archive) as opened:
        middle = opened.getmembers()[7]
    content[middle.offset] ^= 255
    archive.write_bytes(content)
    if name.endswith("gz"):
        archive = tmp_path / name
        archive.write_bytes(gzip.compress(content))
    refused(data_spec("folder", path=archive), r"cannot be read after .*\(the end mark is missing\)")


def test_a_file_that_is_no_archive_is_refused(data_spec, tmp_path):
    (tmp_path / "set.tar.gz").write_text("<html>404 not found</html>" * 100)
    refused(data_spec("folder", path=tmp_path / "set.tar.gz"), "cannot be read at its start")


def test_a_locked_zip_is_refused(data_spec, pictures, tmp_path, pack):
    archive = pack(pictures.folder, tmp_path / "set.zip")
    content = bytearray(archive.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            content[start + flags] |= 1  # "is encrypted"
    archive.write_bytes(content)
    refused(data_spec("folder", path=archive), "cannot be read at train/eel/1.png .*encrypted")


def test_an_image_that_cannot_be_decoded_is_named(data_spec, pictures, tmp_path):
    victim = pictures.folder / "test" / "dog" / "1.png"
    victim.write_bytes(victim.read_bytes()[:60])
    with pytest.raises(
        InputError, match=r"cannot decode test/dog/1\.png of data\.path=.*; replace or remove it"
    ):
        data.load(data_spec("folder", path=pictures.folder), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_first_image_that_cannot_be_decoded_is_named(data_spec, pictures):
    (pictures.folder / "train" / "cat" / "0.png").write_bytes(b"not an image")
    refused(data_spec("folder", path=pictures.folder), r"cannot decode train/cat/0\.png of")


def test_more_than_eight_bits_a_channel_is_refused(data_spec, pictures):
    Image.fromarray(np.full((6, 6), 40_000, np.uint16)).save(pictures.folder / "train" / "eel" / "1.png")
    with pytest.raises(InputError, match=r"cannot decode train/eel/1\.png .*8 bits a channel"):
        data.load(data_spec("folder", path=pictures.folder))


def test_a_path_that_is_neither_file_nor_folder_is_refused(data_spec):
    with pytest.raises(InputError, match=r"data.path=/dev/zero must be a directory or an archive"):
        data_spec("folder", path="/dev/zero")


def test_a_data_set_deep_inside_an_archive_is_not_looked_for_by_a_path(data_spec, pictures, pack, tmp_path):
    archive = pack(pictures.folder, tmp_path / "deep.tgz", top="home/me/")
    refused(data_spec("folder", path=archive), "pack the archive again from the folder home/me$")
