"""`normbench status`: who trains what, how far, what failed and what is missing."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from normbench import cli, leases, unfinished
from normbench.leases import Lease
from normbench.processes import Process, this_process
from normbench.record import Record
from normbench.store import Store
from normbench.sweeps.under_way import notes

WORDS = ["model=mlp", "norm=bn,gn", "seed=range(4)", "steps=100"]
ELSEWHERE = Process("node7", "00000000", 4711, "1")


@pytest.fixture
def specs(make_sweep):
    """Signature → spec of the sweep; the first four are batch norm."""
    return {each.spec.signature: each.spec for each in make_sweep(*WORDS)}


@pytest.fixture
def store(specs):
    """A store in which every state occurs."""
    store = Store.default()
    done, diverged, failed, partial, running, alike, gone, _ = specs
    for signature, status in ((done, "complete"), (diverged, "diverged"), (failed, "failed")):
        why = {"error": "RuntimeError: no luck"} if status == "failed" else {}
        spec = specs[signature].model_dump(mode="json")
        store.put(Record(signature, spec, status, {"test_error": 0.1}, {}, {}, why))
    for signature, step in ((partial, 40), (gone, 60)):
        store.run_folder(signature).mkdir(parents=True)
        store.checkpoint_file(signature).write_bytes(b"not read")
        text = unfinished.note(step, 100, [{"step": step, "train_loss": 0.5}], {"seed": 0})
        (store.run_folder(signature) / unfinished.NAME).write_text(text)
    now = time.time()
    lease = Lease(holder=ELSEWHERE, since=now - 30, renewed=now, first=20, step=50, steps=100, stack=2)
    for signature in (running, alike):
        leases.take(store.lease_file(signature), lease)
    leases.take(store.lease_file(gone), replace(lease, holder=this_process()._replace(started="1")))
    return store


def test_every_state_is_shown_by_cell_and_with_its_process(store, specs, capsys):
    assert cli.run(["status", *WORDS]) == 0
    said = capsys.readouterr().out.splitlines()
    counts, _, left = said[0].partition(" · ")
    assert counts == "8 runs: 1 done, 1 diverged, 2 running, 2 partial, 1 failed, 1 missing"
    # 50 + 50 steps of the running, 60 + 40 of the partial, 100 of the missing one, at 2 run-steps a second
    assert left == "about 2 min 30 s left"
    assert said[2:5] == [
        "cell     done  diverged  running  partial  failed  missing",
        "norm=bn     1         1        0        1       1        0",
        "norm=gn     0         0        2        1       0        1",
    ]
    [running] = [line for line in said if "node7 pid 4711" in line]
    assert "norm=gn 2 seeds (0–1)" in running
    assert "50 of 100" in running
    partial = [line for line in said if " of 100" in line and "node7" not in line]
    assert [line.split()[-3:] for line in partial] == [["40", "of", "100"], ["60", "of", "100"]]
    [failed] = [line for line in said if "no luck" in line]
    assert "norm=bn seed=2" in failed
    assert "error.txt" in failed


def test_without_words_the_whole_store_is_shown(store, capsys):
    assert cli.run(["status"]) == 0
    assert capsys.readouterr().out.startswith("7 runs: 1 done, 1 diverged, 2 running, 2 partial, 1 failed")


def test_json_has_the_same(store, specs, capsys):
    assert cli.run(["status", *WORDS, "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["counts"] == {
        "complete": 1, "diverged": 1, "running": 2, "partial": 2, "failed": 1, "missing": 1,
    }  # fmt: skip
    assert tree["left_s"] == pytest.approx(150, rel=0.05)
    assert [run["signature"] for run in tree["runs"]] == list(specs)
    running = tree["runs"][4]
    assert (running["host"], running["pid"], running["step"], running["stack"]) == ("node7", 4711, 50, 2)
    assert tree["runs"][3]["last"] == {"step": 40, "train_loss": 0.5}
    assert tree["runs"][2]["reason"] == "RuntimeError: no luck"


def test_status_writes_nothing(store, capsys):
    before = {file: file.stat().st_mtime_ns for file in store.root.rglob("*")}
    assert cli.run(["status", *WORDS]) == 0
    assert {file: file.stat().st_mtime_ns for file in store.root.rglob("*")} == before


def test_a_silent_process_is_named(store, specs, capsys, monkeypatch):
    now = time.time()
    monkeypatch.setattr("normbench.run_states.time.time", lambda: now + 200)
    assert cli.run(["status", *WORDS]) == 0
    assert "node7 pid 4711, silent for 3 min 20 s" in capsys.readouterr().out


def test_an_empty_store_and_bad_words_take_one_line(capsys):
    assert cli.run(["status"]) == 0
    assert capsys.readouterr().out == "no runs\n"
    assert cli.run(["status", "norm=bm"]) == 2
    assert "unknown norm 'bm'" in capsys.readouterr().err


def test_a_plan_says_which_runs_go_on_and_which_others_train(store, specs):
    said = list(notes(list(specs.values()), store))
    assert said[:2] == ["1 run goes on from step 40", "1 run goes on from step 60"]
    assert said[2].startswith("2 runs are being trained by node7 pid 4711 since ")


@pytest.mark.slow
def test_ten_thousand_records_take_two_seconds(specs, capsys, tmp_path):
    store = Store.default()
    spec = next(iter(specs.values())).model_dump(mode="json")
    for number in range(10_000):
        signature = f"{number * 429496:016x}"[::-1]
        folder = store.run_folder(signature)
        folder.mkdir(parents=True)
        record = Record(signature, spec, "complete", {"test_error": 0.1}, {}, {}, {})
        (folder / "record.json").write_text(record.to_json())
    began = time.process_time()
    assert cli.run(["status"]) == 0
    assert time.process_time() - began < 2.0
    assert capsys.readouterr().out == "10,000 runs: 10,000 done\n"
