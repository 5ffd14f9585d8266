"""`make test-soak`: what counts as growth of memory or of time per run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from soak import Look, growth, quarters

MIB = 2**20


def looks(parent: float = 0.0, workers: float = 0.0, slower: float = 0.0) -> list[Look]:
    """A sweep of 100 runs; bytes per run by which memory grows, and the growth of seconds per run."""
    return [
        Look(run, int(500 * MIB + parent * run), int(900 * MIB + workers * run), 0.01 * run,
             sum(0.03 * (1 + slower * k) for k in range(run)))
        for run in range(100)
    ]  # fmt: skip


def test_a_flat_sweep_has_no_growth():
    assert growth(quarters(looks(), 100)) == []


@pytest.mark.parametrize("grows", [{"parent": 2 * MIB}, {"workers": 4 * MIB}])
def test_memory_that_grows_with_the_runs_is_named(grows):
    [said] = growth(quarters(looks(**grows), 100))
    assert said.startswith(f"memory of the {next(iter(grows))} has grown from ")


def test_memory_of_the_first_quarter_does_not_count():
    begun = [
        look if look.runs > 25 else Look(look.runs, MIB, MIB, look.parent_s, look.workers_s)
        for look in looks()
    ]
    assert growth(quarters(begun, 100)) == []


def test_runs_that_take_longer_and_longer_are_named():
    [said] = growth(quarters(looks(slower=0.02), 100))
    assert said.startswith("processor time per run has grown from ")


def test_too_few_looks_are_refused():
    with pytest.raises(SystemExit, match="too few runs"):
        quarters(looks()[:10], 100)


@pytest.mark.slow
def test_two_hundred_runs_are_flat():
    script = Path(__file__).parents[1] / "scripts" / "soak.py"
    ended = subprocess.run([sys.executable, str(script), "200"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "200 of 200 runs" in ended.stdout
