"""`normbench reproduce` trains what is missing, writes the table, and fails where a claim does."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from normbench import cli, papers
from normbench.commands.table_rerun import _variant
from normbench.commands.table_runs import TableRuns
from normbench.spec import RunSpec
from normbench.store import Store

Capture = pytest.CaptureFixture[str]
TINY = ["reproduce", "wu2018/batch_size", "scale=tiny"]


def as_published(spec: RunSpec) -> float:
    """Batch norm falls apart over small batches; nothing else looks at the batch."""
    return (0.05 + 0.6 / spec.batch if spec.norm.name == "bn" else 0.1) + noise(spec)


def noise(spec: RunSpec) -> float:
    """Less than 0.001, another one for every run."""
    return int(spec.signature[:4], 16) / 2**16 / 1000


@pytest.fixture
def reproduced(trainer, capsys: Capture, tmp_path: Path):
    trainer.error = as_published
    assert cli.run([*TINY, "--json", str(tmp_path / "out.json")]) == 0
    return trainer


def test_without_a_name_the_tables_are_listed(capsys: Capture) -> None:
    assert cli.run(["reproduce"]) == 0
    said = capsys.readouterr().out.split()
    assert set(papers.names()) <= set(said)
    assert len(papers.names()) == 17


def test_the_table_its_claims_and_its_files_are_shown(trainer, capsys: Capture) -> None:
    trainer.error = as_published
    assert cli.run(TINY) == 0
    said = capsys.readouterr().out
    assert "PASS bn_collapses" in said
    assert "norm / batch" in said
    for suffix in ("md", "csv", "tex", "json"):
        file = Store.default().root / "tables" / "wu2018" / f"batch_size.tiny.{suffix}"
        assert f"wrote {file}" in said
        assert file.is_file()


def test_the_json_file_has_cells_claims_scale_and_environment(reproduced, tmp_path: Path) -> None:
    made = json.loads((tmp_path / "out.json").read_text())
    assert made["scale"] == "tiny"
    assert made["environment"]["torch"] == "2.6"
    assert {"id", "text", "holds", "evidence", "p"} <= made["claims"][0].keys()
    cell = next(c for c in made["cells"] if (c["row"], c["col"]) == ("bn", "2"))
    assert (cell["n"], cell["published"]) == (5, 0.347)
    assert cell["mean"] == pytest.approx(0.3505, abs=5e-4)


def test_a_second_time_trains_nothing(reproduced, capsys: Capture) -> None:
    before = len(reproduced.trained)
    assert cli.run(TINY) == 0
    assert len(reproduced.trained) == before == 100


def test_a_claim_that_does_not_hold_exits_1(trainer, capsys: Capture) -> None:
    trainer.error = lambda spec: 0.1 + noise(spec)
    assert cli.run(TINY) == 1
    assert "FAIL bn_collapses" in capsys.readouterr().out


def test_a_run_that_failed_exits_1_and_is_named(trainer, capsys: Capture) -> None:
    trainer.error = as_published
    trainer.breaks = lambda spec: (spec.norm.name, spec.batch, spec.seed) == ("none", 8, 3)
    assert cli.run(TINY) == 1
    assert "batch=8 norm=none seed=3  RuntimeError: no luck" in capsys.readouterr().out


def test_words_narrow_a_table(trainer, capsys: Capture) -> None:
    trainer.error = as_published
    assert cli.run([*TINY, "norm=bn,gn", "batch=2,32", "seed=range(3)", "steps=10", "tracking=none"]) == 0
    assert len(trainer.trained) == 12
    assert {(spec.steps, spec.tracking.name) for spec in trainer.trained} == {(10, "none")}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["scale=tiny,small"], "one scale at a time"),
        (["scale=tiny", "--json", "/dev/null/out.json"], "--json must lie in a folder"),
        (["scale=tiny", "nrom=bn"], "unknown key 'nrom'"),
        (["scale=tiny", "norm=bm"], "unknown norm 'bm'"),
        (["scale=tiny", "seed_offset=-1"], "seed_offset is a whole number from 0 to 1000000000; got -1"),
        (["scale=tiny", "seed_offset=1,2"], "seed_offset is a whole number from 0 to 1000000000; got 1,2"),
        (["scale=tiny", "seed_offset=2", "seed=1"], "give seed or seed_offset, not both"),
    ],
)
def test_what_cannot_be_reproduced_is_refused(argv: list[str], said: str, trainer, capsys: Capture) -> None:
    assert cli.run([TINY[0], TINY[1], *argv]) == 2
    assert said in capsys.readouterr().err
    assert trainer.trained == []


def test_a_run_that_two_grids_share_counts_once(
    trainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainer.error = as_published
    once = papers.grids
    monkeypatch.setattr(papers, "grids", lambda *args: once(*args) * 2)
    assert cli.run([*TINY, "--json", str(tmp_path / "out.json")]) == 0
    assert {cell["n"] for cell in json.loads((tmp_path / "out.json").read_text())["cells"]} == {5}


# Files of a reproduction


def files(root: Path) -> set[str]:
    return {file.name for file in root.rglob("*.md") if file.is_file()}


@pytest.mark.parametrize(
    "words",
    [
        ["norm=bn,gn"],
        ["batch=32,2"],
        ["epochs=1"],
        ["optim.lr=0.1", "seed=0"],
        ["norm.momentum=0.2"],
        ["model.activation=tanh"],
        ["engine.precision=bf16"],
    ],
)
def test_other_runs_never_overwrite_the_papers_table(words: list[str], trainer, tmp_path: Path) -> None:
    trainer.error = as_published
    cli.run([*TINY, "seed=0"])
    tables = tmp_path / "results" / "tables" / "wu2018"
    before = {file.name: file.read_bytes() for file in tables.iterdir()}
    assert before.keys() == {
        f"batch_size.tiny.{suffix}" for suffix in ("md", "csv", "tex", "json", "error_by_batch.svg")
    }
    cli.run([*TINY, "seed=0", *words])
    after = {file.name: file.read_bytes() for file in tables.iterdir()}
    assert before.items() <= after.items()
    [page] = [name for name in after.keys() - before.keys() if name.endswith(".md")]
    assert re.fullmatch(r"batch_size\.tiny\.[0-9a-f]{8}\.md", page)


@pytest.mark.parametrize(
    "words",
    [
        ["seed=range(2)"],
        ["seed=0,1", "tracking=none"],
        ["engine.device=cpu", "engine.lanes=1", "seed=0"],
        ["norm=none,ln_chw,gn,bn", "seed=0"],
        ["epochs=12", "batch=32,16,8,4,2", "seed=0"],
    ],
)
def test_words_that_change_only_seeds_keep_the_name(words: list[str], trainer, tmp_path: Path) -> None:
    trainer.error = as_published
    cli.run([*TINY, *words])
    assert files(tmp_path / "results") == {"batch_size.tiny.md"}


def test_an_offset_moves_every_seed_and_stands_in_the_command(trainer, tmp_path: Path) -> None:
    trainer.error = as_published
    assert cli.run([*TINY, "seed_offset=1000", "--json", str(tmp_path / "later.json")]) == 0
    assert {spec.seed for spec in trainer.trained} == {1000, 1001, 1002, 1003, 1004}
    assert files(tmp_path / "results") == {"batch_size.tiny.md"}
    tree = json.loads((tmp_path / "later.json").read_text())
    assert {claim["verdict"] for claim in tree["claims"] if claim["asserted"]} == {"supported"}
    trained = len(trainer.trained)
    assert cli.run([*shlex.split(tree["command"])[1:]]) == 0
    assert len(trainer.trained) == trained


def test_two_variants_have_two_names_and_each_its_own_again(trainer, tmp_path: Path) -> None:
    trainer.error = as_published
    for batches in ("32,2", "32,4", "2,32"):
        cli.run([*TINY, "seed=0", f"batch={batches}"])
    assert len(files(tmp_path / "results")) == 2


def test_a_table_that_reads_a_folder_of_images_may_have_it_elsewhere(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "images" / split / "ant").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / split / "ant" / "0.png")
    table, path = papers.load("zhu2025/dyt_in_convnets"), [str(tmp_path / "images")]

    def name(**extra: list[str]) -> str:
        return _variant(TableRuns(table, "full", {"data.path": path, **extra}, None))

    assert name() == name(seed=["3"]) == ""
    assert re.fullmatch("[0-9a-f]{8}", name(epochs=["1"]))


def test_rows_and_columns_stand_in_the_order_of_the_words(trainer, tmp_path: Path) -> None:
    trainer.error = as_published
    cli.run([*TINY, "seed=0", "norm=gn,bn", "batch=2,32", "--json", str(tmp_path / "new" / "out.json")])
    cells = json.loads((tmp_path / "new" / "out.json").read_text(encoding="utf-8"))["cells"]
    assert [(cell["row"], cell["col"]) for cell in cells] == [
        ("gn", "2"),
        ("gn", "32"),
        ("bn", "2"),
        ("bn", "32"),
    ]


def test_the_files_can_lie_in_another_folder(trainer, tmp_path: Path) -> None:
    trainer.error = as_published
    assert cli.run([*TINY, "seed=0", "--out", str(tmp_path / "reference")]) == 0
    assert (tmp_path / "reference" / "wu2018" / "batch_size.tiny.md").is_file()
    assert not (tmp_path / "results" / "tables").exists()


def test_a_folder_that_cannot_be_made_is_refused_before_training(
    trainer, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "file").touch()
    assert cli.run([*TINY, "--out", str(tmp_path / "file")]) == 2
    assert "--out must lie in a folder" in capsys.readouterr().err
    assert trainer.trained == []


def test_the_command_of_a_report_can_be_repeated_with_words_that_need_quotes() -> None:
    report = papers.report(papers.load("wu2018/batch_size"), "tiny", [], {"data.path": ["my images"]})
    assert shlex.split(report.command)[-1] == "data.path=my images"
