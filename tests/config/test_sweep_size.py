"""Sweeps are counted before they are built; a large one is confirmed on a terminal or refused."""

from __future__ import annotations

import io
import sys
import time

import pytest

from normbench.config.compose import compose, values_by_key
from normbench.config.resolve import resolve
from normbench.config.sweep_size import Confirmation
from normbench.errors import InputError


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (["seed=range(100000)"], "100,000"),
        (["seed=range(1000000000)", "batch=2,4"], "2,000,000,000"),
        (["seed=shuffle(range(1000000000))"], "1,000,000,000"),
        (["optim.lr=range(0,1,0.0001)"], "10,000"),
        (["seed=range(3)", "confirm_above=2"], "3"),
    ],
)
def test_a_large_sweep_is_refused_at_once_and_the_message_names_the_knob(words: list[str], runs: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InputError, match=f"the sweep has {runs} runs.*add confirm_above="):
        compose(words)
    assert time.perf_counter() - started < 10  # building it would take minutes


def test_listing_the_values_of_a_large_sweep_is_refused_too() -> None:
    with pytest.raises(InputError, match="1,000,000,000 runs"):
        values_by_key(["seed=range(1000000000)"])


def test_a_step_that_does_not_divide_the_range_counts_its_last_value() -> None:
    assert values_by_key(["seed=range(0,3,2)", "confirm_above=2"])["seed"] == ["0", "2"]
    with pytest.raises(InputError, match="the sweep has 2 runs"):
        values_by_key(["seed=range(0,3,2)", "confirm_above=1"])


def test_the_limit_can_be_raised_and_leaves_the_signature() -> None:
    one, other = compose(["seed=1,1", "confirm_above=2"])
    [usual] = compose(["seed=1"])
    assert resolve(one).spec.signature == resolve(other).spec.signature == resolve(usual).spec.signature


def test_of_two_words_with_one_key_the_last_counts() -> None:
    assert len(compose(["seed=range(100000)", "seed=1,2"])) == 2


@pytest.mark.parametrize("word", ["seed=range(0,inf)", "seed=range(0,3,0)", "seed=range(nan,3)"])
def test_a_range_without_an_end_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="a range needs finite numbers and a step that is not 0"):
        compose([word])


@pytest.mark.parametrize("value", ["0", "true", "many", "1.5", "1,2", "null"])
def test_the_limit_is_one_whole_number(value: str) -> None:
    with pytest.raises(InputError, match="confirm_above must be a whole number ≥ 1"):
        compose([f"confirm_above={value}"])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "goes_on"), [("y\n", True), ("yes\n", True), ("\n", False), ("", False)])
def test_a_terminal_is_asked_once(answer: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", screen)
    confirmation = Confirmation(2)
    confirmation.check(2)
    assert screen.getvalue() == ""
    if goes_on:
        confirmation.check(3)
        confirmation.check(3)
    else:
        with pytest.raises(InputError, match="nothing was done"):
            confirmation.check(3)
    assert screen.getvalue() == "the sweep has 3 runs, more than confirm_above=2; go on? [y/N] "
