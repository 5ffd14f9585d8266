"""A command under torchrun: one record, one voice, and an end for all if one rank fails."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from torch import distributed

from normbench.autotune import cores
from normbench.errors import RanksParted, RunFailure
from normbench.ranks import Ranks
from normbench.store import Store
from normbench.sweeps import checkpointer, get_or_train, meeting, worker
from normbench.sweeps.meeting import END, TRAIN, Meeting

COMMAND = Path(__file__).with_name("rank_command.py")
WORDS = ["model=mlp", "model.hidden=[6]", "data=digits", "norm=bn", "batch=4", "workers=2", "steps=6",
         "engine.precision=fp64", "tracking=none"]  # fmt: skip
PLUGIN = '''
import numpy as np
from normbench import plugins
from normbench.norms import Norm


@plugins.norm("halving")
class Halving(Norm):
    """Halves its input."""

    def __init__(self, channels, lanes=1, *, affine=True):
        super().__init__(channels, lanes, affine=affine)

    def normalize(self, x):
        return self.scale_shift(x / 2)


@plugins.data("stripes")
def stripes():
    images = np.random.default_rng(0).integers(0, 99, (60, 8, 8)).astype(np.uint8)
    labels = np.arange(60) % 2
    images[labels == 0, ::2] += 100
    return images[:40], labels[:40], images[40:], labels[40:]
'''


@pytest.fixture
def start():
    """A function that starts the ranks of a command, see `start_ranks`. No process survives the test."""
    stores, started = [], []

    def start(*args, **fields):
        # as torchrun does: a key-value store that lives longer than the ranks
        stores.append(distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
        made = start_ranks(stores[-1].port, *args, **fields)
        started.extend(made)
        return made

    yield start
    for process in started:
        process.kill()
        process.communicate()


def start_ranks(port: int, results: Path, words, fault=("none", 0, 0), count=2) -> list[subprocess.Popen]:
    """The ranks of a command, with the environment that torchrun gives them."""
    everywhere = {
        "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NORMBENCH_RESULTS": str(results),
    }  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, COMMAND, *map(str, fault), *words],
            env={**os.environ, **everywhere, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip


def ends(processes, timeout=90) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of every process; a process that does not end in time is killed."""
    found = []
    for process in processes:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        found.append((process.returncode, out, err))
    return found


def test_two_ranks_write_the_record_of_one_run_and_one_of_them_speaks(start, tmp_path, make_sweep):
    (code, out, err), *other = ends(start(tmp_path / "ranks", ["train", *WORDS]))
    assert (code, err) == (0, "2 ranks of torchrun train each stack together\n")
    assert other == [(0, "", "")]
    assert "1 of 1 run ended" in out
    resolved = make_sweep(*WORDS)
    (alone,) = get_or_train.train(resolved, Store(tmp_path / "alone"))
    (record,) = Store(tmp_path / "ranks").records()
    assert record.signature == alone.signature
    assert record.metrics == pytest.approx(alone.metrics, rel=1e-9)
    assert record.provenance["ranks"] == 2
    assert "ranks" not in alone.provenance
    assert len(list((tmp_path / "ranks").rglob("weights.safetensors"))) == 1


@pytest.mark.slow
def test_ranks_train_a_norm_and_data_of_a_plugin(start, tmp_path):
    file = tmp_path / "own_parts.py"
    file.write_text(PLUGIN)
    words = ["train", "--plugin", str(file), *WORDS, "norm=halving", "data=stripes"]
    (code, _, err), other = ends(start(tmp_path / "ranks", words))
    assert (code, other) == (0, (0, "", "")), err
    (together,) = Store(tmp_path / "ranks").records()
    assert together.provenance["ranks"] == 2 and together.spec["plugins"].keys() == {"norm", "data"}
    alone = subprocess.run(
        [sys.executable, "-m", "normbench", *words], check=True, capture_output=True,
        env={**os.environ, "NORMBENCH_RESULTS": str(tmp_path / "alone")},
    )  # fmt: skip
    assert b"1 of 1 run ended" in alone.stdout
    (lone,) = Store(tmp_path / "alone").records()
    assert lone.signature == together.signature
    assert lone.metrics == pytest.approx(together.metrics, rel=1e-9)


