"""`reproduce --all` reruns every table of a scale. `reproduce --plan` says what a table costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from normbench import cli, papers
from normbench.store import Store

Capture = pytest.CaptureFixture[str]
ONE = """\
title: {title}
scales:
  small:
    rows: [norm]
    grids:
      - {{model: mlp, model.hidden: "[8,8]", norm: [bn, none], steps: 3, seed: [0, 1, 2, 3, 4, 5]}}
    claims:
      - {{id: less, text: BN errs more, kind: greater, a: {{norm: bn}}, b: {{norm: none}}, margin: 0.05}}
"""


@pytest.fixture
def two_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The packaged tables are hidden by two of the user's own."""
    folder = tmp_path / "work" / "conf" / "paper" / "mine"
    folder.mkdir(parents=True)
    for name in ("first", "second"):
        (folder / f"{name}.yaml").write_text(ONE.format(title=name), encoding="utf-8")
    monkeypatch.chdir(tmp_path / "work")
    own = ["mine/first", "mine/second"]
    monkeypatch.setattr(papers, "names", lambda root=None: own)
    return own


def test_every_table_is_rerun_and_one_line_sums_it_up(trainer, two_tables, capsys: Capture) -> None:
    trainer.error = lambda spec: (0.5 if spec.norm.name == "bn" else 0.1) + spec.seed / 1000
    assert cli.run(["reproduce", "--all", "scale=small", "tracking=none"]) == 0
    said = capsys.readouterr().out
    assert "== mine/first" in said
    lines = said.splitlines()[-3:-1]
    assert [line.split()[0] for line in lines] == two_tables
    assert all(line.endswith("1 supported") for line in lines)
    index = (Store.default().root / "tables" / "index.md").read_text()
    assert "| [mine/first](mine/first.small.md) | small | first | 1 supported |" in index
    for name in two_tables:
        assert (Store.default().root / "tables" / f"{name}.small.md").is_file()


def test_an_offset_of_the_seeds_holds_for_all_tables(trainer, two_tables) -> None:
    cli.run(["reproduce", "--all", "scale=small", "seed_offset=50", "tracking=none"])
    assert {spec.seed for spec in trainer.trained} == set(range(50, 56))


def test_a_refuted_claim_of_one_table_is_the_exit_code_and_the_others_are_rerun(
    trainer, two_tables, capsys: Capture
) -> None:
    trainer.error = lambda spec: 0.1 + spec.seed / 1000
    assert cli.run(["reproduce", "--all", "scale=small", "tracking=none"]) == 1
    assert capsys.readouterr().out.count("1 refuted") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--all", "norm=bn"], "--all takes scale="),
        (["--all", "--json", "f.json"], "--json belongs to one table"),
        (["--all", "scale=tiny"], "no table has the scale tiny"),
    ],
)
def test_what_fits_one_table_alone_is_refused_for_all(words, said, two_tables, capsys: Capture) -> None:
    assert cli.run(["reproduce", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_plan_says_runs_time_and_memory_and_trains_nothing(trainer, capsys: Capture) -> None:
    assert cli.run(["reproduce", "wu2018/batch_size", "scale=tiny", "--plan"]) == 0
    said = capsys.readouterr().out
    assert "100 runs: 100 to train" in said
    assert "within a factor of" in said
    assert trainer.trained == []
    assert not (Store.default().root / "tables").exists()
