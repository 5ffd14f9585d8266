"""The state of the data is part of a run's identity: contents count, not names, places or times."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normbench import data
from normbench.data import file_hashes, fingerprint, published
from normbench.data.fingerprint import state
from normbench.errors import InputError


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once, so that hashes are remembered without waiting."""
    monkeypatch.setattr(file_hashes, "UNSETTLED_NS", -1_000_000_000)


@pytest.fixture
def hashed(monkeypatch):
    """The files that were opened to be hashed."""
    opened, new = [], file_hashes.hashlib.new
    monkeypatch.setattr(file_hashes.hashlib, "new", lambda *args, **kw: opened.append(1) or new(*args, **kw))
    return opened


def forget():
    """Drop what one process remembers, as if the next one began."""
    file_hashes._shared.cache_clear()
    fingerprint._walked.clear()


def folder(path):
    return {"name": "folder", "path": str(path)}


def test_other_pixels_under_the_same_names_are_other_data(pictures):
    before = state(folder(pictures.folder))
    victim = pictures.folder / "train" / "cat" / "0.png"
    content, times = victim.read_bytes(), victim.stat()
    victim.write_bytes(content[:-20] + bytes(20))  # the same size
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))  # and the same time
    assert state(folder(pictures.folder)) != before
    victim.write_bytes(content)
    assert state(folder(pictures.folder)) == before


def test_exchanged_contents_are_other_data(pictures):
    before = state(folder(pictures.folder))
    one, other = (pictures.folder / "train" / name / "0.png" for name in ("cat", "dog"))
    spare = pictures.folder / "spare"
    one.rename(spare), other.rename(one), spare.rename(other)
    assert state(folder(pictures.folder)) != before


def test_a_change_is_noticed_although_the_time_was_put_back(pictures, settled):
    """The change time, which only the system sets, is newer."""
    before = state(folder(pictures.folder))
    victim = pictures.folder / "test" / "dog" / "1.png"
    times = victim.stat()
    victim.write_bytes(victim.read_bytes()[:-4] + b"ABCD")
    os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert state(folder(pictures.folder)) != before


def test_a_file_put_in_place_of_another_of_the_same_age_is_noticed(pictures, settled, tmp_path):
    before = state(folder(pictures.folder))
    victim, copy = pictures.folder / "test" / "dog" / "1.png", tmp_path / "copy.png"
    shutil.copy2(victim, copy)
    copy.write_bytes(copy.read_bytes()[:-4] + b"ABCD")
    times = victim.stat()
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    copy.replace(victim)
    assert state(folder(pictures.folder)) != before


