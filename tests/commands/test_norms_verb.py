"""`normbench norms`: the catalogue, its page and what methods cost."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from normbench import cli, norms, weight_norms
from normbench.commands.method_docs import method_doc
from normbench.commands.norms_page import page
from normbench.norms.cost import cost

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]
KINDS = {
    **{f"norm {key}": entry.layer for key, entry in norms.catalogue().items()},
    **{f"weight {key}": kind for key, kind in weight_norms.catalogue().items()},
}


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue fits the width of the terminal, so it is given one."""
    monkeypatch.setenv("COLUMNS", "500")


def said(capsys: Capture, *argv: str) -> str:
    assert cli.run(argv) == 0
    return capsys.readouterr().out


def test_the_catalogue_has_every_norm_and_weight_map_once(capsys: Capture) -> None:
    lines = said(capsys, "norms").splitlines()
    first = [line.split()[0] for line in lines if line.strip() and "─" not in line]
    assert first == ["norm=", "key", *norms.catalogue(), "weight=", "key", *weight_norms.catalogue()]


def test_the_catalogue_names_the_axes_the_state_and_the_paper(capsys: Capture) -> None:
    lines = said(capsys, "norms").splitlines()
    assert lines[2].split() == [
        "key",
        "name",
        "reduces",
        "state",
        "train",
        "=",
        "eval",
        "uses",
        "the",
        "batch",
        "paper",
    ]
    bn = next(line for line in lines if line.split()[:1] == ["bn"])
    assert [cell.strip() for cell in bn.split("  ") if cell.strip()] == [
        "bn", "Batch normalization", "N, H, W", "mean, var", "no", "yes", "ioffe2015",
    ]  # fmt: skip


@pytest.mark.parametrize("key", norms.catalogue())
def test_a_norm_shows_its_equation_and_its_configuration(key: str, capsys: Capture) -> None:
    text = said(capsys, "norms", key)
    assert text.startswith(f"{key}  (")
    assert f"norm={key})" in text.splitlines()[0]
    assert inspect.getdoc(norms.entry(key).layer) in text
    assert f"    name: {key}" in text


def test_a_weight_map_can_be_asked_for_too(capsys: Capture) -> None:
    text = said(capsys, "norms", "ws")
    assert "weight=ws)" in text.splitlines()[0]
    assert "    name: ws" in text


def test_an_unknown_key_offers_the_nearest_of_both_kinds(capsys: Capture) -> None:
    assert cli.run(["norms", "wz"]) == 2
    assert "unknown norm 'wz'; nearest:" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["gn", "--cost"], ["gn", "--format", "md"], ["--shape", "2,6"]])
def test_what_does_not_go_together_is_refused(argv: list[str], capsys: Capture) -> None:
    assert cli.run(["norms", *argv]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_has_a_title_of_a_few_words_and_a_summary(kind: str) -> None:
    about = method_doc(KINDS[kind])
    assert 3 <= len(about.title) <= 48, "the docstring begins: Name: what it does."
    assert about.summary.endswith(".")
    assert "Remarks" not in about.sections


def test_the_page_of_all_norms_is_up_to_date() -> None:
    assert (ROOT / "docs" / "NORMS.md").read_text() == page(), "run: make docs"


def test_the_page_explains_every_argument_of_every_norm() -> None:
    text = page()
    for key, entry in norms.catalogue().items():
        section = text[text.index(f"`norm={key}`:") :].split("\n## ")[0]
        for argument in entry.arguments:
            assert f"| `{argument}` |" in section


def test_batch_norm_costs_as_much_as_batch_norm() -> None:
    measured = cost("bn", (4, 8, 6, 6), seconds=0.05)
    assert measured.memory == 1
    assert 0.3 < measured.forward < 3
    assert 0.3 < measured.backward < 3


def test_memory_counts_what_the_backward_pass_keeps() -> None:
    assert cost("none", (4, 8, 6, 6), seconds=0.01).memory < 1
    assert cost("lrn", (4, 8, 6, 6), seconds=0.01).memory > 1


def test_what_a_norm_refuses_costs_nothing() -> None:
    assert cost("in", (4, 8, 1, 1), seconds=0.01) is None


def test_the_table_of_costs_has_every_norm(capsys: Capture) -> None:
    text = said(capsys, "norms", "--cost", "--shape", "4,16,4", "--seconds", "0", "--format", "md")
    assert "Command: `normbench norms --cost --shape 4,16,4 --format md`" in text
    keys = [line.split()[1] for line in text.splitlines() if line.startswith("| ")]
    assert keys == ["key", *norms.catalogue()]


@pytest.mark.parametrize("shape", ["4", "4,x", "0,3", ""])
def test_a_shape_that_is_none_is_refused(shape: str, capsys: Capture) -> None:
    assert cli.run(["norms", "--cost", "--shape", shape]) == 2
    assert "--shape must be whole numbers" in capsys.readouterr().err


@pytest.mark.parametrize("width", [60, 80, 120, 240])
def test_the_catalogue_fits_the_width_and_cuts_no_text(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.run(["norms"]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width
    assert "…" not in said
    assert all(f" {key} " in said for key in norms.catalogue())
    assert ("left out to fit the width" in said) == (width < 200)
