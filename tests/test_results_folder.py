"""Files that commands write under results/ are ignored by git; evidence is committed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a git checkout"
)


def ignored(path: str) -> bool:
    return subprocess.run(["git", "-C", str(ROOT), "check-ignore", "-q", path], check=False).returncode == 0


@pytest.mark.parametrize(
    "path",
    [
        "results/runs/3f/3f2a9c01d5b7e846/record.json",
        "results/cache/decoded/digits/shape.json",
        "results/wandb/run/files",
        "results/tables/wu2018/batch_size.tiny.md",
        "results/tables/wu2018/batch_size.tiny.0123abcd.csv",
        "results/bench/cpu_2.6.0_2026-01-01.json",
        "results/whatever-comes-next.json",
    ],
)
def test_files_that_commands_write_are_ignored(path: str) -> None:
    assert ignored(path)


@pytest.mark.parametrize("path", ["results/reference/wu2018/new.tiny.md", "results/reference/bench/new.json"])
def test_evidence_is_kept(path: str) -> None:
    assert not ignored(path)


def test_only_evidence_is_committed_under_results() -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "results"], capture_output=True, encoding="utf-8", check=True
    )
    assert all(file.startswith("results/reference/") for file in listed.stdout.split())
