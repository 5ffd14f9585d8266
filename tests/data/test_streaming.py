"""Streamed images are the bits of loaded ones, whoever reads them; and they are chosen by their size."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from normbench import data, memory
from normbench.corruptions import parse_corruptions
from normbench.data import batches, sharing, streaming
from normbench.data.corruption import corrupted
from normbench.data.dataset import TENSORS
from normbench.data.read_ahead import ReadAhead, reader_count
from normbench.data.stored_images import CopiedImages, ImageFiles, Request, StoredImages
from normbench.data.streamed import pixels
from normbench.errors import InputError


@pytest.fixture
def album(tmp_path):
    """52 images of several sizes, PNG and JPEG: 40 in train/ and 12 in test/, of 3 classes."""
    folder, draws = tmp_path / "album", np.random.default_rng(0)
    for split, count in {"train": 40, "test": 12}.items():
        for number in range(count):
            height, width = draws.integers(9, 20, 2)
            image = Image.fromarray(draws.integers(0, 256, (height, width, 3), dtype=np.uint8))
            file = folder / split / f"class {number % 3}" / f"{number}.{('png', 'jpg')[number % 2]}"
            file.parent.mkdir(parents=True, exist_ok=True)
            image.save(file)
    return folder


@pytest.fixture
def both(data_spec, album, tmp_path):
    """Build the album as it is loaded and as it is streamed."""

    def build(*, size=None, copy=True, **knobs):
        loaded = data.load(data_spec("folder", path=album, stream=False, **knobs), size=size)
        spec = data_spec("folder", path=album, stream=True, **{"readers": 0, **knobs})
        streamed = data.load(spec, size=size, cache=tmp_path / "cache" if copy else None)
        assert isinstance(streamed.train_images.stored, CopiedImages if copy else ImageFiles)
        return loaded, streamed

    return build


def alike(one, other):
    return all(torch.equal(pixels(getattr(one, name)), pixels(getattr(other, name))) for name in TENSORS)


CASES = {
    "as is": {"size": None},
    "resized to the model": {"size": 28},
    "padded to the model": {"size": 16},
    "parts and a validation split": {"size": None, "train_size": 31, "test_size": 7, "valid": 0.3},
    "grey": {"size": None, "channels": 1},
    "the middle of each image": {"size": None, "center_crop": 0.8},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("copy", [True, False])
def test_streamed_images_are_the_bits_of_loaded_ones(both, case, copy):
    loaded, streamed = both(copy=copy, **case)
    assert alike(loaded, streamed)
    assert loaded.shape == streamed.shape
    assert loaded.fitted == streamed.fitted
    assert not isinstance(streamed.train_images, torch.Tensor)


@pytest.mark.parametrize("standardize", ["channel", "pixel", "minmax", "none", "image"])
def test_statistics_have_the_bits_of_those_of_loaded_images(both, standardize, monkeypatch):
    monkeypatch.setattr("normbench.data.streamed.BLOCK_BYTES", 3000)  # a few images
    loaded, streamed = both(standardize=standardize, valid=0.2)
    assert (loaded.mean, loaded.std) == (streamed.mean, streamed.std)


def test_kept_statistics_are_those_of_their_images_alone(both):
    """Other parts of the split, another side and another kind have their own."""
    cases = [
        {},
        {"train_size": 20},
        {"train_size": 21},
        {"valid": 0.2},
        {"size": 28},
        {"standardize": "minmax"},
    ]
    for case in (*cases, *cases):
        loaded, streamed = both(**case)
        assert (loaded.mean, loaded.std) == (streamed.mean, streamed.std), case


def test_kept_statistics_are_read_and_not_computed_again(both, data_spec, album, tmp_path, monkeypatch):
    _, first = both()
    monkeypatch.setattr("normbench.data.kept_statistics.statistics", lambda *_: pytest.fail("computed"))
    again = data.load(data_spec("folder", path=album, stream=True, readers=0), cache=tmp_path / "cache")
    assert (again.mean, again.std) == (first.mean, first.std)


@pytest.mark.parametrize("knobs", [{}, {"flip": True, "crop": 2}, {"class_pure": 2}])
@pytest.mark.parametrize("seeds", [(5,), (3, 1, 3)])
def test_a_lane_sees_the_images_in_the_order_of_loaded_ones(both, knobs, seeds):
    loaded, streamed = (batches.Batches(each, seeds, 4, **knobs) for each in both())
    for step in (0, 1, 9, 10, 23, 2):
        for one, other in zip(loaded.at(step), streamed.at(step), strict=True):
            assert torch.equal(one, other)


def test_a_rank_reads_its_part_of_a_step(both):
    loaded, streamed = (batches.Batches(each, (0, 1), 6, flip=True) for each in both())
    for step in (0, 7):
        for part in (slice(0, 3), slice(3, 6)):
            loaded.seek(step, part)
            streamed.seek(step, part)
            assert all(map(torch.equal, loaded.read(), streamed.read()))
    assert len(streamed._streamed._pixels) == 6  # 3 images of 2 lanes


def test_lanes_of_one_seed_read_an_image_once(both, monkeypatch):
    _, streamed = both()
    read, seen = CopiedImages.read, []
    monkeypatch.setattr(
        CopiedImages, "read", lambda self, wanted: seen.extend(wanted.rows) or read(self, wanted)
    )
    batches.Batches(streamed, (2, 2, 2), 8).at(0)
    assert len(seen) == 8


@pytest.mark.parametrize("copy", [True, False])
def test_readers_give_what_one_process_gives(both, copy, monkeypatch):
    """Two processes read ahead in pieces of three; steps out of turn, probes, and a step again among them."""
    monkeypatch.setattr("normbench.data.read_ahead.PIECE", 3)
    monkeypatch.setattr("normbench.data.streamed.PIECE", 3)
    loaded, streamed = both(copy=copy, readers=2)
    one, other = (batches.Batches(each, (0, 1), 5, flip=True) for each in (loaded, streamed))
    for step, ahead in ((0, True), (1, True), (0, False), (2, True), (7, True), (8, True), (8, True)):
        one.seek(step)
        other.seek(step, ahead=ahead)
        assert all(map(torch.equal, one.read(), other.read())), step
    other.close()
    for (x, y), (x2, y2) in zip(
        batches.test_batches(loaded, 5), batches.test_batches(streamed, 5), strict=True
    ):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_slices_may_become_smaller_while_images_are_read_ahead(both, monkeypatch):
    monkeypatch.setattr("normbench.data.streamed.PIECE", 3)
    loaded, streamed = both(readers=1)
    read = streamed.train_images.in_turn()
    for start, stop in ((0, 8), (8, 16), (8, 12), (12, 16), (16, 20), (20, 23), (30, 44)):
        assert torch.equal(read(slice(start, stop)), loaded.train_images[start:stop])


class Marking(StoredImages):
    """Images of their own number. Each leaves a file when it is read."""

    def __init__(self, folder):
        super().__init__(1, 2, None)
        self.folder = folder

    def _fill(self, pixels, wanted):
        for place, row in enumerate(wanted.rows.tolist()):
            if row == 99:
                raise InputError("image 99 is damaged")
            pixels[place] = row
            (self.folder / str(row)).touch()


def one_by_one(*rows):
    return lambda block: Request(np.array(rows[block : block + 1])) if block < len(rows) else None


def test_images_are_read_before_they_are_asked_for_but_not_all_of_them(tmp_path):
    ahead = ReadAhead(Marking(tmp_path), 1, one_by_one(*range(10)))
    assert ahead(0).unique().tolist() == [0]
    until = time.monotonic() + 30
    while not (tmp_path / "1").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert (tmp_path / "1").exists()
    assert not (tmp_path / "4").exists()
    assert [int(ahead(block).max()) for block in range(1, 10)] == [*range(1, 10)]


@pytest.mark.parametrize("readers", [0, 1])
def test_an_image_that_cannot_be_read_is_one_line(tmp_path, readers):
    ahead = ReadAhead(Marking(tmp_path), readers, one_by_one(1, 99, 2))
    assert int(ahead(0).max()) == 1
    with pytest.raises(InputError) as error:
        ahead(1)
    assert str(error.value) == "image 99 is damaged"
    assert int(ahead(2).max()) == 2


def test_auto_leaves_a_core_to_training_and_a_worker_of_a_sweep_has_no_readers(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert (reader_count("auto"), reader_count(0), reader_count(9)) == (5, 0, 9)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)
    assert reader_count("auto") == 0
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(daemon=True))
    assert reader_count(9) == 0


@pytest.mark.parametrize("crops", [0.0, 0.5])
def test_a_folder_that_changes_while_it_is_read_leaves_nothing(
    data_spec, album, tmp_path, monkeypatch, crops
):
    knobs = {"path": album, "stream": True, "readers": 0, "crop": 0, "resized_crop": crops}
    spec = data_spec("folder", **knobs)
    index = streaming.index_folder

    def look_and_change(*words):
        found = index(*words)
        shutil.copy(album / "train/class 0/0.png", album / "train/class 0/another.png")
        return found

    look_and_change.cache_clear = index.cache_clear
    monkeypatch.setattr(streaming, "index_folder", look_and_change)
    with pytest.raises(InputError, match="must not change while a command runs"):
        data.load(spec, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.np*"))


def test_readers_leave_the_random_numbers_of_torch_alone(tmp_path):
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    ReadAhead(Marking(tmp_path), 1, one_by_one(1, 2))(0)
    assert torch.equal(torch.rand(2), expected)


def test_a_data_set_is_sent_to_other_processes_without_its_images(both, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_shared_bytes", lambda: 0)
    loaded, streamed = both(copy=False, valid=0.2)
    shared, _ = sharing.share(streamed, tmp_path / "cache")
    received = pickle.loads(pickle.dumps(shared))
    assert alike(received, loaded)
    assert alike(received.to("cpu"), loaded)


@pytest.mark.parametrize("name", ["contrast", "gaussian_noise", "glass_blur", "fog"])
def test_corrupted_images_are_those_of_loaded_ones_in_any_order(both, name):
    [corruption] = parse_corruptions([f"{name}:3"])
    for one, other in (both(), [each.validation for each in both(valid=0.3)]):
        whole = corrupted(one, corruption).test_images
        images = corrupted(other, corruption).test_images
        order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))[:9]
        assert torch.equal(pixels(images[order]), whole[order])
        assert torch.equal(pixels(images[order][2:5]), whole[order][2:5])


def test_an_archive_is_streamed_from_a_copy(both, data_spec, album, pack, tmp_path):
    loaded, _ = both()
    for archive in ("album.zip", "album.tar.gz"):
        spec = data_spec("folder", path=pack(album, tmp_path / archive), stream=True, readers=0)
        assert alike(data.load(spec, cache=tmp_path / "archives"), loaded)
        with pytest.raises(InputError, match=r"is an archive, but the disk has no room .*; unpack it"):
            data.load(spec)


def test_a_full_disk_makes_no_copy(data_spec, album, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    found = data.load(data_spec("folder", path=album, stream=True, readers=0), cache=tmp_path / "cache")
    assert isinstance(found.train_images.stored, ImageFiles)
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_copies_of_both_ways_are_the_same_files(data_spec, album, tmp_path):
    """So a folder that was loaded once is not decoded again when it is streamed, and the other way round."""
    for way in (True, False):
        data.load(data_spec("folder", path=album, stream=way, readers=0), cache=tmp_path / str(way))
    one, other = (sorted((tmp_path / str(way)).rglob("*.npy")) for way in (True, False))
    assert [file.name for file in one] == [file.name for file in other] != []
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(np.load(a), np.load(b))


def test_the_files_of_a_folder_are_listed_once(data_spec, album, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    spec = data_spec("folder", path=album, stream=True, readers=0, resized_crop=0.5, crop=0)
    first = data.load(spec, cache=cache)
    monkeypatch.setattr(streaming, "index_folder", lambda *_: pytest.fail("looked through"))
    monkeypatch.setattr("normbench.data.folder.index_folder", lambda *_: pytest.fail("looked through"))
    assert alike(data.load(spec, cache=cache), first)
    assert data.shape_of(spec, cache) == first.shape
    [table] = cache.rglob("*-files.npz")
    table.write_bytes(table.read_bytes()[:100])
    monkeypatch.undo()
    assert alike(data.load(spec, cache=cache), first)


def test_a_damaged_copy_and_a_missing_file_are_one_line(both):
    _, streamed = both()
    file = streamed.test_images.stored.file
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"cannot read the decoded images .* ends before image 11.*; remove"):
        pixels(streamed.test_images)
    _, streamed = both(copy=False)
    shutil.rmtree(streamed.test_images.stored.path)
    with pytest.raises(InputError, match=r"cannot decode test/class 0/0.png of data.path=.*No such file"):
        pixels(streamed.test_images)


@pytest.mark.parametrize(
    ("free", "device", "why"),
    [
        (21_000, None, ""),
        (17_000, None, "they take 10 kB of memory, and 17 kB are free"),
        (21_000, 17_000, "they take 10 kB of memory, and 17 kB are free"),
    ],
)
def test_auto_streams_what_would_take_more_than_half_of_the_free_memory(
    data_spec, album, monkeypatch, free, device, why
):
    """52 images of 3×8×8 are 9,984 bytes."""
    streaming.why_streamed.cache_clear()
    monkeypatch.setattr(memory, "free_bytes", lambda: free)
    spec = data_spec("folder", path=album, size=8)
    assert streaming.why_streamed(spec, 8, None, device) == why
    for way in (True, False):
        asked = spec.model_copy(update={"stream": way})
        assert streaming.why_streamed(asked, 8, None, device) == ("data.stream=true" if way else "")
    assert isinstance(data.load(spec, free=device).train_images, torch.Tensor) is (why == "")


def test_the_first_choice_of_auto_stays(data_spec, album, monkeypatch):
    """What was loaded is not free any more."""
    streaming.why_streamed.cache_clear()
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**6)
    spec = data_spec("folder", path=album, size=8)
    assert streaming.why_streamed(spec, None, None, None) == ""
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**4)
    assert streaming.why_streamed(spec, None, None, None) == ""


def test_only_folders_are_streamed(data_spec):
    assert streaming.why_streamed(data_spec("digits"), 10**6, None, 1) == ""
