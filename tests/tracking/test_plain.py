"""The plain view: the lines in the log file of a sweep."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import pytest

from normbench.events import Notice, RunEvaluated, StackSplit, StackStarted, SweepStarted
from normbench.labels import varying
from normbench.tracking.plain import INTERVAL_S, PlainView


class Screen:
    """A plain view and what it wrote."""

    def __init__(self, clock: object) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.view = PlainView(self.out, self.err, clock)

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


@pytest.fixture
def screen(clock: object) -> Screen:
    return Screen(clock)


def test_a_sweep_prints_these_lines(screen: Screen, clock: SimpleNamespace, make: SimpleNamespace) -> None:
    tell = screen.view.notify
    tell(SweepStarted(runs=18, finished=15, stacks=2, steps=3000))
    tell(make.started(("a", "b"), steps=1000))
    tell(make.started(("c",), steps=1000, norm={"name": "gn"}, weight={"name": "ws"}, workers=8))
    clock.now += 12
    tell(make.logged(("a", "b"), step=600))
    clock.now += 4
    tell(make.logged(("a", "b"), step=990))
    tell(make.ended("a", test_error=0.02))
    tell(make.ended("b", test_error=0.03))
    clock.now += 60
    tell(make.ended("c", "diverged", test_error=None))
    screen.view.close()
    assert screen.lines == [
        "18 runs: 15 finished before, 3 to train in 2 stacks",
        "40% · 1,200 of 3,000 run-steps · 100/s · 18 s left · 2 stacks training",
        "2/3 lenet5 bn batch 2 · 2 seeds (0–1) · test error 2.50 % · 16 s",
        "3/3 lenet5 gn+ws batch 2 × 8 workers · seed 0 · 1 diverged · 1 min 16 s",
        "3 of 3 runs ended in 1 min 16 s: 2 complete, 1 diverged",
    ]
    assert screen.err.getvalue() == ""


def test_four_learning_rates_in_one_stack_are_four_lines(screen: Screen, make: SimpleNamespace) -> None:
    screen.view.notify(SweepStarted(runs=8, finished=0, stacks=1, steps=800))
    screen.view.notify(make.mixed(*({"optim": {"lr": lr}} for lr in (0.1, 0.2, 0.4, 1.0)), seeds=2))
    for number in range(4):
        screen.view.notify(make.ended(f"{number}-0", test_error=number / 10))
        screen.view.notify(make.ended(f"{number}-1", test_error=number / 10 + 0.02))
    assert screen.lines[1:] == [
        f"8/8 lenet5 bn batch 2 optim.lr={lr} · 2 seeds (0–1) · test error {error} % · 0.0 s"
        for lr, error in (("0.1", "1.00"), ("0.2", "11.00"), ("0.4", "21.00"), ("1", "31.00"))
    ]


@pytest.mark.parametrize(
    "choices",
    [
        [{"norm": {"name": "bn", "momentum": m}} for m in (0.1, 0.9)],
        [{"placement": {"name": name}} for name in ("conv_norm_act", "after_add", "norm_act_conv")],
        [{"norm": {"name": "gn", "args": {"group_size": g}}} for g in (8, 16)],
        [{"norm": {"name": "bn", "momentum": m}} for m in (0.1, 0.9)] + [{"norm": {"name": "gn"}}],
        [{"schedule": {"name": "step", "gamma": g}} for g in (0.1, 0.2)],
        [{"steps": 100}, {"steps": 200}],
        [{"data": {"name": "folder", "path": p, "fingerprint": p}} for p in ("/a", "/b")],
    ],
    ids=lambda choices: "-".join(sorted({key for choice in choices for key in choice})),
)
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_no_two_lines_are_equal_and_each_configuration_has_its_own(
    choices: list[dict[str, object]], told: bool, together: bool, screen: Screen, make: SimpleNamespace
) -> None:
    fields = tuple(varying([make.spec(0, **choice) for choice in choices])) if told else ()
    screen.view.notify(SweepStarted(len(choices), 0, len(choices), 100, varying=fields))
    stacks = [make.mixed(*choices)]
    if not together:
        one = stacks[0]
        stacks = [
            StackStarted((s,), (spec,), (group,), 100, 0)
            for s, spec, group in zip(one.signatures, one.specs, one.groups, strict=True)
        ]
    for stack in stacks:  # as worker processes start them: all before the first ends
        screen.view.notify(stack)
    for number in range(len(choices)):
        screen.view.notify(make.ended(f"{number}-0", test_error=number / 100))
    titles = [line.split(" ", 1)[1].partition(" · test error")[0] for line in screen.lines[1:]]
    assert len(set(titles)) == len(choices)
    assert [line.partition("test error ")[2][:4] for line in screen.lines[1:]] == [
        f"{number}.00" for number in range(len(choices))
    ]


def test_the_first_line_of_a_sweep_names_what_later_stacks_change(
    screen: Screen, make: SimpleNamespace
) -> None:
    screen.view.notify(SweepStarted(2, 0, 2, 200, varying=("placement",)))
    screen.view.notify(make.started(("a",), placement={"name": "after_add"}))
    screen.view.notify(make.ended("a"))
    assert screen.lines[-1] == "1/2 lenet5 bn batch 2 placement=after_add · seed 0 · 0.0 s"


def test_a_split_names_what_its_runs_have_in_common(screen: Screen, make: SimpleNamespace) -> None:
    screen.view.notify(SweepStarted(4, 0, 2, 400, varying=("optim.lr", "placement")))
    place = {"placement": {"name": "after_add"}}
    screen.view.notify(make.mixed(*({"optim": {"lr": lr}} | place for lr in (0.1, 0.2))))
    screen.view.notify(StackSplit(("0-0", "1-0"), "out of memory"))
    assert screen.err.getvalue() == (
        "lenet5 bn batch 2 placement=after_add · 2 runs: out of memory; its runs continue in smaller stacks\n"
    )


def test_a_diverged_run_is_counted_in_its_own_group(screen: Screen, make: SimpleNamespace) -> None:
    screen.view.notify(SweepStarted(2, 0, 1, 200, varying=("optim.lr",)))
    screen.view.notify(make.mixed({"optim": {"lr": 0.1}}, {"optim": {"lr": 9.0}}))
    screen.view.notify(make.ended("1-0", "diverged", test_error=None))
    screen.view.notify(make.ended("0-0", test_error=0.5))
    assert screen.lines[1:] == [
        "2/2 lenet5 bn batch 2 optim.lr=0.1 · seed 0 · test error 50.00 % · 0.0 s",
        "2/2 lenet5 bn batch 2 optim.lr=9 · seed 0 · 1 diverged · 0.0 s",
    ]


def test_runs_to_evaluate_are_not_runs_to_train(screen: Screen) -> None:
    screen.view.notify(SweepStarted(runs=3, finished=1, stacks=0, steps=0, evaluations=2))
    screen.view.close()
    assert screen.lines == ["3 runs: 1 finished before, 2 to evaluate without training"]


def test_an_evaluated_run_is_one_line_with_the_added_metrics(screen: Screen, make: SimpleNamespace) -> None:
    screen.view.notify(SweepStarted(2, 2, 0, 0, varying=("optim.lr",)))
    record = make.ended("a", test_error=0.5, **{"test_error@precise": 0.25}).record
    record = replace(record, spec=make.spec(3, optim={"lr": 0.1}))
    screen.view.notify(RunEvaluated(record, ("test_error@precise",)))
    assert screen.lines[-1] == "evaluated lenet5 bn batch 2 optim.lr=0.1 seed=3 · test_error@precise 25.00 %"


def test_nothing_to_train_is_one_line(screen: Screen) -> None:
    screen.view.notify(SweepStarted(runs=18, finished=18, stacks=0, steps=0))
    screen.view.close()
    assert screen.lines == ["18 runs: all finished before, nothing to train"]


def test_an_interrupted_sweep_says_how_far_it_came(
    screen: Screen, clock: SimpleNamespace, make: SimpleNamespace
) -> None:
    screen.view.notify(SweepStarted(runs=2, finished=0, stacks=1, steps=200))
    screen.view.notify(make.started())
    clock.now += 3.25
    screen.view.close()
    assert screen.lines[-1] == "0 of 2 runs ended in 3.2 s"


def test_notices_and_splits_go_to_stderr(screen: Screen, make: SimpleNamespace) -> None:
    screen.view.notify(Notice("wandb works offline"))
    screen.view.notify(make.started())
    screen.view.notify(StackSplit(("a", "b"), "out of memory"))
    assert screen.lines == []
    assert screen.err.getvalue().splitlines() == [
        "wandb works offline",
        "lenet5 bn batch 2 · 2 runs: out of memory; its runs continue in smaller stacks",
    ]


def test_four_hundred_seeds_make_one_line_per_stack(screen: Screen, make: SimpleNamespace) -> None:
    screen.view.notify(SweepStarted(runs=400, finished=0, stacks=4, steps=40_000))
    for stack in range(4):
        lanes = tuple(f"{stack}-{lane}" for lane in range(100))
        screen.view.notify(make.started(lanes))
        for lane in lanes:
            screen.view.notify(make.ended(lane, "failed"))
    screen.view.close()
    assert len(screen.lines) == 1 + 4 + 1
    assert screen.lines[-1].endswith("400 failed")


def test_progress_is_printed_at_most_once_per_interval(
    screen: Screen, clock: SimpleNamespace, make: SimpleNamespace
) -> None:
    screen.view.notify(SweepStarted(runs=2, finished=0, stacks=1, steps=20_000))
    screen.view.notify(make.started(steps=10_000))
    for step in range(10_000):
        clock.now += 1 / 128
        screen.view.notify(make.logged(step=step))
    assert len(screen.lines) == 1 + int(10_000 / 128 / INTERVAL_S)


def test_a_slow_rate_has_two_digits(screen: Screen, clock: SimpleNamespace, make: SimpleNamespace) -> None:
    screen.view.notify(SweepStarted(runs=2, finished=0, stacks=1, steps=200))
    screen.view.notify(make.started())
    clock.now += 100
    screen.view.notify(make.logged(step=3))
    assert "6 of 200 run-steps · 0.06/s" in screen.lines[-1]


def test_a_second_sweep_starts_from_nothing(screen: Screen, make: SimpleNamespace) -> None:
    for _ in range(2):
        screen.view.notify(SweepStarted(runs=1, finished=0, stacks=1, steps=100))
        screen.view.notify(make.started(("a",)))
        screen.view.notify(make.ended("a"))
    screen.view.close()
    assert screen.lines == 2 * [
        "1 run: 0 finished before, 1 to train in 1 stack",
        "1/1 lenet5 bn batch 2 · seed 0 · 0.0 s",
        "1 of 1 run ended in 0.0 s: 1 complete",
    ]


def test_no_control_code_is_written(screen: Screen, clock: SimpleNamespace, make: SimpleNamespace) -> None:
    screen.view.notify(SweepStarted(runs=2, finished=0, stacks=1, steps=200))
    screen.view.notify(make.started())
    clock.now += 11
    screen.view.notify(make.logged())
    screen.view.close()
    assert not set(screen.out.getvalue()) & {"\x1b", "\r", "\b"}
