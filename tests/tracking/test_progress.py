"""Counting the run-steps of a sweep from its events."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from normbench.events import StackLogged, StackSplit, SweepStarted
from normbench.tracking.progress import WINDOW_S, Progress


def begun(steps: int) -> Progress:
    progress = Progress()
    progress.apply(SweepStarted(runs=6, finished=2, stacks=2, steps=steps), now=0.0)
    return progress


def test_done_counts_every_lane_of_every_stack(make: SimpleNamespace) -> None:
    progress = begun(steps=400)
    progress.apply(make.started(("a", "b")), now=0.0)
    progress.apply(make.started(("c", "d")), now=0.0)
    progress.apply(make.logged(("a", "b"), step=30), now=1.0)
    progress.apply(make.logged(("c", "d"), step=5), now=1.0)
    assert progress.done == 70


def test_rate_and_time_left_follow_from_the_steps(make: SimpleNamespace) -> None:
    progress = begun(steps=200)
    assert progress.rate(0.0) == 0.0
    assert progress.left_s(0.0) is None
    progress.apply(make.started(), now=0.0)
    progress.apply(make.logged(step=50), now=10.0)
    assert progress.rate(10.0) == pytest.approx(10.0)
    assert progress.left_s(10.0) == pytest.approx(10.0)


def test_the_rate_forgets_what_is_older_than_its_window(make: SimpleNamespace) -> None:
    progress = begun(steps=200_000)
    progress.apply(make.started(steps=100_000), now=0.0)
    progress.apply(make.logged(step=50_000), now=10.0)  # 10,000 run-steps per second, then 2
    for second in range(11, 11 + 2 * int(WINDOW_S)):
        progress.apply(make.logged(step=50_000 + second - 10), now=float(second))
    assert progress.rate(10.0 + 2 * WINDOW_S) == pytest.approx(2.0, rel=0.05)


def test_resumed_steps_are_done_but_not_trained_now(make: SimpleNamespace) -> None:
    progress = begun(steps=200)
    progress.apply(make.started(first_step=60), now=0.0)
    assert progress.done == 120
    progress.apply(make.logged(step=70), now=10.0)
    assert progress.done == 140
    assert progress.rate(10.0) == pytest.approx(2.0)


def test_a_run_that_diverged_leaves_no_work_and_does_not_raise_the_rate(make: SimpleNamespace) -> None:
    progress = begun(steps=200)
    progress.apply(make.started(), now=0.0)
    progress.apply(make.logged(step=10), now=10.0)
    progress.apply(make.ended("a", "diverged"), now=10.0)
    assert progress.done == 100 + 10
    assert progress.rate(10.0) == pytest.approx(2.0)
    progress.apply(make.logged(step=20), now=20.0)
    assert progress.rate(20.0) == pytest.approx((20 + 10) / 20.0)  # one lane is left


def test_a_complete_run_counts_to_its_last_step(make: SimpleNamespace) -> None:
    progress = begun(steps=200)
    progress.apply(make.started(), now=0.0)
    progress.apply(make.ended("a"), now=10.0)
    progress.apply(make.ended("b"), now=10.0)
    assert progress.done == 200
    assert progress.rate(10.0) == pytest.approx(20.0)


def test_the_last_run_of_a_stack_ends_it(make: SimpleNamespace) -> None:
    progress = begun(steps=200)
    progress.apply(make.started(), now=3.0)
    assert progress.apply(make.ended("a", test_error=0.1), now=4.0) is None
    stack = progress.apply(make.ended("b", test_error=0.3), now=4.0)
    assert stack is not None
    assert [group.test_error for group in stack.groups.values()] == [pytest.approx(0.2)]
    assert progress.stacks == []


def test_a_split_stack_is_forgotten_until_its_runs_start_again(make: SimpleNamespace) -> None:
    progress = begun(steps=200)
    progress.apply(make.started(), now=0.0)
    progress.apply(make.logged(step=50), now=1.0)
    progress.apply(StackSplit(("a", "b"), "out of memory"), now=1.0)
    assert (progress.done, progress.stacks) == (0, [])
    progress.apply(make.logged(step=60), now=1.0)  # late news of it
    progress.apply(make.started(("a",), first_step=40), now=2.0)
    progress.apply(make.started(("b",), first_step=40), now=2.0)
    assert progress.done == 80


def test_a_run_that_no_stack_trained_is_counted_by_its_status_alone(make: SimpleNamespace) -> None:
    progress = begun(steps=200)
    assert progress.apply(make.ended("z", "failed"), now=1.0) is None
    assert (progress.ended, progress.done) == (1, 0)


def test_the_loss_of_a_group_is_the_mean_over_its_finite_lanes(make: SimpleNamespace) -> None:
    progress = begun(steps=200)
    progress.apply(make.started(), now=0.0)
    (group,) = progress.stacks[0].groups.values()
    assert group.train_loss is None
    progress.apply(StackLogged(("a", "b"), 10, ({"train_loss": 1.0}, {"train_loss": None})), now=1.0)
    assert group.train_loss == pytest.approx(1.0)
