"""`normbench plot` draws figures of runs that were trained, and refuses what it cannot draw in one line."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from normbench import cli
from normbench.figures import KINDS

Capture = pytest.CaptureFixture[str]
WORDS = ["model=mlp", "model.hidden=[8]", "steps=12", "norm=bn,gn", "batch=8,16", "seed=range(2)"]
ASKED = ["eval.every=4", "eval.metrics=[reliability]", "diagnostics=[percentiles:4,smoothness:4]"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight runs with curves, diagnostics and reliability, trained once."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NORMBENCH_RESULTS", str(folder))
        assert cli.run(["train", *WORDS, *ASKED, "tracking=none", "engine.processes=1"]) == 0
    return folder


@pytest.fixture
def trained(results: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Path:
    monkeypatch.setenv("NORMBENCH_RESULTS", str(results))
    capsys.readouterr()
    return results


def texts(file: Path) -> list[str]:
    svg = "{http://www.w3.org/2000/svg}"
    return ["".join(text.itertext()) for text in ET.parse(file).iter(f"{svg}text")]


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["line"], {"batch", "test_error (%)", "8", "16", "bn", "gn"}),
        (["bars", "--x", "norm", "--hue", "batch", "--y", "test_loss"], {"norm", "test_loss", "bn", "8"}),
        (["heat"], {"batch", "norm", "test_error (%)", "gn"}),
        (["curve", "--hue", "norm,batch", "--x", "epoch"], {"epoch", "train_loss", "bn · 8", "gn · 16"}),
        (
            ["curve", "--y", "test_error", "--where", "batch=8"],
            {"step", "test_error (%)", "Mean ± sd of 2 runs."},
        ),
        (["band", "--hue", "norm"], {"smoothness/loss_range", "Smallest, middle and largest of 4 runs."}),
        (
            ["percentiles", "--where", "batch=8"],
            {"input of one unit (percentiles)", "50 %", "15 %, 85 %", "bn", "gn"},
        ),
        (
            ["reliability", "--hue", "norm", "--where", "batch=16"],
            {"confidence", "share of hits", "Mean ± sd over 2 runs, per bin of"},
        ),
    ],
)
def test_every_kind_draws_what_was_trained(
    argv: list[str], shown: set[str], trained: Path, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "figures" / "f.svg"
    kind, *options = argv
    assert cli.run(["plot", kind, *WORDS, *options, "--out", str(file)]) == 0
    assert capsys.readouterr() == (f"wrote {file}\n", "")
    found = texts(file)
    assert not {text for text in shown if not any(each.startswith(text) for each in found)}


def test_several_files_are_written_and_svg_is_the_same_each_time(trained: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.svg", "b.png", "c.svg")]
    assert cli.run(["plot", "line", *(word for file in files for word in ("--out", str(file)))]) == 0
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert files[0].read_bytes() == files[2].read_bytes()


def test_missing_runs_are_named_in_the_figure_and_on_the_terminal(
    trained: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = [word for word in WORDS if not word.startswith("seed")]
    for kind in ("line", "curve", "reliability"):
        file = tmp_path / f"{kind}.svg"
        argv = ["plot", kind, *words, "seed=range(3)", "--where", "batch=8", "--out", str(file)]
        assert cli.run(argv) == 0
        assert (
            capsys.readouterr().err
            == "warning: 2 of 6 runs are missing: norm=bn (seed 2), norm=gn (seed 2)\n"
        )
        assert "1/3 missing" in " ".join(texts(file))


@pytest.mark.parametrize(
    ("argv", "cells"),
    [("bars --x norm --hue=", 2), ("curve", 2), ("percentiles", 2), ("reliability", 2), ("curve --hue=", 1)],
)
def test_runs_that_differ_in_more_are_warned_of(
    argv: str, cells: int, trained: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert cli.run(["plot", *argv.split(), "--out", str(tmp_path / "f.svg")]) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {cells} of {cells} cells pool runs that differ in ")
    assert "batch (8, 16)" in line


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("lime --out f.svg", "unknown kind of figure 'lime'; nearest: line"),
        ("line", "the following arguments are required: --out"),
        ("line --out f.pdf", "--out must end in .svg or .png; got 'f.pdf'"),
        ("line --out f.svg --x bach", "unknown key 'bach'; nearest: batch"),
        ("line --out f.svg --hue nrom", "unknown key 'nrom'; nearest: norm"),
        ("line --out f.svg --y test_eror", "unknown metric 'test_eror'; nearest: test_error"),
        ("curve --out f.svg --y los", "unknown metric of curves 'los'"),
        ("curve --out f.svg --x batch", "unknown x of a curve 'batch'"),
        ("curve --out f.svg --where norm=frn", "no run has norm frn; there are: bn, gn"),
        ("curve --out f.svg --where norm", "where must be key=value"),
        (
            "percentiles --out f.svg --y percentiles@fc9",
            "unknown diagnostic along training 'percentiles@fc9'",
        ),
        (
            "reliability --out f.svg --x step",
            "a reliability curve is drawn against confidence; leave --x out",
        ),
        ("reliability --out f.svg --y test_reliability@precise", "eval.metrics=[reliability]"),
        ("heat --hue= --out f.svg", "a heat map needs two keys; give --x and --hue"),
        (
            "line norm=frn --out f.svg",
            "the run of these words has no record; train it: normbench train norm=frn",
        ),
        ("line --width 0 --out f.svg", "--width must be from 1.5 to 20 inches; got 0"),
        ("line --out results/x/../x --out f.svg", "--out must end in .svg or .png"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_no_file(
    argv: str, message: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["plot", *argv.split()]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("*.svg"))


@pytest.mark.parametrize("kind", KINDS)
def test_without_runs_the_message_says_what_to_do(kind: str, tmp_path: Path, capsys: Capture) -> None:
    assert cli.run(["plot", kind, "--out", str(tmp_path / "f.svg")]) == 2
    assert "there are no records; train some, or set NORMBENCH_RESULTS" in capsys.readouterr().err


def test_help_lists_the_kinds(capsys: Capture) -> None:
    assert cli.run(["plot", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {kind} " in said for kind in KINDS)
