from __future__ import annotations

from normbench.report.tables import build_table


def test_pooling_runs_that_differ_in_more_than_the_seed_is_said(runs) -> None:
    [warning] = build_table(runs, "norm", "seed", "test_error").warnings
    assert warning.startswith("6 of 6 cells pool runs that differ in batch (2, 32), workers (1, 16)")


def test_what_does_not_change_a_result_is_not_pooling(make) -> None:
    here = {"engine": {"lanes": 4, "device": "cpu"}, "tracking": {"tags": ["a"]}, "data": {"root": "/a"}}
    there = {"engine": {"lanes": 1, "device": "cuda"}, "tracking": {"tags": []}, "data": {"root": "/b"}}
    runs = [make(0.1, seed=0, **here), make(0.1, seed=1, **there)]
    assert build_table(runs, "norm", "batch", "test_error").warnings == ()


def test_precision_and_knobs_below_a_row_are_pooling(make) -> None:
    runs = [make(0.1), make(0.1, norm={"momentum": 0.2}, engine={"precision": "bf16"})]
    [warning] = build_table(runs, "norm", "batch", "test_error").warnings
    assert "engine.precision (bf16, fp32), norm.momentum (0.1, 0.2)" in warning


def test_what_varies_along_with_an_axis_is_said(runs) -> None:
    table = build_table(runs, "norm", "batch", "test_error")
    assert table.warnings == ()
    assert "Rows and columns also differ in workers (1, 16)." in table.notes


def test_another_model_per_row_is_named_once_not_knob_by_knob(make) -> None:
    runs = [make(0.1, norm="bn", model="lenet5"), make(0.1, norm="gn", model="resnet20")]
    notes = build_table(runs, "norm", "batch", "test_error").notes
    assert "Rows and columns also differ in model (lenet5, resnet20)." in notes


def test_the_runs_their_commit_and_their_device_are_named(make) -> None:
    runs = [make(0.1, seed=0), make(0.1, seed=1, environment={"device": "NVIDIA A100"})]
    provenance = build_table(runs, "norm", "batch", "test_error").notes[-1]
    assert provenance == "2 runs on digits; commit 0123456789ab; device NVIDIA A100, cpu."


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
    assert table.usual_n == 3
    assert "Mean ± sd over n = 3 seeds unless a cell says otherwise." in table.notes
