"""Worker processes read the data from shared memory, or from files if there is too little of it."""

from __future__ import annotations

import multiprocessing
import os
import pickle

import pytest
import torch

from normbench import memory
from normbench.data import sharing
from normbench.data.dataset import TENSORS
from normbench.errors import RunFailure


def equal(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in TENSORS)


def test_enough_room_gives_shared_memory(tiny, tmp_path):
    shared, note = sharing.share(tiny(), tmp_path)
    assert note == ""
    assert shared.train_images.is_shared()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("free", [0, 8 << 20])
def test_too_little_room_gives_files_with_the_same_content_and_says_so(tiny, tmp_path, monkeypatch, free):
    monkeypatch.setattr(memory, "free_shared_bytes", lambda: free)
    given = tiny()
    shared, note = sharing.share(given, tmp_path)
    assert note.startswith(f"shared memory (/dev/shm) has {memory.size(free)} free, the data need 5 kB")
    assert equal(shared, given)
    assert not shared.train_images.is_shared()
    sent = pickle.dumps(shared)
    assert len(sent) < 4000  # its place, not its pixels
    received = pickle.loads(sent)
    assert equal(received, given)
    assert (received.mean, received.classes) == (given.mean, given.classes)
    assert equal(received.to("cpu"), given)


def test_torchs_pickler_for_processes_sends_the_place_too(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_shared_bytes", lambda: 0)
    shared, _ = sharing.share(tiny(), tmp_path)
    sent = multiprocessing.reduction.ForkingPickler.dumps(shared)
    assert equal(pickle.loads(sent), shared)


def test_a_system_without_a_place_for_shared_memory_has_none_free(monkeypatch):
    monkeypatch.setattr(memory, "SHARED", "/no/such/place")
    assert memory.free_shared_bytes() == 0


def test_files_of_dead_processes_are_removed(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_shared_bytes", lambda: 0)
    shared, _ = sharing.share(tiny(), tmp_path)
    living = shared.folder
    dead = living.with_name(living.name.replace(f"-{os.getpid()}-", "-99999999-"))
    dead.mkdir()
    sharing.share(tiny(count=16), tmp_path)
    assert living.is_dir()
    assert not dead.exists()


def test_no_room_anywhere_is_one_line(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_shared_bytes", lambda: 0)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sharing.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    with pytest.raises(RunFailure, match=r"set engine\.processes=1"):
        sharing.share(tiny(), tmp_path / "file")
