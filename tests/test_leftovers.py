"""What killed processes left half written is removed; what others still write is not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from normbench import leftovers
from normbench.leftovers import draft_beside, remove_leftovers
from normbench.store import Store
from normbench.sweeps.tidy import tidy

DEAD = 99_999_999  # above the largest number that Linux gives


def of(pid: int, draft: Path) -> Path:
    return draft.with_name(draft.name.replace(f"-{os.getpid()}-", f"-{pid}-"))


def test_drafts_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    mine, file, folder = (draft_beside(tmp_path / "mnist") for _ in range(3))
    file, folder = of(DEAD, file), of(DEAD, folder)
    parent = of(os.getppid(), draft_beside(tmp_path / "mnist"))
    for each in (mine, file, parent):
        each.write_text("half")
    folder.mkdir()
    (folder / "train_images.npy").write_text("half")
    (tmp_path / "mnist").mkdir()
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, parent, tmp_path / "mnist"])


@pytest.mark.parametrize(
    "name", [".mnist." + "0" * 32, ".download-" + "a" * 32, ".x.json." + "b" * 16 + ".tmp"]
)
def test_drafts_of_earlier_versions_go_after_a_day(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("half")
    remove_leftovers(tmp_path)
    assert (tmp_path / name).exists()
    old = time.time() - leftovers.OLD_S - 60
    os.utime(tmp_path / name, (old, old))
    remove_leftovers(tmp_path)
    assert not (tmp_path / name).exists()


def test_drafts_of_another_machine_go_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = of(DEAD, draft_beside(tmp_path / "x"))
    draft.write_text("half")
    monkeypatch.setattr(leftovers, "place", lambda: "00000000")
    remove_leftovers(tmp_path)
    assert draft.exists()
    old = time.time() - leftovers.OLD_S - 60
    os.utime(draft, (old, old))
    remove_leftovers(tmp_path)
    assert not draft.exists()


@pytest.mark.parametrize("name", ["x.json", ".hidden", ".x.tmp", "a.00000000-1-0000000000000000.tmp"])
def test_other_files_are_never_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("kept")
    os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path)
    assert (tmp_path / name).read_text() == "kept"


def test_a_folder_that_does_not_exist_is_no_error(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name", ["checkpoint.pt", "checkpoint.json", "error.txt", "checkpoint-set-aside-0a1b2c3d.pt"]
)
def test_whatever_a_kill_leaves_beside_a_result_goes(name: str, tmp_path: Path) -> None:
    """A process may die between any two of the files that it removes."""
    store = Store(tmp_path)
    folder = store.run_folder("ab12cd34ef567890")
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}", encoding="utf-8")
    (folder / name).write_text("left", encoding="utf-8")
    tidy(store, "ab12cd34ef567890")
    assert [file.name for file in folder.iterdir()] == ["record.json"]
