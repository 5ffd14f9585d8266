"""Repeated members, links and odd names: used as intended, or refused by name."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from normbench import data
from normbench.errors import InputError


def png(level):
    stream = io.BytesIO()
    Image.fromarray(np.full((6, 6, 3), level, np.uint8)).save(stream, "png")
    return stream.getvalue()


@pytest.fixture
def add(pictures, tmp_path, pack):
    """Append entries to an archive of the pictures: name → bytes, or (kind, target) for a link."""

    def build(archive, entries):
        made = pack(pictures.folder, tmp_path / archive)
        if archive.endswith(".zip"):
            with zipfile.ZipFile(made, "a") as opened:
                for name, content in entries:
                    if isinstance(content, bytes):
                        opened.writestr(zipfile.ZipInfo(name), content)
                    else:
                        info = zipfile.ZipInfo(name)
                        info.external_attr = (stat.S_IFLNK | 0o777) << 16
                        opened.writestr(info, content[1])
            return made
        with tarfile.open(made, "a") as opened:
            for name, content in entries:
                info = tarfile.TarInfo(name)
                if isinstance(content, bytes):
                    info.size = len(content)
                    opened.addfile(info, io.BytesIO(content))
                else:
                    info.type, info.linkname = content
                    opened.addfile(info)
        return made

    return build


SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("archive", ["set.tar", "set.zip"])
@pytest.mark.parametrize(
    "name", ["train/cat/0.png", "./train/cat/0.png", "train//cat/0.png", "/train/cat/0.png"]
)
def test_of_a_member_that_stands_twice_the_last_one_counts(data_spec, add, tmp_path, archive, name):
    spec = data_spec("folder", path=add(archive, [(name, png(7)), (name, png(9))]))
    for _ in range(2):
        dataset = data.load(spec, cache=tmp_path / "cache")
        assert dataset.shape == data.Shape(3, 6, 3, 9, 6)
        assert torch.equal(dataset.train_images[0], torch.full((3, 6, 6), 9, dtype=torch.uint8))
        assert dataset.train_labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 0]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("archive", ["set.tar", "set.zip"])
def test_a_damaged_member_that_a_later_one_replaces_does_no_harm(data_spec, add, archive):
    made = add(archive, [("train/cat/0.png", b"damaged"), ("train/cat/0.png", png(9))])
    assert data.load(data_spec("folder", path=made)).train_images[0].unique().tolist() == [9]


def test_a_place_that_stays_empty_is_refused(data_spec, pictures, monkeypatch):
    from normbench.data import folder

    keyed = folder.keyed_members
    monkeypatch.setattr(folder, "keyed_members", lambda path: list(keyed(path))[:-1])
    with pytest.raises(InputError, match="must not change while it is read; 1 images are missing now"):
        data.load(data_spec("folder", path=pictures.folder))


@pytest.mark.parametrize(
    ("archive", "name", "link"),
    [
        ("set.tar", "train/cat/7.png", (HARD, "train/dog/0.png")),
        ("set.tar", "train/cat/7.png", (HARD, "./train/dog/0.png")),
        ("set.tar", "train/cat/7.png", (SYM, "../dog/0.png")),
        ("set.tar", "train/cat/7.png", (SYM, "../../train/dog/0.png")),
        ("set.zip", "train/cat/7.png", (SYM, "../dog/0.png")),
    ],
)
def test_a_link_to_a_file_of_the_archive_is_that_file(data_spec, add, pictures, archive, name, link):
    dataset = data.load(data_spec("folder", path=add(archive, [(name, link)])))
    assert len(dataset.train_images) == 10
    assert dataset.train_labels[-1] == 0
    assert np.array_equal(dataset.train_images[-1], pictures.pixels["train/dog/0.png"])
    assert np.array_equal(dataset.train_images[1], pictures.pixels["train/dog/0.png"])


def test_links_lead_to_what_stands_outside_the_splits_and_to_other_links(data_spec, add):
    entries = [
        ("train/cat/7.png", (SYM, "8.png")),
        ("train/cat/8.png", (SYM, "../../pool/a")),
        ("pool/a", png(5)),
    ]
    dataset = data.load(data_spec("folder", path=add("set.tar", entries)))
    assert [image.unique().tolist() for image in dataset.train_images[-2:]] == [[5], [5]]


def test_a_hard_link_keeps_the_bytes_it_was_made_of(data_spec, add):
    entries = [
        ("pool/a", png(5)),
        ("train/cat/7.png", (HARD, "pool/a")),
        ("pool/a", png(6)),
        ("train/cat/8.png", (SYM, "../../pool/a")),
    ]
    dataset = data.load(data_spec("folder", path=add("set.tar", entries)))
    assert [image.unique().tolist() for image in dataset.train_images[-2:]] == [[5], [6]]


@pytest.mark.parametrize(
    ("archive", "name", "link"),
    [
        ("set.tar", "train/cat/9.png", (SYM, "/etc/passwd")),
        ("set.zip", "train/cat/9.png", (SYM, "/etc/passwd")),
        ("set.tar", "train/cat/9.png", (SYM, "../../../other/0.png")),
        ("set.tar", "train/cat/9.png", (SYM, "missing.png")),
        ("set.tar", "train/cat/9.png", (HARD, "missing.png")),
        ("set.tar", "train/cat/9.png", (SYM, "9.png")),
        ("set.tar", "train/cat/9.png", (SYM, "../dog")),
        ("set.tar", "train/owl", (SYM, "cat")),
        ("set.zip", "test/owl", (SYM, "../train/cat")),
        ("set.tar", "train/cat/more", (SYM, "../dog")),
    ],
)
def test_a_link_to_no_file_of_the_archive_is_refused_by_name(data_spec, add, archive, name, link):
    spec = data_spec("folder", path=add(archive, [(name, link)]))
    for ask in (data.shape_of, data.load):
        with pytest.raises(
            InputError, match=rf"{name} of data.path=.* is a link to .*which is no file .*tar -h"
        ):
            ask(spec)


def test_a_linked_class_folder_is_followed(data_spec, pictures, tmp_path, same):
    plain = data.load(data_spec("folder", path=pictures.folder))
    shutil.move(pictures.folder / "train" / "cat", tmp_path / "cats")
    (pictures.folder / "train" / "cat").symlink_to(tmp_path / "cats")
    shutil.move(pictures.folder / "test", tmp_path / "held out")
    (pictures.folder / "test").symlink_to(tmp_path / "held out")
    assert same(data.load(data_spec("folder", path=pictures.folder)), plain)


@pytest.mark.parametrize("target", [".", "..", "../..", "self"])
def test_a_link_to_a_folder_that_contains_it_is_refused_by_name(data_spec, pictures, target):
    (pictures.folder / "train" / "cat" / "self").symlink_to(target)
    with pytest.raises(
        InputError, match=r"train/cat/self of data.path=.* is a link to a folder that contains it"
    ):
        data.load(data_spec("folder", path=pictures.folder))


def test_a_loop_outside_the_splits_does_no_harm(data_spec, pictures, same):
    plain = data.load(data_spec("folder", path=pictures.folder))
    (pictures.folder / "docs").mkdir()
    (pictures.folder / "docs" / "self").symlink_to("..")
    assert same(data.load(data_spec("folder", path=pictures.folder)), plain)


@pytest.mark.parametrize("name", ["train/cat/9.png", "train/owl"])
def test_a_link_to_nothing_is_refused_by_name(data_spec, pictures, name):
    (pictures.folder / name).symlink_to("missing")
    with pytest.raises(InputError, match=rf"{name} of data.path=.* is a link to nothing; mend or remove it"):
        data.load(data_spec("folder", path=pictures.folder))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_refused_by_name_and_not_waited_for(data_spec, pictures):
    os.mkfifo(pictures.folder / "train" / "cat" / "9.png")
    with pytest.raises(InputError, match=r"train/cat/9\.png of data.path=.* is neither file nor folder"):
        data.load(data_spec("folder", path=pictures.folder))


def test_a_broken_link_added_after_decoding_is_not_hidden_by_the_copy(data_spec, pictures, tmp_path):
    data.load(data_spec("folder", path=pictures.folder), cache=tmp_path / "cache")
    (pictures.folder / "train" / "cat" / "9.png").symlink_to("missing")
    with pytest.raises(InputError, match="is a link to nothing"):
        data.load(data_spec("folder", path=pictures.folder), cache=tmp_path / "cache")


@pytest.mark.parametrize("archive", ["set.tar", "set.zip"])
@pytest.mark.parametrize("name", ["train/cat/../dog/9.png", "../train/cat/9.png"])
def test_a_name_that_leads_upwards_is_refused(data_spec, add, archive, name):
    with pytest.raises(InputError, match=r"9\.png of data.path=.* has '\.\.' in its name"):
        data.load(data_spec("folder", path=add(archive, [(name, png(1))])))


def test_a_zip_with_backslashes_is_the_same_data_set(data_spec, pictures, tmp_path, same):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as opened:
        for name in pictures.pixels:
            opened.writestr(f"set\\{name}".replace("/", "\\"), (pictures.folder / name).read_bytes())
    plain, packed = (data_spec("folder", path=p) for p in (pictures.folder, tmp_path / "set.zip"))
    assert same(data.load(packed), data.load(plain))


def test_names_that_are_no_utf_8_are_read_and_shown(data_spec, add):
    odd = b"train/cat/\xe9.png".decode("utf-8", "surrogateescape")
    assert len(data.load(data_spec("folder", path=add("set.tar", [(odd, png(3))]))).train_images) == 10
    with pytest.raises(InputError, match=r"cannot decode train/cat/\\xe9\.png of"):
        data.load(data_spec("folder", path=add("set.tar", [(odd, b"damaged")])))