def test_the_place_and_the_times_of_the_files_do_not_count(pictures, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(pictures.folder, copy)
    os.utime(copy / "train" / "cat" / "0.png", (1, 1))
    assert state(folder(copy)) == state(folder(pictures.folder))


@pytest.mark.parametrize(
    "name", ["train/cat/.DS_Store", "train/cat/notes.txt", "readme.md", ".git/0.png", "a.png"]
)
def test_files_that_are_not_read_do_not_count(pictures, name):
    before = state(folder(pictures.folder))
    (pictures.folder / name).parent.mkdir(parents=True, exist_ok=True)
    (pictures.folder / name).write_bytes(b"something")
    assert state(folder(pictures.folder)) == before


@pytest.mark.parametrize("name", ["train/cat/9.png", "test/owl/0.png", "val/cat/0.png"])
def test_another_image_is_other_data(pictures, name):
    before = state(folder(pictures.folder))
    (pictures.folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(pictures.folder / "train" / "cat" / "0.png", pictures.folder / name)
    assert state(folder(pictures.folder)) != before


def test_the_same_images_behind_links_are_the_same_data(pictures, tmp_path):
    linked = tmp_path / "linked"
    shutil.copytree(pictures.folder, linked)
    shutil.rmtree(linked / "train" / "cat")
    (linked / "train" / "cat").symlink_to(pictures.folder / "train" / "cat")
    assert state(folder(linked)) == state(folder(pictures.folder))


def test_an_archive_is_identified_by_its_bytes(pictures, tmp_path, pack):
    archive = pack(pictures.folder, tmp_path / "set.tar")
    before = state(folder(archive))
    assert before == hashlib.sha256(archive.read_bytes()).hexdigest()[:16]
    content = bytearray(archive.read_bytes())
    content[700] ^= 1
    archive.write_bytes(content)
    assert state(folder(archive)) != before


def test_files_are_hashed_once_per_process(pictures, settled, hashed):
    state(folder(pictures.folder))
    assert len(hashed) == 15
    state(folder(pictures.folder))
    assert len(hashed) == 15


def test_what_was_loaded_is_not_hashed_again_by_another_process(data_spec, pictures, settled, hashed):
    cache = Path(os.environ["NORMBENCH_RESULTS"]) / "cache"
    spec = data_spec("folder", path=pictures.folder)
    data.load(spec, cache=cache)
    forget(), hashed.clear()
    assert state(folder(pictures.folder)) == spec.fingerprint
    assert len(hashed) <= 1  # the length of a digest
    (pictures.folder / "train" / "cat" / "0.png").write_bytes(b"x")
    forget()
    assert state(folder(pictures.folder)) != spec.fingerprint


def test_asking_for_the_state_writes_nothing(pictures, settled):
    state(folder(pictures.folder))
    assert not Path(os.environ["NORMBENCH_RESULTS"]).exists()


def test_a_file_that_changed_a_moment_ago_is_hashed_again(pictures, hashed):
    """A second change within a tick of the file system's clock would leave no trace."""
    state(folder(pictures.folder))
    state(folder(pictures.folder))
    assert len(hashed) == 30


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no json",
        "[]",
        "{}",
        '{"algorithm": "sha256", "files": {"a": 1}}',
        '{"algorithm": "sha256", "files": []}',
    ],
)
def test_a_damaged_memory_of_hashes_is_ignored(data_spec, pictures, settled, content):
    cache = Path(os.environ["NORMBENCH_RESULTS"]) / "cache"
    spec = data_spec("folder", path=pictures.folder)
    data.load(spec, cache=cache)
    (memory,) = (cache / "hashes").iterdir()
    memory.write_text(content)
    forget()
    assert state(folder(pictures.folder)) == spec.fingerprint


def test_a_memory_that_cannot_be_written_changes_nothing(data_spec, pictures, tmp_path, settled):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "hashes").write_text("a file where a folder should be")
    data.load(data_spec("folder", path=pictures.folder), cache=tmp_path / "cache")


def test_a_large_directory_is_not_looked_through_for_every_run(pictures, monkeypatch):
    monkeypatch.setattr(fingerprint, "_MANY", 10)
    walks, walk = [], fingerprint.walk
    monkeypatch.setattr(fingerprint, "walk", lambda place: walks.append(1) or walk(place))
    for _ in range(50):
        state(folder(pictures.folder))
    assert len(walks) == 1
    state(folder(pictures.folder), fresh=True)
    assert len(walks) == 2


def test_a_directory_that_changed_after_the_run_was_identified_is_refused(data_spec, pictures, tmp_path):
    spec = data_spec("folder", path=pictures.folder)
    data.load(spec, cache=tmp_path / "cache")
    Image.fromarray(np.zeros((6, 6, 3), np.uint8)).save(pictures.folder / "train" / "cat" / "0.png")
    with pytest.raises(InputError, match=r"data=folder must not change .* is now [0-9a-f]{16}; repeat"):
        data.load(spec, cache=tmp_path / "cache")


def test_a_copy_decoded_from_other_pixels_is_never_used(data_spec, pictures, tmp_path, same):
    first = data.load(data_spec("folder", path=pictures.folder), cache=tmp_path / "cache")
    Image.fromarray(np.zeros((6, 6, 3), np.uint8)).save(pictures.folder / "train" / "cat" / "0.png")
    second = data.load(data_spec("folder", path=pictures.folder), cache=tmp_path / "cache")
    assert not second.train_images[0].any()
    assert not same(first, second)


