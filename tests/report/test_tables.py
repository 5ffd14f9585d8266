from __future__ import annotations

from dataclasses import replace

import pytest

from normbench.errors import InputError
from normbench.report.cells import Table
from normbench.report.tables import build_table

BN_AT_32 = (0.020, 0.022, 0.021)


def labels(table: Table) -> tuple[list[str], list[str]]:
    return list(table.row_labels), list(table.col_labels)


# Cells


def test_a_cell_holds_its_seeds_in_order_with_their_runs(runs) -> None:
    cell = build_table(runs[::-1], "norm", "batch", "test_error").cells["bn", "32"]
    assert cell.values == BN_AT_32
    assert cell.seeds == (0, 1, 2)
    by_signature = {run.signature: run for run in runs}
    assert [by_signature[s].metrics["test_error"] for s in cell.runs] == list(cell.values)
    assert cell.summary.mean == pytest.approx(0.021)
    assert cell.summary.sd == pytest.approx(0.001)


def test_json_is_the_documented_shape(runs) -> None:
    tree = build_table(runs, "norm", "batch", "test_error").to_json()
    assert list(tree)[:4] == ["metric", "rows", "cols", "cells"]
    assert (tree["metric"], tree["rows"], tree["cols"]) == ("test_error", ["norm"], ["batch"])
    assert [(cell["row"], cell["col"]) for cell in tree["cells"]] == [
        ("bn", "2"), ("bn", "32"), ("gn", "2"), ("gn", "32"),
    ]  # fmt: skip
    cell = tree["cells"][1]
    assert list(cell)[:9] == ["row", "col", "mean", "sd", "ci95", "n", "values", "runs", "published"]
    assert cell["n"] == 3
    assert cell["values"] == list(BN_AT_32)
    assert len(cell["runs"]) == 3
    assert cell["ci95"] == pytest.approx([0.021 - 0.0024841, 0.021 + 0.0024841], abs=1e-6)
    assert cell["published"] is None


def test_one_seed_has_a_mean_and_no_interval(make) -> None:
    [cell] = build_table([make(0.1)], "norm", "batch", "test_error").to_json()["cells"]
    assert (cell["mean"], cell["sd"], cell["ci95"], cell["n"]) == (0.1, None, None, 1)


def test_diverged_and_failed_runs_never_enter_a_mean(make) -> None:
    runs = [
        make(0.1, seed=0),
        make(0.9, seed=1, status="diverged"),
        make(0.9, seed=2, status="failed"),
        make(None, seed=3),
    ]
    cell = build_table(runs, "norm", "batch", "test_error").cells["bn", "32"]
    assert cell.values == (0.1,)
    assert (cell.diverged, cell.failed, cell.without, cell.asked) == (1, 1, 1, 4)


def test_a_run_that_is_given_twice_counts_once(runs) -> None:
    once, twice = (build_table(records, "norm", "batch", "test_error") for records in (runs, runs + runs))
    assert once == twice
    assert twice.cells["bn", "32"].summary.n == 3


def test_published_numbers_stand_beside_ours_or_alone(runs) -> None:
    axes = (["bn", "gn", "in"], ["32", "2"])
    published = {("bn", "32"): 0.236, ("in", "32"): 0.284, ("rms", "2"): 0.5}
    table = build_table(runs, "norm", "batch", "test_error", published=published, axes=axes)
    assert table.cells["bn", "32"].published == 0.236
    assert table.cells["in", "32"].published == 0.284
    assert table.cells["in", "32"].summary.n == 0
    assert ("in", "2") not in table.cells
    assert labels(table) == axes


# Axes


def test_axes_are_in_natural_order(make) -> None:
    runs = [make(0.1, norm=norm, batch=batch) for norm in ("gn", "none", "bn") for batch in (32, 4, 128)]
    assert labels(build_table(runs, "norm", "batch", "test_error")) == (
        ["none", "bn", "gn"], ["4", "32", "128"],
    )  # fmt: skip
    nets = [make(0.1, model=model) for model in ("resnet110", "lenet5", "resnet20")]
    assert labels(build_table(nets, "model", "batch", "test_error"))[0] == ["lenet5", "resnet20", "resnet110"]


def test_a_condition_that_lists_values_gives_their_order(runs) -> None:
    table = build_table(runs, "norm", "batch", "test_error", ["norm=gn,bn", "batch=32,2"])
    assert labels(table) == (["gn", "bn"], ["32", "2"])


def test_several_keys_make_joint_labels(make) -> None:
    runs = [make(0.1, norm="bn", optim={"lr": lr}) for lr in (0.1, 0.05)] + [make(0.1, norm="gn")]
    table = build_table(runs, "norm,optim.lr", ["batch"], "test_error")
    assert labels(table)[0] == ["bn · 0.05", "bn · 0.1", "gn · 0.1"]


def test_a_knob_that_a_choice_lacks_is_a_dash(make) -> None:
    runs = [make(0.1, norm=norm) for norm in ("bn", "gn")]
    assert labels(build_table(runs, "norm.momentum", "batch", "test_error"))[0] == ["–", "0.1"]


def test_total_is_batch_times_workers(make) -> None:
    runs = [make(0.1, batch=2, workers=4), make(0.1, batch=8, workers=2)]
    assert labels(build_table(runs, "norm", "total", "test_error"))[1] == ["8", "16"]


def test_without_columns_the_metric_is_the_column(runs) -> None:
    table = build_table(runs, "norm", "", "test_error", "batch=32")
    assert labels(table) == (["bn", "gn"], ["test_error"])
    assert table.cells["bn", "test_error"].values == BN_AT_32


