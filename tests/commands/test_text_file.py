"""Files that a user names: their folders are made, bad places are refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from normbench import cli
from normbench.commands.text_file import check_writable, write
from normbench.errors import InputError
from normbench.store import Store

Capture = pytest.CaptureFixture[str]


def test_a_file_is_written_as_utf8_into_a_folder_that_is_made(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "größe" / "t.md"
    check_writable(file, "--out")
    assert list(tmp_path.iterdir()) == []
    write(file, "± 1\n")
    assert file.read_bytes() == b"\xc2\xb1 1\n"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("folder", "--out must be a file; '.*folder' is a folder"),
        ("file/t.md", "--out must lie in a folder; '.*file' is a file"),
        ("file/sub/t.md", "--out must lie in a folder; '.*file' is a file"),
    ],
)
def test_a_bad_place_is_refused(place: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=said):
        check_writable(tmp_path / place, "--out")


def test_a_table_creates_the_folder_of_its_file(trainer, tmp_path: Path, capsys: Capture) -> None:
    assert cli.run(["train", "norm=bn,gn"]) == 0
    file = tmp_path / "sub" / "dir" / "t.md"
    assert cli.run(["table", "--out", str(file)]) == 0
    assert "| bn |" in file.read_text(encoding="utf-8")


def test_a_table_of_runs_has_one_line_per_run(trainer, capsys: Capture) -> None:
    assert cli.run(["train", "norm=bn,gn", "seed=range(3)"]) == 0
    capsys.readouterr()
    assert cli.run(["table", "--runs", "--format", "csv", "--metric", "train_s"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "norm,batch,seed,status,train_s,run"
    assert [line.rpartition(",")[0] for line in lines[1:]] == [
        f"{norm},32,{seed},complete,1.5" for norm in ("bn", "gn") for seed in range(3)
    ]


def test_a_second_file_replaces_the_first_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for text in ("long\n" * 9, "short\n"):
        write(tmp_path / "t.csv", text)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("t.csv", "short\n")]


def test_a_table_leaves_no_folder_if_it_is_refused(trainer, tmp_path: Path, capsys: Capture) -> None:
    assert cli.run(["train"]) == 0
    assert cli.run(["table", "--rows", "nrom", "--out", str(tmp_path / "sub" / "t.md")]) == 2
    assert not (tmp_path / "sub").exists()
    assert Store.default().records()
