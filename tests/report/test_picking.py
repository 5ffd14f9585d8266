"""`table --select`: values are picked by validation means, and a reader is told how much to trust them."""

from __future__ import annotations

import csv
import io
import json

import pytest

from normbench.errors import InputError
from normbench.record import DIVERGED, FAILED
from normbench.report.render import FORMATS, render
from normbench.report.run_list import list_runs, render_runs
from normbench.report.tables import build_table


@pytest.fixture
def tune(make):
    """tune({lr: [(valid, test) per seed]}, norm="bn") → records of one cell; None: diverged."""

    def build(errors, weight_decay=0.0, **spec):
        made = []
        for lr, by_seed in errors.items():
            own = {"lr": lr, "weight_decay": weight_decay}
            for seed, pair in enumerate(by_seed):
                status = DIVERGED if pair is None else "complete"
                valid, test = pair or (None, None)
                made.append(
                    make(
                        test,
                        metrics={"valid_error": valid, "valid_loss": valid},
                        status=status,
                        seed=seed,
                        optim=own,
                        data={"valid": 0.1},
                        **spec,
                    )
                )
        return made

    return build


def cell_of(table, row="bn", col="32"):
    return table.cells[row, col], table.picks.cells[row, col]


def select(records, keys="optim.lr", **more):
    return build_table(records, "norm", "batch", "test_error", select=keys, **more)


def test_validation_picks_although_another_value_is_better_on_test(tune):
    """lr 0.1 is best on validation, 0.01 is best on test; the table shows the test errors of 0.1."""
    errors = {
        0.01: [(0.30, 0.01)] * 3,
        0.1: [(0.20, 0.05), (0.22, 0.06), (0.21, 0.07)],
        1.0: [(0.4, 0.02)] * 3,
    }
    cell, pick = cell_of(select(tune(errors)))
    assert pick.values == (0.1,)
    assert cell.values == (0.05, 0.06, 0.07)
    assert (pick.at_edge, pick.tied, pick.dropped, pick.tried) == ((), False, 0, 3)


def test_the_mean_over_seeds_decides_not_the_best_seed(tune):
    errors = {0.1: [(0.01, 0.5), (0.40, 0.5), (0.40, 0.5)], 0.2: [(0.20, 0.4)] * 3}
    assert cell_of(select(tune(errors)))[1].values == (0.2,)


def test_every_cell_picks_for_itself(tune):
    bn = tune({0.1: [(0.2, 0.1)] * 2, 0.2: [(0.3, 0.2)] * 2, 0.4: [(0.4, 0.2)] * 2})
    gn = tune({0.1: [(0.4, 0.3)] * 2, 0.2: [(0.3, 0.25)] * 2, 0.4: [(0.4, 0.2)] * 2}, norm="gn")
    table = select([*gn, *bn])
    assert cell_of(table)[1].values == (0.1,)
    assert cell_of(table, "gn")[1].values == (0.2,)
    assert cell_of(table)[1].at_edge == ("optim.lr",)
    assert cell_of(table, "gn")[1].at_edge == ()
    assert any("edge: the smallest or largest value tried, in 1 of 2 cells" in note for note in table.notes)
    assert table.notes[1] == (
        "Picked per cell by the mean valid_error over seeds, not by test: optim.lr of 0.1, 0.2, 0.4."
    )
    assert not table.warnings
    assert not any("also differ" in note for note in table.notes)


def test_two_keys_are_picked_together(tune):
    grid = {(lr, decay): 0.3 for lr in (0.1, 0.2, 0.4) for decay in (0.0, 0.5)}
    grid[0.2, 0.5] = 0.1
    made = []
    for (lr, decay), valid in grid.items():
        made += tune({lr: [(valid, 0.2)] * 2}, weight_decay=decay)
    table = select(made, "optim.lr,optim.weight_decay")
    pick = cell_of(table)[1]
    assert pick.values == (0.2, 0.5)
    assert pick.at_edge == ("optim.weight_decay",)
    assert pick.tried == 6
    assert table.picks.remark(("bn", "32")) == "lr=0.2, weight_decay=0.5 edge"


@pytest.mark.parametrize(("metric", "by"), [("test_loss", "valid_loss"), ("train_s", "valid_error")])
def test_the_validation_metric_is_that_of_the_same_name_or_the_error(tune, metric, by):
    records = tune({0.1: [(0.2, 0.1)] * 2, 0.2: [(0.3, 0.2)] * 2})
    for record in records:
        record.metrics["test_loss"] = 1.0
    table = build_table(records, "norm", "batch", metric, select="optim.lr")
    assert table.picks.metric == by
    assert cell_of(table)[1].values == (0.1,)