@pytest.mark.slow
def test_ranks_resume_from_a_checkpoint_of_a_lone_process(start, tmp_path, make_sweep, monkeypatch):
    monkeypatch.setattr(checkpointer, "CHECKPOINT_EVERY_S", 0.0)
    resolved = make_sweep(*WORDS)
    (spec,) = [each.spec for each in resolved]
    seen = []

    def stop_at_4(pack, step, points=()):
        seen.append(step)
        if step == 4:
            raise KeyboardInterrupt

    class Watcher:
        def notify(self, event):
            if type(event).__name__ == "StackLogged":
                stop_at_4(event.signatures, event.step)

        def close(self):
            pass

    with pytest.raises(KeyboardInterrupt):
        get_or_train.train(resolved, Store(tmp_path / "ranks"), [Watcher()])
    assert Store(tmp_path / "ranks").checkpoint_file(spec.signature).exists()
    assert [code for code, _, _ in ends(start(tmp_path / "ranks", ["train", *WORDS]))] == [0, 0]
    (record,) = Store(tmp_path / "ranks").records()
    assert record.provenance["resumed_from"] == 3
    (alone,) = get_or_train.train(resolved, Store(tmp_path / "alone"))
    assert record.metrics == pytest.approx(alone.metrics, rel=1e-9)


@pytest.mark.slow
def test_commands_that_train_nothing_end_all_ranks(start, tmp_path):
    (code, out, err), other = ends(start(tmp_path, ["norms"]))
    assert (code, err, other) == (0, "", (0, "", ""))
    assert "bn" in out
    (code, out, err), other = ends(start(tmp_path, ["train", *WORDS, "workers=3"]))
    assert (code, out) == (2, "")
    assert err.splitlines() == [err.strip()]
    assert "workers must be a multiple of 2" in err
    assert other == (0, "", "")
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("fault", ["raises", "killed", "stopped"])
def test_the_end_of_one_rank_ends_all_with_one_line(start, tmp_path, fault, rank):
    processes = start(tmp_path, ["train", *WORDS, "steps=40"], (fault, rank, 30))
    if fault == "stopped":  # the other one must not wait for it
        found = {1 - rank: ends(processes[1 - rank :][:1])[0]}
        processes[rank].kill()
        found[rank] = ends(processes[rank:][:1])[0]
    else:
        found = dict(enumerate(ends(processes)))
    lines = [line for _, _, err in found.values() for line in err.splitlines() if "ranks of" not in line]
    assert len(lines) == 1, lines
    assert found[1 - rank][0] == 1
    if fault == "raises":
        assert found[rank][0] == 1
        assert lines == [f"error: rank {rank} of 2 failed: ValueError: no luck"]
    else:
        assert f"rank {1 - rank} of 2 has lost another rank" in lines[0]
    assert not list(tmp_path.rglob("record.json"))
    if fault == "killed":  # the command again: nothing stands in its way
        assert [code for code, _, _ in ends(start(tmp_path, ["train", *WORDS, "steps=40"]))] == [0, 0]


def meet(monkeypatch, count=2) -> list[Meeting]:
    """Meetings of some ranks in one process."""
    store = distributed.HashStore()
    monkeypatch.setattr(meeting, "rendezvous", lambda *_, **__: iter([(store, 0, count)]))
    return [Meeting(Ranks(number, count)) for number in range(count)]


def test_orders_come_in_turn_and_the_end_waits_for_all(monkeypatch):
    leader, *others = meet(monkeypatch, 3)
    obeyed = [[], []]

    def obey(meeting, orders):
        while not orders or orders[-1] == TRAIN:
            orders.append(meeting.next_order())
        meeting.leave()

    threads = [threading.Thread(target=obey, args=pair) for pair in zip(others, obeyed, strict=True)]
    for thread in threads:
        thread.start()
    leader.give_order(TRAIN)
    leader.leave()
    for thread in threads:
        thread.join(timeout=10)
    assert obeyed == [[TRAIN, END]] * 2


def test_ranks_that_part_end_the_command_and_blame_no_run(make_sweep, tmp_path, monkeypatch):
    def part(*_):
        raise RanksParted("rank 0 of 2 has lost another rank")

    monkeypatch.setattr(worker, "train_together", part)
    with pytest.raises(RanksParted):
        get_or_train.train(make_sweep(*WORDS, "engine.processes=1"), Store(tmp_path))
    assert not list(tmp_path.rglob("record.json"))


def test_only_the_first_rank_that_fails_gives_a_reason(monkeypatch):
    first, second = meet(monkeypatch)
    failure = second.explain(ValueError("no luck"))
    assert isinstance(failure, RunFailure)
    assert str(failure) == "rank 1 of 2 failed: ValueError: no luck"
    assert isinstance(first.explain(RuntimeError("[gloo/pair.cc] Connection closed by peer")), SystemExit)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("[gloo/pair.cc:534] Connection closed by peer"), distributed.DistNetworkError("gone")],
)
def test_a_lost_rank_is_named_as_such(monkeypatch, error):
    first, _ = meet(monkeypatch)
    assert "rank 0 of 2 has lost another rank" in str(first.explain(error))


def test_ranks_share_the_cores_and_train_one_stack_at_a_time(monkeypatch, make_spec):
    alone = cores.cores()
    monkeypatch.setattr(cores, "launched", lambda: Ranks(0, 2, 0, 2))
    assert cores.cores() == max(1, alone // 2)
    assert cores.process_count(make_spec(*WORDS).engine) == 1
