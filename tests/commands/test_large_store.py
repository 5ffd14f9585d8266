"""Reading verbs over 10,000 records or runs: their time, and that it grows no faster than the store.

The limits are processor seconds on a free core. A loaded machine takes longer for everything, so they are
scaled by the time of a yardstick that runs beside them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from normbench.record import Record
from normbench.spec import RunSpec

pytestmark = pytest.mark.slow
#: Verb → processor seconds over 10,000 records, with the start of Python.
LIMITS = {"table": 2.0, "plan": 5.0, "status": 2.0, "runs": 2.0}
WORDS = {
    "table": ["--rows", "norm,optim.lr", "--cols", "batch"],
    "plan": ["norm=bn,gn", "model=mlp", "data=digits", "seed=range(1000,1003)", "steps=20"],
    "status": [],
    "runs": [],
}
#: The words of the runs in the stores.
OF_STORE = [
    "norm=bn,gn,ln_c,in,none", "batch=2,4,8,16", "optim.lr=0.01,0.02,0.05,0.1,0.2", "model=mlp",
    "data=digits", "steps=20",
]  # fmt: skip
#: The words of runs that no store has.
NOT_TRAINED = ["norm=bn,gn", "model=mlp", "data=digits"]
#: Verb, the words of 10,000 runs without the seed, number of seeds, and processor seconds.
LONG_SWEEPS = [
    ("table --rows norm,optim.lr --cols batch", OF_STORE, 100, 4.0),
    ("status", OF_STORE, 100, 3.0),
    ("status", NOT_TRAINED, 5000, 2.0),
    ("plan", NOT_TRAINED, 5000, 5.0),
]
#: Processor seconds of the yardstick on the machine where the limits were measured, at light load.
YARDSTICK_S = 0.08


def fill(root: Path, specs: list[RunSpec], seeds: int) -> None:
    """Write a record and a curve per specification and seed."""
    for number, spec in enumerate(specs):
        for seed in range(seeds):
            made = spec.model_copy(update={"seed": seed})
            record = Record(
                made.signature, made.model_dump(mode="json"), "complete",
                {"test_error": 0.1 + 0.01 * number + 0.001 * seed, "test_loss": 1.0, "train_loss": 0.5},
                {"train_s": 1.0}, {"torch": "2.6", "device": "cpu"}, {"steps": 20, "stack_size": 1},
            )  # fmt: skip
            folder = root / "runs" / made.signature[:2] / made.signature
            folder.mkdir(parents=True)
            (folder / "record.json").write_text(record.to_json())
            (folder / "history.jsonl").write_text('{"step": 20, "test_error": 0.1}\n' * 20)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Number of records → results folder."""
    from normbench.config.compose import compose
    from normbench.config.resolve import resolve

    specs = [resolve(config).spec for config in compose(OF_STORE)]
    made = {100 * seeds: tmp_path_factory.mktemp(f"of{seeds}") for seeds in (10, 100)}
    for number, root in made.items():
        fill(root, specs, number // 100)
    return made


def seconds(arguments: list[str], root: Path) -> tuple[float, float]:
    """User and system seconds of a process and its children, and its wall time."""
    before = os.times()
    environment = os.environ | {"NORMBENCH_RESULTS": str(root), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return used, after.elapsed - before.elapsed


def slowness() -> float:
    """How many times longer this machine takes now than a free core of the machine of the limits."""
    began = time.process_time()
    tree = {str(number): {"value": number / 7, "list": list(range(20))} for number in range(2000)}
    for _ in range(10):
        json.loads(json.dumps(tree))
    return max(1.0, (time.process_time() - began) / YARDSTICK_S)


@pytest.mark.parametrize("verb", LIMITS)
def test_reading_ten_thousand_records_takes_seconds_and_no_more_per_record_than_a_thousand(verb, stores):
    verb_words = ["-m", "normbench", verb, *WORDS[verb]]
    scale = max(slowness(), slowness())
    (small, _), (large, wall) = (seconds(verb_words, stores[number]) for number in (1000, 10_000))
    start, _ = seconds(["-m", "normbench", verb, "--help"], stores[1000])
    print(
        f"{verb}: {small:.2f} s, {large:.2f} s (wall {wall:.2f} s); start {start:.2f} s; slowness {scale:.2f}"
    )
    assert large <= LIMITS[verb] * scale
    assert large - start <= 10 * max(small - start, 0.2) * 1.5


@pytest.mark.parametrize(("verb", "words", "seeds", "limit"), LONG_SWEEPS)
def test_the_words_of_ten_thousand_runs_take_seconds(verb, words, seeds, limit, stores, tmp_path):
    """Composing each run with Hydra took 23 s."""
    scale = max(slowness(), slowness())
    root = stores[10_000] if words is OF_STORE else tmp_path
    asked = [*words, f"seed=range({seeds})", "confirm_above=10000"]
    used, wall = seconds(["-m", "normbench", *verb.split(), *asked], root)
    print(f"{verb} {' '.join(asked)}: {used:.2f} s (wall {wall:.2f} s); slowness {scale:.2f}")
    assert used <= limit * scale
