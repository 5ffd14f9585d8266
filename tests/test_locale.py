"""Text in and out is UTF-8 whatever the locale, and output never raises."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from normbench.record import Record
from normbench.store import Store

SOURCE = Path(__file__).parents[1] / "src"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "WANDB_MODE": "disabled"}
RECORD = {
    "spec": {
        **{g: {"name": g} for g in ("model", "weight", "placement", "data", "optim", "schedule")},
        "norm": {"name": "größe", "momentum": None, "args": {}},
        "batch": 2, "workers": 1, "seed": 0,
    },
    "status": "complete", "metrics": {"test_error": 0.1}, "timing": {}, "environment": {}, "provenance": {},
}  # fmt: skip


def said(root: Path, *words: str, **environment: str) -> bytes:
    """What a command prints in an ASCII locale."""
    done = subprocess.run(
        [sys.executable, "-m", "normbench", *words],
        env={**os.environ, **ASCII, "NORMBENCH_RESULTS": str(root), **environment},
        cwd=root,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed in range(2):
        spec = RECORD["spec"] | {"seed": seed}
        Store(tmp_path).put(Record(f"{seed:016x}", **(RECORD | {"spec": spec})))
    return tmp_path


def test_a_table_and_a_record_are_shown_in_an_ascii_locale(root: Path) -> None:
    for table in (said(root, "table"), said(root, "table", "--format", "md")):
        assert "größe".encode() in table
        assert "±".encode() in table
    assert "größe".encode() in said(root, "info", "0000000000000000")


def test_a_terminal_without_some_characters_gets_replacements(root: Path) -> None:
    table = said(root, "table", PYTHONIOENCODING="ascii").decode("ascii")
    assert "10.00 +- 0.00" in table
    assert "gr\\xf6\\xdfe" in table


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["table", "--help"], ["norms", "gn"]])
def test_help_is_printed_by_a_terminal_without_its_characters(words: list[str], tmp_path: Path) -> None:
    assert said(tmp_path, *words, PYTHONIOENCODING="ascii").decode("ascii")


def test_files_are_utf8_in_an_ascii_locale(root: Path) -> None:
    said(root, "table", "--out", "sub/größe.json")
    [file] = (root / "sub").iterdir()
    assert file.name == "größe.json"
    assert json.loads(file.read_text(encoding="utf-8"))["cells"][0]["row"] == "größe"


def test_a_run_trains_in_an_ascii_locale(tmp_path: Path) -> None:
    out = said(tmp_path, "train", "model=mlp", "steps=2", 'tracking.tags=["größe"]', "engine.processes=1")
    [record] = Store(tmp_path).records()
    assert record.signature.encode() in out
    assert record.spec["tracking"]["tags"] == ["größe"]


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: file.stem)
def test_every_text_file_is_opened_with_its_encoding(file: Path) -> None:
    """Without an encoding the locale decides."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = {keyword.arg for keyword in node.keywords}
        if name in ("read_text", "write_text"):
            assert "encoding" in given, f"line {node.lineno}"
        if "text" in given or "universal_newlines" in given:
            assert "encoding" in given, f"line {node.lineno}"
        if name == "open" and not (isinstance(node.func, ast.Attribute) and _is_module(node.func.value)):
            modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            assert "encoding" in given or any("b" in mode for mode in modes), f"line {node.lineno}"


def _is_module(node: ast.expr) -> bool:
    """Whether this names a module whose `open` reads no text: gzip, tarfile, zipfile, Image, os."""
    return isinstance(node, ast.Name) and node.id in ("gzip", "tarfile", "zipfile", "Image", "os", "archive")
