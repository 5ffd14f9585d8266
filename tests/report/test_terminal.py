from __future__ import annotations

import io

import pytest
from rich.console import Console

from normbench.report.render import render
from normbench.report.tables import build_table
from normbench.report.terminal import renderable


def shown(table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable(table, console))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.fixture
def wide(make):
    """Four rows with long names and six columns, a divergence, published numbers beside one row."""
    runs = []
    for norm in ("bn", "gn", "ln_chw", "none"):
        for batch in (64, 32, 16, 8, 4, 2):
            for seed in range(3):
                status = "diverged" if (norm, batch, seed) == ("none", 8, 2) else "complete"
                error = 0.40 + 0.05 * seed
                runs.append(make(error, model="resnet20", norm=norm, batch=batch, seed=seed, status=status))
    rows = [f"resnet20 · {norm}" for norm in ("bn", "gn", "ln_chw", "none")]
    published = {(rows[0], str(batch)): 0.236 for batch in (32, 16, 8, 4, 2)}
    axes = (rows, ["64", "32", "16", "8", "4", "2"])
    return build_table(runs, "model,norm", "batch", "test_error", published=published, axes=axes)


def test_a_wide_terminal_shows_a_cell_on_one_line(wide) -> None:
    lines = shown(wide, 160)
    [line] = [line for line in lines if line.startswith("resnet20 · bn")]
    assert line.count("45.00 ± 5.00") == 6
    [line] = [line for line in lines if line.startswith("resnet20 · none")]
    assert "42.50 ± 3.54 (1/3 diverged)" in line


@pytest.mark.parametrize("width", [80, 100])
def test_eighty_columns_hold_six_columns_without_wrapping(wide, width) -> None:
    lines = shown(wide, width)
    assert max(len(line) for line in lines) <= width
    assert not [line for line in lines if "…" in line]
    rows = [line.split() for line in lines if line.startswith("resnet20 · gn")]
    assert rows == [["resnet20", "·", "gn", *["45.00"] * 6]]
    below = lines[next(i for i, line in enumerate(lines) if line.startswith("resnet20 · gn")) + 1]
    assert below.split() == ["±", "5.00"] * 6


@pytest.mark.parametrize("width", [40, 50, 60])
def test_a_narrow_terminal_splits_the_columns_and_loses_none(wide, width) -> None:
    lines = shown(wide, width)
    assert max(len(line) for line in lines) <= width
    headers = [line.split()[3:] for line in lines if line.startswith("model, norm / batch")]
    assert len(headers) > 1
    assert [column for header in headers for column in header if column != "batch"] == [
        "64", "32", "16", "8", "4", "2",
    ]  # fmt: skip


def test_published_numbers_stand_below_ours(wide) -> None:
    lines = shown(wide, 160)
    place = next(i for i, line in enumerate(lines) if line.startswith("resnet20 · bn"))
    assert lines[place + 1].split() == ["published", "–", *["23.6"] * 5]


def test_the_terminal_says_what_the_file_says(runs) -> None:
    table = build_table(runs, "norm", "seed", "test_error")
    text = " ".join(" ".join(shown(table, 80)).split())
    assert table.warnings
    for line in (*table.warnings, *table.notes):
        assert " ".join(line.split()) in text
        assert line in render(table, "md")


def test_text_in_brackets_is_no_markup(make) -> None:
    run = make(0.1, placement={"sites": "[bold]stage"})
    lines = shown(build_table([run], "placement.sites", "batch", "test_error"), 80)
    assert any(line.startswith("[bold]stage") for line in lines)