def test_data_that_change_while_they_are_decoded_are_not_kept(data_spec, pictures, tmp_path, monkeypatch):
    from normbench.data import image

    decode, victim = image.decode, pictures.folder / "train" / "dog" / "2.png"

    def meanwhile(*args):
        victim.write_bytes((pictures.folder / "test" / "eel" / "0.png").read_bytes())
        return decode(*args)

    spec = data_spec("folder", path=pictures.folder)
    monkeypatch.setattr(image, "decode", meanwhile)
    with pytest.raises(InputError, match="data=folder must not change while a command runs"):
        data.load(spec, cache=tmp_path / "cache")
    assert not [*(tmp_path / "cache").rglob("*.npy")]


def test_names_that_are_no_utf_8_are_hashed(pictures):
    before = state(folder(pictures.folder))
    odd = os.fsdecode(os.fsencode(pictures.folder) + b"/train/cat/\xe9.png")
    try:
        shutil.copy(pictures.folder / "train" / "cat" / "0.png", odd)
    except (OSError, UnicodeError):
        pytest.skip("this file system holds UTF-8 names alone")
    assert state(folder(pictures.folder)) != before


def test_a_folder_without_permission_is_named(pictures):
    locked = pictures.folder / "train" / "dog"
    locked.chmod(0)
    try:
        if os.access(locked, os.R_OK):
            pytest.skip("this user may read everything")
        with pytest.raises(InputError, match=r"cannot read .*/train/dog of data.path=.*: Permission denied"):
            state(folder(pictures.folder))
    finally:
        locked.chmod(0o755)


@pytest.mark.parametrize("name", ["synthetic", "cifar10", "cifar100", "digits"])
def test_generated_and_published_data_add_nothing(name, tmp_path):
    assert state({"name": name, "root": str(tmp_path)}) is None


@pytest.mark.parametrize("root", [None, 3, "/nowhere"])
def test_files_that_do_not_exist_yet_add_nothing(root, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert state({"name": "mnist", "root": root}) is None


def test_digits_of_another_content_are_other_data(monkeypatch):
    monkeypatch.setattr(published, "DIGITS_SHA256", "the hash of something else")
    published._digits_state.cache_clear()
    assert state({"name": "digits"}) == "6ebb3d2fee246a4e"
    published._digits_state.cache_clear()


def test_another_split_of_the_digits_is_refused(data_spec, monkeypatch):
    from normbench.data import digits

    monkeypatch.setattr(digits, "SPLIT_SHA256", "0123456789abcdef")
    with pytest.raises(
        InputError, match=r"must have the hash 0123456789abcdef; scikit-learn .* gives c1c5379c"
    ):
        data.load(data_spec("digits"))


def test_own_data_are_another_run_and_published_data_are_the_same_one(make_spec, pictures):
    words = ("data=folder", f"data.path={pictures.folder}", "model=lenet5")
    one = make_spec(*words).signature
    victim = pictures.folder / "train" / "cat" / "0.png"
    victim.write_bytes(victim.read_bytes() + b"\0")
    assert make_spec(*words).signature != one
    assert make_spec("data=digits").data.fingerprint is None


def test_runs_on_folders_that_were_read_by_the_first_image_do_not_count(make_spec, pictures):
    """The numbers of other data sets did not change."""
    spec = make_spec("data=folder", f"data.path={pictures.folder}", "model=lenet5")
    assert spec.identity()["numerics"]["data"] == 2
    assert "data" not in make_spec("data=digits").identity().get("numerics", {})


def test_the_state_of_many_files_is_known_fast(tmp_path, settled):
    for number in range(3000):
        file = tmp_path / "set" / "train" / f"c{number % 3}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(str(number).encode())
    first = state(folder(tmp_path / "set"))
    began = time.perf_counter()
    assert state(folder(tmp_path / "set"), fresh=True) == first
    assert time.perf_counter() - began < 2
