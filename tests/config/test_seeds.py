"""Runs that differ only in the seed are resolved once, and each is what it would be alone."""

from __future__ import annotations

from typing import Any

import pytest

from normbench.config import seeds
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.config.seeds import SeedGroups
from normbench.errors import InputError
from normbench.spec import Resolved


def outcome(run: Resolved | InputError) -> object:
    """A run with its three hashes, or its error as text."""
    if isinstance(run, InputError):
        return str(run)
    return run, run.spec.signature, run.spec.stack_key(), run.spec.training_key(), run.spec.tree()


def alone(config: dict[str, Any]) -> object:
    try:
        return outcome(resolve(config))
    except InputError as error:
        return outcome(error)


@pytest.mark.parametrize(
    "words",
    [
        ["norm=bn,gn", "seed=range(4)"],
        ["norm.momentum=0.1,cumulative", "seed=3,1,2", "schedule=cosine,plateau", "data.valid=0.1"],
        ["seed=-1,0,1"],
        ["seed=0,-1,1.0,true,null,x,9223372036854775807,9223372036854775808,[1],2"],
        ["total=8", "batch=3,4", "seed=0,1"],
        ["eval.statistics=[running],[batch]", "seed=0,1", "norm.eps=1,true"],
    ],
    ids=" ".join,
)
def test_every_run_is_what_it_is_alone(words: list[str]) -> None:
    configs = compose(words)
    assert [outcome(run) for run in SeedGroups(configs).resolved(set())] == list(map(alone, configs))


def test_a_configuration_is_resolved_once_for_all_its_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(seeds, "resolve", lambda *given: calls.append(given) or resolve(*given))
    groups = SeedGroups(compose(["norm=bn,gn", "batch=2,4", "seed=range(50)"]))
    assert len(list(groups.resolved(set()))) == 200
    assert len(calls) == len(groups.firsts) == 4


def test_equal_configurations_that_share_nothing_are_resolved_alike() -> None:
    configs = [compose([f"seed={seed}"])[0] for seed in (0, 1)]
    assert len(SeedGroups(configs).firsts) == 2
    assert [outcome(run) for run in SeedGroups(configs).resolved(set())] == list(map(alone, configs))


def test_the_first_configuration_of_each_group_stands_for_it() -> None:
    configs = compose(["seed=3,4", "batch=2,4"])
    assert SeedGroups(configs).firsts == configs[:2]
    assert SeedGroups([]).firsts == []
