from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from normbench import papers
from normbench.errors import InputError, RunFailure

#: Errors of a made-up reproduction that behaves as the paper says.
ERRORS = {
    "bn": {32: 0.014, 16: 0.016, 8: 0.019, 4: 0.023, 2: 0.416},
    "gn": 0.020,
    "ln_chw": 0.019,
    "none": 0.018,
}


@pytest.fixture
def table() -> papers.PaperTable:
    return papers.load("wu2018/batch_size")


@pytest.fixture
def records(make, numbered):
    made = []
    for norm, errors in ERRORS.items():
        for batch in (32, 16, 8, 4, 2):
            for seed in range(5):
                error = errors[batch] if isinstance(errors, dict) else errors
                settings = {"model": "mlp", "norm": norm, "batch": batch, "total": 32, "steps": 600}
                made.append(make(error * (0.8 + 0.04 * (seed * batch % 11)), seed=seed, **settings))
    return numbered(made)


def test_a_faithful_reproduction_passes_every_claim(table, records) -> None:
    made = papers.report(table, "tiny", records)
    assert {claim.verdict for claim in made.claims} == {"PASS", "REPORT"}
    assert not any(claim.broken for claim in made.claims)


def test_a_norm_that_collapses_fails_its_claims(table, records) -> None:
    def collapse(record):
        hit = record.value("norm") == "gn" and record.value("batch") == 2
        return replace(record, metrics={"test_error": 0.9}) if hit else record

    made = papers.report(table, "tiny", [collapse(record) for record in records])
    assert {claim.id for claim in made.claims if claim.broken} == {"gn_flat", "gn_beats_bn_at_2"}


def test_rows_and_columns_are_those_of_the_paper(table, records) -> None:
    made = papers.report(table, "tiny", records)
    assert made.table.row_labels == ("bn", "gn", "ln_chw", "none")
    assert made.table.col_labels == ("32", "16", "8", "4", "2")
    assert made.table.cells["bn", "2"].published == 0.347
    assert made.table.cells["ln_chw", "32"].published == 0.253
    assert made.table.cells["none", "32"].published is None


def test_published_numbers_stand_where_their_setting_is_rerun(table) -> None:
    cells = papers.report(table, "small", []).table.cells
    assert cells["resnet20 · gn", "2"].published == 0.241
    assert cells["mlp · ln_chw", "4"].published == 0.0145
    assert cells["mlp · gn", "2"].published is None


def test_without_runs_the_table_is_empty_and_no_claim_holds(table) -> None:
    made = papers.report(table, "tiny", [])
    assert not any(claim.holds for claim in made.claims)
    assert "No runs yet." in made.table.notes
    assert made.environment == {"runs": 0}


def test_a_selection_shows_and_judges_its_part(table, records) -> None:
    extra = {"norm": ["bn"], "batch": ["32", "2"]}
    chosen = [r for r in records if r.value("norm") == "bn" and r.value("batch") in (32, 2)]
    made = papers.report(table, "tiny", chosen, extra)
    assert made.table.row_labels == ("bn",)
    assert made.table.col_labels == ("32", "2")
    assert {claim.id for claim in made.claims if claim.verdict == "PASS"} == {"bn_collapses"}
    assert {claim.verdict for claim in made.claims if claim.id != "bn_collapses"} == {"SKIP"}
    assert made.command == "normbench reproduce wu2018/batch_size scale=tiny norm=bn batch=32,2"


def test_an_unknown_scale_is_bad_input(table) -> None:
    with pytest.raises(InputError, match="unknown scale of wu2018/batch_size 'tinny'; nearest: tiny"):
        papers.report(table, "tinny", [])


def test_environments_are_merged_and_differences_kept(table, make) -> None:
    runs = [make(0.1, model="mlp", seed=0), make(0.1, model="mlp", seed=1, environment={"device": "cuda"})]
    environment = papers.report(table, "tiny", runs).environment
    assert environment == {
        "runs": 2, "commit": "0123456789ab", "device": ["cpu", "cuda"], "torch": "2.6.0",
    }  # fmt: skip


def test_the_four_files_are_golden(table, records, tmp_path, golden) -> None:
    paths = papers.write(papers.report(table, "tiny", records), tmp_path)
    names = [f"batch_size.tiny.{suffix}" for suffix in ("md", "csv", "tex", "json")]
    assert [path.relative_to(tmp_path / "wu2018").name for path in paths] == names
    for path in paths:
        golden(f"wu2018/{path.name}", path.read_text(encoding="utf-8"))


def test_json_adds_claims_scale_and_environment_to_the_table(table, records, tmp_path) -> None:
    made = papers.report(table, "tiny", records)
    [file] = [path for path in papers.write(made, tmp_path) if path.suffix == ".json"]
    tree = json.loads(file.read_text())
    assert {key: tree[key] for key in made.table.to_json()} == made.table.to_json()
    assert tree["scale"] == "tiny"
    assert tree["environment"]["runs"] == len(records)
    assert [claim["id"] for claim in tree["claims"]] == [claim.id for claim in made.claims]


def test_a_table_that_cannot_be_written_is_told_in_one_line(table, tmp_path, monkeypatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFailure, match="No space left on device"):
        papers.write(papers.report(table, "tiny", []), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
