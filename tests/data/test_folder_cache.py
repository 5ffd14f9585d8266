"""Decoded folders are kept: decoded once, whole or absent, and never changed by a run."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from normbench import data
from normbench.data.decoded import load_arrays, save
from normbench.data.raw import Raw
from normbench.errors import InputError


@pytest.fixture
def decodings(monkeypatch):
    """Counts how often an image is decoded to pixels."""
    from normbench.data import image

    count, decode = [], image.decode
    monkeypatch.setattr(image, "decode", lambda *args: count.append(1) or decode(*args))
    return count


def test_a_folder_is_decoded_once(data_spec, pictures, tmp_path, decodings):
    spec = data_spec("folder", path=pictures.folder)
    first = data.load(spec, cache=tmp_path / "cache")
    assert len(decodings) == 15
    again = data.load(data_spec("folder", path=pictures.folder, train_size=5), cache=tmp_path / "cache")
    assert len(decodings) == 15
    assert torch.equal(again.train_images, first.train_images[:5])
    assert data.shape_of(spec, tmp_path / "cache") == first.shape
    assert not list((tmp_path / "cache" / "data").glob(".*"))


@pytest.mark.parametrize("knob", [{"size": 5}, {"channels": 1}])
def test_another_size_or_channel_count_is_another_decoding(data_spec, pictures, tmp_path, knob, same):
    data.load(data_spec("folder", path=pictures.folder), cache=tmp_path / "cache")
    spec = data_spec("folder", path=pictures.folder, **knob)
    assert same(data.load(spec, cache=tmp_path / "cache"), data.load(spec))


def test_a_changed_folder_is_decoded_anew(data_spec, pictures, tmp_path):
    data.load(data_spec("folder", path=pictures.folder), cache=tmp_path / "cache")
    shutil.copy(pictures.folder / "train" / "dog" / "0.png", pictures.folder / "train" / "dog" / "7.png")
    spec = data_spec("folder", path=pictures.folder)
    assert data.shape_of(spec, tmp_path / "cache").train_images == 10
    assert len(data.load(spec, cache=tmp_path / "cache").train_images) == 10


def test_what_a_run_writes_into_its_images_does_not_reach_the_cache(data_spec, pictures, tmp_path, same):
    spec = data_spec("folder", path=pictures.folder)
    data.load(spec, cache=tmp_path / "cache")
    data.load(spec, cache=tmp_path / "cache").train_images.zero_()
    assert same(data.load(spec, cache=tmp_path / "cache"), data.load(spec))


@pytest.mark.parametrize("damaged", ["train_images.npy", "test_labels.npy", "shape.json"])
@pytest.mark.parametrize("left", [0, 60])
def test_a_damaged_cache_is_replaced(data_spec, pictures, tmp_path, damaged, left, same):
    spec = data_spec("folder", path=pictures.folder)
    fresh = data.load(spec, cache=tmp_path / "cache")
    (file,) = (tmp_path / "cache").rglob(damaged)
    file.write_bytes(file.read_bytes()[:left])
    assert same(data.load(spec, cache=tmp_path / "cache"), fresh)
    assert load_arrays(file.parent) is not None


def test_decodings_at_the_same_time_leave_one_whole_copy(data_spec, pictures, tmp_path, same):
    spec, start = data_spec("folder", path=pictures.folder), threading.Barrier(8)

    def decode(_):
        start.wait()
        return data.load(spec, cache=tmp_path / "cache")

    with ThreadPoolExecutor(8) as pool:
        loaded = [*pool.map(decode, range(8))]
    assert len(list((tmp_path / "cache" / "data").iterdir())) == 1
    assert all(same(dataset, data.load(spec)) for dataset in loaded)
    assert same(data.load(spec, cache=tmp_path / "cache"), data.load(spec))


def test_a_cache_that_cannot_be_written_is_refused(data_spec, pictures, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(
        InputError, match=r"cannot write the decoded images to .*/cache/data \(.*NORMBENCH_RESULTS"
    ):
        data.load(data_spec("folder", path=pictures.folder), cache=tmp_path / "cache")


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    array = np.zeros(1, np.uint8)
    with pytest.raises(InputError, match=r"\(No space left on device\); make room there"):
        save(tmp_path / "place", Raw(array, array, array, array), data.Shape(1, 1, 2, 1, 1))
    assert not list(tmp_path.iterdir())