def test_a_value_that_lost_runs_is_not_compared_with_one_that_did_not(tune):
    """lr 0.4 is best where it did not diverge; lr 0.2 lacks a seed: 0.1 is picked, and the table says so."""
    errors = {0.1: [(0.3, 0.2)] * 3, 0.2: [(0.2, 0.1)] * 2, 0.4: [(0.1, 0.1), None, (0.1, 0.1)]}
    table = select(tune(errors))
    cell, pick = cell_of(table)
    assert (pick.values, pick.dropped) == ((0.1,), 2)
    assert (cell.summary.n, cell.diverged) == (3, 0)
    assert pick.at_edge == ("optim.lr",)
    assert any(note.startswith("2 of 3 values tried were not compared") for note in table.notes)


def test_if_every_value_lost_runs_the_one_that_lost_least_is_picked_with_its_losses(tune):
    errors = {0.1: [(0.3, 0.2), None, (0.3, 0.2)], 0.2: [(0.1, 0.1), None, None], 0.4: [None] * 3}
    cell, pick = cell_of(select(tune(errors)))
    assert pick.values == (0.1,)
    assert (cell.summary.n, cell.diverged, cell.asked) == (2, 1, 3)
    assert pick.at_edge == ("optim.lr",)


def test_a_grid_that_reaches_into_divergence_has_no_edge_there(tune):
    errors = {0.05: [(0.3, 0.2)] * 2, 0.1: [(0.2, 0.1)] * 2, 9.0: [None] * 2}
    assert cell_of(select(tune(errors)))[1].at_edge == ()


def test_a_cell_without_a_complete_run_shows_all_its_runs_and_no_pick(tune):
    records = [*tune({0.1: [None] * 2, 0.2: [None] * 2}), *tune({0.1: [(0.2, 0.1)] * 2}, norm="gn")]
    table = select(records)
    cell, pick = cell_of(table)
    assert (pick.values, cell.diverged, cell.summary.n) == ((), 4, 0)
    assert table.picks.remark(("bn", "32")) == ""
    assert not table.warnings
    assert "Only one value was tried in 1 of 2 cells." in table.notes
    assert "4/4 diverged" in render(table, "md")


def test_failed_runs_and_runs_without_a_number_are_lost_runs(tune, make):
    records = tune({0.1: [(0.3, 0.2)] * 2, 0.2: [(0.1, 0.1)] * 2, 0.4: [(0.1, 0.1), (None, 0.1)]})
    failed = make(None, status=FAILED, seed=1, optim={"lr": 0.2}, data={"valid": 0.1})
    records = [r for r in records if (r.spec["optim"]["lr"], r.spec["seed"]) != (0.2, 1)]
    cell, pick = cell_of(select([*records, failed]))
    assert (pick.values, pick.dropped, cell.failed) == ((0.1,), 2, 0)


def test_equal_means_pick_the_first_value_and_are_counted(tune):
    errors = {10.0: [(0.2, 0.1)] * 2, 2.0: [(0.1, 0.3), (0.3, 0.3)], 30.0: [(0.5, 0.1)] * 2}
    table = select(tune(errors))
    assert cell_of(table)[1].values == (2.0,)
    assert cell_of(table)[1].tied
    assert "Equal means in 1 of 1 cells: the first value was picked." in table.notes


def test_names_can_be_picked_and_have_no_edge(tune):
    records = [*tune({0.1: [(0.3, 0.2)] * 2}, norm="gn"), *tune({0.1: [(0.2, 0.1)] * 2})]
    table = build_table(records, "batch", "optim.lr", "test_error", select="norm")
    pick = table.picks.cells["32", "0.1"]
    assert (pick.values, pick.at_edge) == (("bn",), ())
    assert not table.warnings


def test_a_picked_knob_of_the_rows_choice_does_not_split_the_row(tune):
    records = [
        *tune({0.1: [(0.3, 0.2)] * 2}, norm={"momentum": 0.1}),
        *tune({0.1: [(0.2, 0.1)] * 2}, norm={"momentum": 0.5}),
    ]
    assert select(records, "norm.momentum").row_labels == ("bn",)
    assert len(build_table(records, "norm", "batch", "test_error").row_labels) == 2


