"""Folders that are arranged in another way: the error names the cause and the remedy."""

from __future__ import annotations

import io
import shutil
import tarfile
import unicodedata

import pytest
from PIL import Image

from normbench import data
from normbench.errors import InputError


def refused(spec, match):
    for ask in (data.shape_of, data.load):
        with pytest.raises(InputError, match=match) as raised:
            ask(spec)
        assert "\n" not in str(raised.value)
        assert "0x" not in str(raised.value)


@pytest.mark.parametrize(
    ("split", "given", "wanted"),
    [
        ("test", "valid", "val"),
        ("test", "validation", "val"),
        ("test", "dev", "val"),
        ("test", "testing", "test"),
        ("test", "Test", "test"),
        ("train", "training", "train"),
        ("train", "TRAIN", "train"),
    ],
)
@pytest.mark.parametrize("top", ["", "set/"])
def test_a_split_of_another_name_is_named(data_spec, pictures, tmp_path, split, given, wanted, top, pack):
    (pictures.folder / split).rename(pictures.folder / "spare")
    (pictures.folder / "spare").rename(pictures.folder / given)
    archive = pack(pictures.folder, tmp_path / "set.tar", top)
    for path in (archive, pictures.folder):
        refused(
            data_spec("folder", path=path),
            rf"none for the {split} split; folders named train, test, val are read, not {given}/: "
            rf"rename it to {wanted}/",
        )


def test_splits_too_deep_inside_are_named(data_spec, pictures, tmp_path):
    deep = tmp_path / "deep" / "a" / "b"
    shutil.copytree(pictures.folder, deep)
    refused(data_spec("folder", path=tmp_path / "deep"), "test/ is too deep inside; add /a/b to data.path")


def test_images_beside_the_class_folders_are_named(data_spec, pictures):
    for file in (pictures.folder / "test").rglob("*.png"):
        file.rename(pictures.folder / "test" / f"{file.parent.name}{file.name}")
    for folder in (pictures.folder / "test").iterdir():
        if folder.is_dir():
            folder.rmdir()
    refused(
        data_spec("folder", path=pictures.folder), r"test/cat0\.png is in no class folder: move it into one"
    )


def test_classes_without_splits_are_named(data_spec, pictures, tmp_path):
    shutil.copytree(pictures.folder / "train", tmp_path / "flat")
    refused(data_spec("folder", path=tmp_path / "flat"), r"are read, but there is cat/0\.png: arrange")


def test_backslashes_in_a_tar_are_named(data_spec, pictures, tmp_path):
    with tarfile.open(tmp_path / "set.tar", "w") as opened:
        for name in pictures.pixels:
            opened.add(pictures.folder / name, name.replace("/", "\\"))
    refused(
        data_spec("folder", path=tmp_path / "set.tar"), r"has backslashes in its name: pack the archive again"
    )


@pytest.mark.parametrize("inner", ["set.tar.gz", "train.zip"])
def test_an_archive_inside_is_named(data_spec, pictures, tmp_path, pack, inner):
    (tmp_path / "outer").mkdir()
    pack(pictures.folder, tmp_path / "outer" / inner)
    packed = pack(tmp_path / "outer", tmp_path / "outer.zip")
    for path in (tmp_path / "outer", packed):
        refused(data_spec("folder", path=path), rf"there is an archive inside, {inner}: unpack it")


def test_images_of_an_unknown_suffix_are_named(data_spec, pictures):
    for file in [*pictures.folder.rglob("*.png")]:
        file.rename(file.with_suffix(".heic"))
    refused(data_spec("folder", path=pictures.folder), r"\.webp are read, but there is .*\.heic: convert")


@pytest.mark.parametrize("name", ["train/owl", "test/owl"])
@pytest.mark.parametrize("content", [None, "notes.txt", "image.heic", ".hidden.png"])
def test_a_class_folder_without_an_image_is_named(data_spec, pictures, tmp_path, name, content):
    spec = data_spec("folder", path=pictures.folder)
    data.load(spec, cache=tmp_path / "cache")
    (pictures.folder / name).mkdir()
    if content:
        (pictures.folder / name / content).write_bytes(b"something")
    spec = data_spec("folder", path=pictures.folder)
    with pytest.raises(InputError, match=rf"must hold images; {name} has none with the suffix \.bmp, "):
        data.load(spec, cache=tmp_path / "cache")
    refused(spec, f"{name} has none")


@pytest.mark.parametrize("split", ["train", "test"])
def test_two_classes_that_look_the_same_are_named(data_spec, pictures, split):
    for form in ("NFC", "NFD"):
        for each in (split, "train", "test"):
            target = pictures.folder / each / unicodedata.normalize(form, "café")
            if not target.exists() and (each == split or form == "NFC"):
                shutil.copytree(pictures.folder / each / "cat", target)
    if len([*(pictures.folder / split).iterdir()]) < 5:
        pytest.skip("this file system knows one Unicode form")
    refused(
        data_spec("folder", path=pictures.folder),
        rf"two folders of {split} are called .* and differ only in Unicode normalization "
        r"\('cafe\\u0301', 'caf\\xe9'\)",
    )


@pytest.mark.parametrize("other", ["Cat", "CAT", "cat "])
def test_class_names_that_differ_in_case_or_spaces_are_named(data_spec, pictures, other):
    (pictures.folder / "test" / "cat").rename(pictures.folder / "test" / other)
    refused(
        data_spec("folder", path=pictures.folder),
        f"the other split has (cat|{other}), which differs in case, spaces or Unicode form: rename one",
    )


def test_classes_of_one_split_may_differ_in_case(data_spec, pictures):
    """A data set of letters has classes a and A."""
    for split in ("train", "test"):
        shutil.copytree(pictures.folder / split / "cat", pictures.folder / split / "CAT")
    assert data.load(data_spec("folder", path=pictures.folder)).classes == 4


def test_an_empty_image_is_named(data_spec, pictures):
    (pictures.folder / "test" / "eel" / "1.png").write_bytes(b"")
    refused(
        data_spec("folder", path=pictures.folder), r"cannot decode test/eel/1\.png of .*\(the file is empty\)"
    )


def test_a_file_that_is_no_image_is_named(data_spec, pictures):
    (pictures.folder / "test" / "eel" / "1.png").write_bytes(b"<html>not found</html>")
    refused(
        data_spec("folder", path=pictures.folder),
        r"test/eel/1\.png .*\(the content is none of BMP, GIF,",
    )


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp"])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_truncated_image_is_named(data_spec, pictures, tmp_path, suffix, part):
    stream = io.BytesIO()
    image = Image.effect_noise((64, 64), 90)
    image.save(stream, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    content = stream.getvalue()
    (pictures.folder / "train" / "dog" / f"9.{suffix}").write_bytes(content[: int(part * len(content))])
    with pytest.raises(InputError, match=rf"cannot decode train/dog/9\.{suffix} of .*; replace or remove it"):
        data.load(data_spec("folder", path=pictures.folder), cache=tmp_path / "cache")
    assert not [*(tmp_path / "cache").rglob("*.npy")]


def test_more_than_eight_bits_are_refused_before_anything_is_decoded(data_spec, pictures):
    Image.new("I;16", (6, 6), 40_000).save(pictures.folder / "train" / "eel" / "1.png")
    refused(data_spec("folder", path=pictures.folder), r"train/eel/1\.png .*must have 8 bits a channel")
