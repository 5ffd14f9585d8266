from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from normbench.report.render import render
from normbench.report.run_list import list_runs
from normbench.report.tables import build_table
from normbench.report.terminal import renderable, run_lines


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


def test_a_star_marks_in_a_pipe_what_is_bold_on_a_terminal(runs) -> None:
    table = build_table(runs, "norm", "batch", "test_error")
    lines = shown(table, 100)
    assert any("2.10* ± 0.10" in line for line in lines)
    assert any(line.startswith("Star (*): better than the runner-up") for line in lines)
    assert not any("Bold" in line for line in lines)
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    console.print(renderable(table, console))
    styled = console.file.getvalue()
    assert "\x1b[1m2.10\x1b[0m" in styled
    assert "*" not in styled
    assert "Bold: better" in styled


@pytest.mark.parametrize("name", ["[red]x[/]", ":smile:", "[link=a]b", "<b>"])
def test_no_name_is_markup(make, name) -> None:
    run = make(0.1)
    run = replace(run, spec=run.spec | {"norm": run.spec["norm"] | {"name": name}})
    assert any(line.startswith(name) for line in shown(build_table([run], "norm", "batch", "test_error"), 80))
    assert any(name in line for line in shown(build_table([run], "batch", "norm", "test_error"), 80))


def test_a_long_name_is_folded_and_not_cut(make) -> None:
    run = make(0.1, placement={"sites": "x" * 150})
    lines = shown(build_table([run], "placement.sites", "batch", "test_error"), 60)
    assert max(map(len, lines)) <= 60
    assert "".join(lines).count("x") == 150


def test_thousands_of_cells_are_drawn_in_seconds(make) -> None:
    run = make(0.1)
    runs = [
        replace(run, signature=f"{n:016x}", spec=run.spec | {"seed": n % 60, "batch": 1 + n // 60})
        for n in range(6000)
    ]
    lines = shown(build_table(runs, "seed", "batch", "test_error"), 80)
    assert max(map(len, lines)) <= 80
    assert sum(line.count("10.00") for line in lines) == 6000


def test_runs_are_listed_with_numbers_to_the_right(runs) -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(run_lines(list_runs(runs, "norm", "batch", "test_error"), console))
    lines = console.file.getvalue().splitlines()
    assert lines[0].split() == ["norm", "batch", "seed", "status", "test_error", "run"]
    assert len(lines) == 2 + len(runs)


@pytest.mark.parametrize("width", [1, 8, 12])
def test_no_number_is_cut_on_the_narrowest_terminal(wide, runs, width) -> None:
    text = "\n".join(shown(wide, width))
    assert text.count("45.00") == 23  # all cells but the diverged one
    console = Console(file=io.StringIO(), width=width)
    listed = list_runs(runs, "norm", "batch", "test_error")
    console.print(run_lines(listed, console))
    said = console.file.getvalue()
    assert all(cell in said for row in listed.texts() for cell in row)