def test_a_table_without_select_is_what_it_was(runs):
    table = build_table(runs, "norm", "batch", "test_error")
    assert table.picks.keys == ()
    assert "select" not in table.to_json()
    assert "picked" not in render(table, "csv")


def test_every_format_shows_the_pick_and_the_edge(tune):
    errors = {0.01: [(0.2, 0.05), (0.2, 0.07)], 0.1: [(0.3, 0.01)] * 2}
    table = select(tune(errors))
    texts = {format: render(table, format) for format in FORMATS}
    assert "6.00 ± 1.41 (lr=0.01 edge)" in texts["md"]
    assert "(lr=0.01 edge)" in texts["latex"]
    for format in ("md", "latex"):
        assert "edge: the smallest or largest value tried" in texts[format]
    (row,) = csv.DictReader(io.StringIO(texts["csv"]))
    assert (row["picked_optim.lr"], row["at_edge"], row["n"]) == ("0.01", "optim.lr", "2")
    tree = json.loads(texts["json"])
    assert tree["select"] == {"keys": ["optim.lr"], "metric": "valid_error"}
    (cell,) = tree["cells"]
    assert cell["picked"] == {"optim.lr": 0.01}
    assert (cell["at_edge"], cell["tried"], cell["mean"]) == (["optim.lr"], 2, pytest.approx(0.06))


def test_the_terminal_shows_the_pick(tune):
    from rich.console import Console

    from normbench.report.terminal import renderable

    table = select(tune({0.01: [(0.2, 0.05)] * 2, 0.1: [(0.3, 0.01)] * 2}))
    console = Console(width=100, file=io.StringIO())
    console.print(renderable(table, console))
    shown = console.file.getvalue()
    assert "lr=0.01 edge" in shown
    assert "Picked per cell by the mean valid_error" in shown


@pytest.mark.parametrize("format", FORMATS)
def test_the_list_of_runs_holds_the_picked_ones_with_their_values(tune, format):
    records = [
        *tune({0.1: [(0.2, 0.1)] * 2, 0.2: [(0.3, 0.2)] * 2}),
        *tune({0.2: [(0.2, 0.1)] * 2}, norm="gn"),
    ]
    listed = list_runs(records, "norm", "batch", "test_error", select="optim.lr")
    assert listed.columns[:5] == ("norm", "batch", "optim.lr", "seed", "status")
    assert [row[:4] for row in listed.rows] == [
        ("bn", "32", 0.1, 0), ("bn", "32", 0.1, 1), ("gn", "32", 0.2, 0), ("gn", "32", 0.2, 1)
    ]  # fmt: skip
    assert "optim.lr" in render_runs(listed, format).replace("\\", "")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("norm", "neither rows nor columns; norm is one"),
        ("seed", "picks knobs of training, such as optim.lr; got seed"),
        ("data.valid", "picks knobs of training, such as optim.lr; got data.valid"),
        ("optim.rl", "unknown key 'optim.rl'; nearest: optim.lr"),
    ],
)
def test_keys_that_cannot_be_picked_are_refused(tune, keys, message):
    for build in (build_table, list_runs):
        with pytest.raises(InputError, match=message):
            build(tune({0.1: [(0.2, 0.1)]}), "norm", "batch", "test_error", select=keys)


def test_runs_without_validation_metrics_are_refused(runs, tune):
    with pytest.raises(InputError, match=r"picks by valid_error, which no run has; train with data\.valid"):
        select(runs)
    with pytest.raises(InputError, match=r"valid_error, which 12 of 14 runs lack; leave them out"):
        select([*runs, *tune({0.1: [(0.2, 0.1)] * 2})])
    records = tune({0.1: [(0.2, 0.1)] * 2})
    for record in records:
        record.metrics["test_error@precise"] = 0.1
    with pytest.raises(InputError, match=r"valid_error@precise, which no run has; .* eval\.statistics"):
        build_table(records, "norm", "batch", "test_error@precise", select="optim.lr")


def test_values_with_different_validation_images_are_not_compared(tune, make):
    other = make(0.1, metrics={"valid_error": 0.1, "valid_loss": 0.1}, optim={"lr": 0.2}, data={"valid": 0.2})
    with pytest.raises(InputError, match=r"cell bn / 32 has data.valid 0.1, 0.2; use --where"):
        select([*tune({0.1: [(0.2, 0.1)]}), other])
