"""A user's own files: alias bombs, deep nesting, pipes and files that are no text are refused at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from normbench.config.compose import compose
from normbench.errors import InputError
from normbench.papers import catalogue
from normbench.yaml_limits import MOST_BYTES, MOST_DEPTH, MOST_NODES, check_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 5)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, f"at most {MOST_NODES:,} values"),
        ("x: " + "[" * 40 + "]" * 40, f"nested at most {MOST_DEPTH} deep"),
        ("x: " + "{a: " * 100_000, f"nested at most {MOST_DEPTH} deep"),
        ("x: &x [*x]", "contains itself"),
        ("x: " + "y" * MOST_BYTES, f"at most {MOST_BYTES:,} characters"),
        ("x: [" + "1," * MOST_NODES + "]", f"at most {MOST_NODES:,} values"),
    ],
)
def test_limits_of_yaml_are_refused_with_their_number(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "norm").mkdir()
    (tmp_path / "norm" / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        compose(["norm=mine"], str(tmp_path))


def test_a_table_of_ones_own_has_the_same_limits() -> None:
    with pytest.raises(InputError, match="at most 20,000 values"):
        catalogue.parse("mine", BOMB)


def test_a_text_within_the_limits_passes() -> None:
    check_yaml("a: &a [1, 2]\nb: [*a, *a]\n" + "c: " + "[" * (MOST_DEPTH - 1) + "]" * (MOST_DEPTH - 1), "it")
    check_yaml("a: [", "a syntax error is left to the reader")


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "norm"
    folder.mkdir()
    (folder / "list.yaml").write_text("[1, 2]\n")
    (folder / "latin.yaml").write_bytes(b"name: \xe9\n")
    (folder / "zero.yaml").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.yaml")
    for name, said in (
        ("list", "it holds a list"),
        ("latin", "cannot read"),
        ("zero", "zero"),
        ("pipe", "pipe"),
    ):
        with pytest.raises(InputError, match=said):
            compose([f"norm={name}"], str(tmp_path))
