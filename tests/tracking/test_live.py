"""The live view: what a terminal shows during a sweep and after it."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from normbench.events import Notice, RunEvaluated, StackLogged, StackSplit, SweepStarted
from normbench.tracking import console as console_module
from normbench.tracking.live import LiveView
from normbench.tracking.plain import PlainView


class Terminal:
    """A live view on a terminal of 100 columns."""

    def __init__(self, clock: object, err: io.StringIO | None = None) -> None:
        self.file = io.StringIO()
        self.view = LiveView(Console(force_terminal=True, file=self.file, width=100, height=20), err, clock)

    @property
    def text(self) -> str:
        return self.file.getvalue()


@pytest.fixture
def terminal(clock: object) -> Terminal:
    return Terminal(clock)


def sweep(terminal: Terminal, clock: SimpleNamespace, make: SimpleNamespace) -> None:
    terminal.view.notify(SweepStarted(runs=18, finished=6, stacks=4, steps=1200))
    terminal.view.notify(make.started())
    clock.now += 5
    terminal.view.notify(make.logged(step=50, train_loss=0.25))


def test_the_view_shows_the_sweep_and_every_stack_that_trains(
    terminal: Terminal, clock: SimpleNamespace, make: SimpleNamespace
) -> None:
    sweep(terminal, clock, make)
    for words in (
        "18 runs: 6 finished before, 12 to train in 4 stacks",
        "100 of 1,200 run-steps",
        "20/s",
        "55 s left",
        "lenet5 bn batch 2 · 2 seeds (0–1)",
        "step 50/100",
        "train_loss 0.2500",
    ):
        assert words in terminal.text
    terminal.view.close()


def test_what_ends_is_kept_above_and_the_cursor_comes_back(
    terminal: Terminal, clock: SimpleNamespace, make: SimpleNamespace
) -> None:
    sweep(terminal, clock, make)
    terminal.view.notify(make.ended("a", test_error=0.02))
    terminal.view.notify(make.ended("b", "failed"))
    terminal.view.close()
    assert "2/12 lenet5 bn batch 2 · 2 seeds (0–1) · test error 2.00 % · 1 failed · 5.0 s" in terminal.text
    assert "2 of 12 runs ended in 5.0 s: 1 complete, 1 failed" in terminal.text
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")


def test_notices_and_splits_are_printed_above_word_for_word(
    terminal: Terminal, clock: SimpleNamespace, make: SimpleNamespace
) -> None:
    sweep(terminal, clock, make)
    terminal.view.notify(Notice("[bold]brackets[/bold] are text"))
    terminal.view.notify(StackSplit(("a", "b"), "out of memory"))
    terminal.view.close()
    assert "[bold]brackets[/bold] are text" in terminal.text
    assert "2 runs: out of memory; its runs continue in smaller stacks" in terminal.text


def test_notices_go_to_stderr_if_stderr_is_a_file(clock: SimpleNamespace, make: SimpleNamespace) -> None:
    err = io.StringIO()
    terminal = Terminal(clock, err)
    sweep(terminal, clock, make)
    terminal.view.notify(Notice("for the log"))
    terminal.view.close()
    assert err.getvalue() == "for the log\n"
    assert "for the log" not in terminal.text


def test_drawing_is_throttled(clock: SimpleNamespace, make: SimpleNamespace) -> None:
    terminal = Terminal(clock)
    terminal.view.notify(SweepStarted(runs=2, finished=0, stacks=1, steps=20_000))
    terminal.view.notify(make.started(steps=10_000))
    for step in range(10_000):
        clock.now += 0.001
        terminal.view.notify(make.logged(step=step))
    terminal.view.close()
    assert 30 < terminal.text.count("train_loss") <= 41  # 10 s, a drawing every quarter second


def test_more_stacks_than_fit_are_counted(
    terminal: Terminal, clock: SimpleNamespace, make: SimpleNamespace
) -> None:
    terminal.view.notify(SweepStarted(runs=50, finished=0, stacks=50, steps=5000))
    for stack in range(50):
        terminal.view.notify(make.started((f"{stack}",)))
    clock.now += 1
    terminal.view.notify(make.logged(("0",)))
    terminal.view.close()
    assert "… and 36 more" in terminal.text


def test_every_configuration_of_a_stack_has_a_row_and_a_line(
    terminal: Terminal, clock: SimpleNamespace, make: SimpleNamespace
) -> None:
    terminal.view.notify(SweepStarted(runs=4, finished=0, stacks=1, steps=400))
    stack = make.mixed({"optim": {"lr": 0.1}}, {"optim": {"lr": 0.2}}, seeds=2)
    terminal.view.notify(stack)
    clock.now += 1
    points = tuple({"train_loss": loss} for loss in (1.0, 2.0, 3.0, 5.0))
    terminal.view.notify(StackLogged(stack.signatures, 10, points))
    for signature, error in zip(stack.signatures, (0.1, 0.2, 0.3, 0.4), strict=True):
        terminal.view.notify(make.ended(signature, test_error=error))
    terminal.view.close()
    for lr, loss, error in (("0.1", "1.5000", "15.00"), ("0.2", "4.0000", "35.00")):
        title = f"lenet5 bn batch 2 optim.lr={lr} · 2 seeds (0–1)"
        assert f"4/4 {title} · test error {error} % · 1.0 s" in terminal.text
        row = next(line for line in terminal.text.splitlines() if title in line and "step" in line)
        assert f"train_loss {loss}" in row


def test_an_evaluated_run_is_printed_above(terminal: Terminal, make: SimpleNamespace) -> None:
    terminal.view.notify(SweepStarted(1, 1, 0, 0))
    record = replace(make.ended("a", **{"test_error@batch": 0.25}).record, spec=make.spec(0))
    terminal.view.notify(RunEvaluated(record, ("test_error@batch",)))
    assert "evaluated lenet5 bn batch 2 seed=0 · test_error@batch 25.00 %\n" in terminal.text


def test_nothing_to_train_is_one_line(terminal: Terminal) -> None:
    terminal.view.notify(SweepStarted(runs=3, finished=3, stacks=0, steps=0))
    terminal.view.close()
    assert terminal.text == "3 runs: all finished before, nothing to train\n"


def test_a_second_sweep_gets_a_view_of_its_own(
    terminal: Terminal, clock: SimpleNamespace, make: SimpleNamespace
) -> None:
    sweep(terminal, clock, make)
    sweep(terminal, clock, make)
    terminal.view.close()
    assert terminal.text.count("0 of 12 runs ended") == 2


@pytest.mark.parametrize(
    ("environment", "is_a_terminal", "live"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"CI": "true"}, True, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_the_live_view_is_for_terminals_that_can_be_redrawn(
    environment: dict[str, str], is_a_terminal: bool, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "CI", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: is_a_terminal, write=print, flush=print))
    assert isinstance(console_module.console_view(), LiveView if live else PlainView)
