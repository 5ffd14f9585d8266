"""The estimate of a plan: the end of the last process, exact for given costs of stacks."""

from __future__ import annotations

import pytest

from normbench.autotune.cost import Cost
from normbench.engine.device import device_name, find_device
from normbench.record import COMPLETE, Record
from normbench.store import Store
from normbench.sweeps import get_or_train as run
from normbench.sweeps.estimate import Estimate, estimate, last_end
from normbench.sweeps.plan import Pack, Plan

WORDS = ["model=mlp", "steps=100", "batch=4", "tracking=none", "engine.device=cpu"]


class FakeTuner:
    """A tuner that returns given costs of stacks, in their order."""

    def __init__(self, *costs):
        self.costs = iter(costs)

    def cost(self, specs):
        return next(self.costs)

    def lane_bytes(self, spec):
        return 2**20


def known(*seconds):
    return [Cost(s, "ended") for s in seconds]


@pytest.fixture
def estimated(make_sweep):
    """The estimate of stacks with given costs and numbers of lanes, on a number of processes."""
    sweep = [r.spec for r in make_sweep(*WORDS, "seed=range(12)")]

    def make(costs, processes=1, lanes=None):
        widths, specs = lanes or [1] * len(costs), iter(sweep)
        packs = tuple(Pack(tuple(next(specs) for _ in range(width))) for width in widths)
        return estimate(Plan(len(sweep), 0, packs), FakeTuner(*costs), processes)

    return make


@pytest.mark.parametrize(
    ("seconds", "processes", "end"),
    [
        ([6, 4, 2], 1, 12),
        ([6, 6], 2, 6),
        ([6, 6, 6, 6], 2, 12),
        ([6, 6, 6], 2, 12),  # the last stack trains alone: not 9
        ([9, 1, 1], 2, 9),  # not 5.5
        ([5, 4, 3, 3, 3], 2, 10),  # not 9
        ([4, 4, 4, 4, 4], 3, 8),
        ([7], 4, 7),  # a stack is not split among processes
        ([3, 2], 8, 3),
    ],
)
def test_a_plan_ends_when_its_last_process_ends(estimated, seconds, processes, end):
    assert last_end(seconds, processes) == end
    assert estimated(known(*seconds), processes).seconds == end


def test_no_more_processes_train_than_there_are_stacks(estimated):
    assert estimated(known(1, 1), 8).processes == 2
    assert estimated(known(1, 1, 1), 2).processes == 2


def test_memory_is_that_of_the_widest_stack(estimated):
    assert estimated(known(1, 1, 1), lanes=[2, 5, 1]).memory == 5 * 2**20


def test_the_factor_of_equal_guesses_is_the_factor_of_the_plan(estimated):
    made = estimated([Cost(100.0, "guess", 4.0)] * 2, 2)
    assert (made.seconds, made.factor) == (100, 4)


def test_known_stacks_reduce_the_factor_of_the_plan(estimated):
    made = estimated([Cost(300.0, "measured"), Cost(100.0, "guess", 4.0)])
    assert made.seconds == 400
    assert made.factor == pytest.approx(700 / 400)  # at most 700 s, at least 325 s


def test_a_short_guess_does_not_change_the_end_of_a_longer_known_stack(estimated):
    assert estimated([Cost(900.0, "ended"), Cost(100.0, "guess", 4.0)], 2).factor == 1


LINES = {
    "ended": ([Cost(83.0, "ended")], "about 1 min 23 s, by runs that have ended here"),
    "measured": ([Cost(11_000.0, "measured")], "about 3 h 03 min, by steps measured here"),
    "both": (
        [Cost(5.0, "ended"), Cost(4.0, "measured")],
        "about 9 s, by steps measured here and by runs that have ended here",
    ),
    "guess": (
        [Cost(11_000.0, "guess", 4.0)],
        "about 3 h, within a factor of 4: nothing like these runs has ended here",
    ),
    "a part": (
        [Cost(300.0, "ended"), Cost(100.0, "guess", 4.0)],
        "about 7 min, within a factor of 1.8: nothing like the runs of 1 of 2 stacks has ended here",
    ),
}


@pytest.mark.parametrize(("costs", "line"), LINES.values(), ids=LINES)
def test_the_line_says_the_time_and_how_it_is_known(estimated, costs, line):
    assert estimated(costs).lines()[0] == line


def test_the_memory_line_says_how_many_stacks_train_at_a_time():
    one, two = (Estimate(1.0, 1.0, {"ended": 3}, 3 * 2**20, processes) for processes in (1, 2))
    assert one.lines()[1] == "about 3 MiB for the largest stack"
    assert two.lines()[1] == "about 3 MiB for the largest stack, 2 stacks at a time"


@pytest.mark.parametrize(
    ("processes", "lanes", "end"), [(1, 4, 16), (2, 4, 8), (1, 1, 16), (2, 1, 8), (3, 2, 8)]
)
def test_an_estimate_from_records_is_exact_for_processes_and_lanes(
    make_sweep, tmp_path, monkeypatch, processes, lanes, end
):
    """4 runs of 4 s each per lane, by a record of a stack of 2 lanes that took 8 s."""
    monkeypatch.setattr("normbench.autotune.cost.OVERHEAD_S", {"cpu": 0.0})
    store = Store(tmp_path / "results")
    words = [*WORDS, f"engine.processes={processes}", f"engine.lanes={lanes}"]
    ended = make_sweep(*words, "seed=99")[0].spec
    store.put(
        Record(
            signature=ended.signature,
            spec=ended.model_dump(mode="json"),
            status=COMPLETE,
            metrics={},
            timing={"stack_s": 8.0, "train_s": 4.0, "steps_per_s": 25.0},
            environment={"device": device_name(find_device("cpu"))},
            provenance={"stack_size": 2},
        )
    )
    made = run.Sweep(make_sweep(*words, "seed=range(4)"), store).estimate()
    assert made.seconds == pytest.approx(end)
    assert made.sources.keys() == {"ended"}