def test_two_layers_of_one_method_are_two_rows(make) -> None:
    """A user's own YAML with other arguments of a layer: never pooled, and named."""
    runs = [
        make(0.1 * seed, norm={"name": "gn", "args": {"num_groups": groups, "group_size": None}}, seed=seed)
        for groups in (None, 2)
        for seed in range(2)
    ]
    table = build_table(runs, "norm", "batch", "test_error")
    assert labels(table)[0] == ["gn", "gn (num_groups=2)"]
    assert [cell.summary.n for cell in table.cells.values()] == [2, 2]
    assert table.warnings == ()


def test_equal_layers_are_one_row(make) -> None:
    runs = [make(0.1, norm=norm, seed=seed) for seed in range(2) for norm in ("gn", "gn")]
    assert labels(build_table(runs, "norm", "batch", "test_error"))[0] == ["gn"]


def test_knobs_are_named_only_if_a_cell_would_pool_them(make) -> None:
    runs = [make(0.1, norm={"momentum": m}, batch=b, seed=0) for m, b in ((0.1, 2), (0.2, 4))]
    assert labels(build_table(runs, "norm", "batch", "test_error"))[0] == ["bn"]
    assert labels(build_table(runs, "norm", "norm.momentum", "test_error"))[0] == ["bn"]
    assert labels(build_table(runs, "norm", "seed", "test_error"))[0] == [
        "bn (momentum=0.1)",
        "bn (momentum=0.2)",
    ]


def test_a_listed_order_holds_for_joint_keys_and_numbers_written_otherwise(make) -> None:
    runs = [make(0.1, norm=norm, optim={"lr": lr}) for norm in ("bn", "gn") for lr in (0.1, 0.05)]
    table = build_table(runs, "norm,optim.lr", "batch", "test_error", ["norm=gn,bn", "optim.lr=0.10,5e-2"])
    assert labels(table)[0] == ["gn · 0.1", "gn · 0.05", "bn · 0.1", "bn · 0.05"]


def test_names_stand_in_the_order_in_which_they_were_asked_for(make) -> None:
    asked = {
        "ln_chw": "2026-01-01T00:00:00 00000",
        "bn": "2026-01-01T00:00:00 00001",
        "gn": "2026-01-02T00:00:00 00000",
    }
    runs = [
        replace(make(0.1, norm=norm, batch=batch), provenance={"asked": since})
        for norm, since in asked.items()
        for batch in (16, 2)
    ]
    assert labels(build_table(runs[::-1], "norm", "batch", "test_error")) == (
        ["ln_chw", "bn", "gn"],
        ["2", "16"],
    )


@pytest.mark.parametrize(("metric", "mean"), [("train_s", 1.5), ("steps_per_s", 250.0), ("stack_s", 3.0)])
def test_times_are_metrics(make, metric, mean) -> None:
    timing = {"train_s": 1.5, "steps_per_s": 250.0, "stack_s": 3.0}
    runs = [replace(make(0.1, seed=seed), timing=timing) for seed in range(3)]
    assert build_table(runs, "norm", "batch", metric).cells["bn", "32"].summary.mean == mean


# Conditions


@pytest.mark.parametrize(
    ("where", "rows", "cols"),
    [
        ("norm=bn", ["bn"], ["2", "32"]),
        ("norm!=bn", ["gn"], ["2", "32"]),
        ("batch=2,4", ["bn", "gn"], ["2"]),
        ("batch!=2,4", ["bn", "gn"], ["32"]),
        ("norm.momentum=0.10", ["bn"], ["2", "32"]),
        ("norm.momentum=null", ["gn"], ["2", "32"]),
        ("model.dropout=0", ["bn", "gn"], ["2", "32"]),
        ("norm.affine=true", ["bn", "gn"], ["2", "32"]),
        ("status=complete", ["bn", "gn"], ["2", "32"]),
        ("total=32", ["bn", "gn"], ["2", "32"]),
        (["norm=gn", "batch=32"], ["gn"], ["32"]),
    ],
)
def test_conditions_choose_runs(runs, where, rows, cols) -> None:
    assert labels(build_table(runs, "norm", "batch", "test_error", where)) == (rows, cols)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"rows": "nrom"}, "unknown key 'nrom'; nearest: norm"),
        ({"cols": "optim.learning"}, "unknown key 'optim.learning'; nearest: optim."),
        ({"metric": "test_eror"}, "unknown metric 'test_eror'; nearest: test_error"),
        ({"where": "bacth=2"}, "unknown key 'bacth'; nearest: batch"),
        ({"where": "norm=gm"}, "no run has norm gm; there are: bn, gn"),
        ({"where": "seed!=0,1,2"}, "no run has seed not 0,1,2"),
        ({"where": ["norm=bn", "norm.momentum=null"]}, "no run meets all the conditions"),
        ({"where": "norm"}, "where must be key=value"),
        ({"where": "batch==2"}, "where must be key=value"),
        (
            {"rows": "norm,batch", "cols": "batch"},
            "rows and columns must be different keys; batch is in both",
        ),
        ({"where": "=bn"}, "where must be key=value"),
        ({"where": "norm=bn,"}, "where must be key=value"),
        ({"rows": ""}, "at least one key"),
        ({"records": []}, "there are no records"),
    ],
)
def test_what_cannot_be_tabulated_is_bad_input_in_one_line(runs, request_, message) -> None:
    asked = {"records": runs, "rows": "norm", "cols": "batch", "metric": "test_error"} | request_
    with pytest.raises(InputError) as error:
        build_table(**asked)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_standard_metric_that_every_run_lost_is_no_unknown_one(make) -> None:
    table = build_table([make(None, status="diverged", metrics={})], "norm", "batch", "test_loss")
    assert table.cells["bn", "32"].diverged == 1
