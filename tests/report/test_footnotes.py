from __future__ import annotations

from dataclasses import replace

import pytest

from normbench.record import Addition
from normbench.report.tables import build_table


def test_pooling_runs_that_differ_in_more_than_the_seed_is_said(runs) -> None:
    [warning] = build_table(runs, "norm", "seed", "test_error").warnings
    assert warning.startswith("6 of 6 cells pool runs that differ in batch (2, 32), workers (1, 16)")


def test_what_does_not_change_a_result_is_not_pooling(make) -> None:
    here = {"engine": {"lanes": 4, "device": "cpu"}, "tracking": {"tags": ["a"]}, "data": {"root": "/a"}}
    there = {"engine": {"lanes": 1, "device": "cuda"}, "tracking": {"tags": []}, "data": {"root": "/b"}}
    runs = [make(0.1, seed=0, **here), make(0.1, seed=1, **there)]
    assert build_table(runs, "norm", "batch", "test_error").warnings == ()


def test_precision_and_knobs_of_other_groups_are_pooling(make) -> None:
    runs = [make(0.1), make(0.1, optim={"lr": 0.2}, engine={"precision": "bf16"})]
    [warning] = build_table(runs, "norm", "batch", "test_error").warnings
    assert "engine.precision (bf16, fp32), optim.lr (0.1, 0.2)" in warning


def test_evaluation_and_the_engine_tell_no_runs_apart(make) -> None:
    runs = [
        make(0.1, seed=0, eval={"every": 5, "statistics": ["running"], "target": 0.1}),
        make(0.1, seed=1, eval={"every": None, "statistics": ["running", "precise"], "target": None}),
    ]
    table = build_table(runs, "norm", "batch", "test_error")
    assert table.warnings == ()
    assert not [note for note in table.notes if "differ" in note]


@pytest.mark.parametrize(
    ("key", "values"),
    [("torch", ("2.6.0", "2.7.1")), ("normbench", ("0.2", "0.3")), ("device", ("A100", "cpu"))],
)
def test_a_cell_that_mixes_versions_or_devices_is_said(make, key, values) -> None:
    runs = [make(0.1, seed=seed, environment={key: value}) for seed, value in enumerate(values)]
    [warning] = build_table(runs, "norm", "batch", "test_error").warnings
    assert warning.startswith(f"1 of 1 cells mix runs of different {key} ({values[0]}, {values[1]})")
    assert build_table(runs, "norm", key, "test_error").warnings == ()
    assert build_table(runs, "norm", "batch", "test_error", f"{key}={values[0]}").warnings == ()


def test_a_metric_that_was_evaluated_later_has_the_versions_of_that_evaluation(make) -> None:
    later = {"test_error@precise": 0.1}
    runs = [
        replace(run, additions=(Addition(run.signature, later, {"torch": torch}, {}),))
        for run, torch in (
            (make(0.1, seed=seed, metrics=later), torch) for seed, torch in enumerate(("2.6", "2.7"))
        )
    ]
    [warning] = build_table(runs, "norm", "batch", "test_error@precise").warnings
    assert "mix runs of different torch (2.6, 2.7)" in warning
    assert build_table(runs, "norm", "batch", "test_error").warnings == ()


def test_a_field_with_many_values_is_listed_in_part(make) -> None:
    runs = [make(0.1, optim={"lr": 0.01 * step}) for step in range(1, 31)]
    [warning] = build_table(runs, "norm", "batch", "test_error").warnings
    assert "optim.lr (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, …, 0.3: 30 values)" in warning


def test_what_varies_along_with_an_axis_is_said(runs) -> None:
    table = build_table(runs, "norm", "batch", "test_error")
    assert table.warnings == ()
    assert "Rows and columns also differ in workers (1, 16)." in table.notes


def test_another_model_per_row_is_named_once_not_knob_by_knob(make) -> None:
    runs = [make(0.1, norm="bn", model="lenet5"), make(0.1, norm="gn", model="resnet20")]
    notes = build_table(runs, "norm", "batch", "test_error").notes
    assert "Rows and columns also differ in model (lenet5, resnet20)." in notes


def test_the_runs_their_commit_and_their_device_are_named(make) -> None:
    runs = [make(0.1, batch=8), make(0.1, environment={"device": "NVIDIA A100"})]
    provenance = build_table(runs, "norm", "batch", "test_error").notes[-1]
    assert provenance == "2 runs on digits; seed 0; commit 0123456789ab; device NVIDIA A100, cpu."


def test_a_data_set_of_ones_own_is_named_by_its_file(make, tmp_path) -> None:
    archive = tmp_path / "cifar10-jpeg.tar.gz"
    archive.write_bytes(b"images")
    run = make(0.1, data={"name": "folder", "path": str(archive)})
    notes = build_table([run], "norm", "batch", "test_error").notes
    assert "1 run on folder (cifar10-jpeg.tar.gz)" in notes[-1]


def test_differing_numbers_of_seeds_are_said(make) -> None:
    runs = [make(0.1, norm="bn", seed=seed) for seed in range(3)]
    runs += [make(0.1, norm="gn", seed=seed) for seed in range(2)]
    table = build_table(runs, "norm", "batch", "test_error")
    assert table.typical_n == 3
    assert "Mean ± sd over n = 3 seeds unless a cell says otherwise." in table.notes


def test_a_table_with_one_seed_in_most_cells_says_no_mean_over_one(make) -> None:
    runs = [make(0.1, norm=norm) for norm in ("bn", "gn", "ln_chw")] + [make(0.1, norm="gn", seed=1)]
    text = " ".join(build_table(runs, "norm", "batch", "test_error").notes)
    assert "n = 1" not in text
    assert "One seed per cell unless a cell says otherwise" in text


def test_pooled_runs_are_not_called_seeds(make) -> None:
    runs = [make(0.1, seed=seed, optim={"lr": lr}) for seed in range(2) for lr in (0.1, 0.2)]
    assert "Mean ± sd over n = 4 runs." in build_table(runs, "norm", "batch", "test_error").notes
