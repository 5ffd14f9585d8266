"""A sweep's configurations as RunSpecs: what its choices lack is dropped, and impossible runs are named.

`invalid=refuse` refuses the sweep if one of its runs is impossible. `invalid=skip` leaves such runs out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from normbench.config.choices import GROUPS, owners
from normbench.config.knobs import arguments_of
from normbench.config.seeds import SeedGroups
from normbench.errors import InputError, unknown
from normbench.executor_spec import HERE, ExecutorSpec, parse_executor
from normbench.labels import settings, varying
from normbench.spec import Resolved

REFUSE, SKIP = "refuse", "skip"
#: Values of `on_error`; the first is the default.
ON_ERROR = ("continue", "stop")


@dataclass(frozen=True)
class Skipped:
    """A run that is impossible and was left out.

    words:  what sets it apart from the other runs, such as "norm=in batch=1".
    reason: why it is impossible, in one line.
    fields: its configuration as far as it could be resolved; shaped as a RunSpec's tree.
    """

    words: str
    reason: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class SweepSpecs:
    """The runs of one command.

    asked:   all runs in order, those left out included.
    keys:    the fields in which the runs differ.
    invalid: "refuse" or "skip": what becomes of an impossible run.
    on_error: "continue" or "stop": what becomes of the other runs if one fails.
    executor: where the stacks train.
    """

    asked: tuple[Resolved | Skipped, ...]
    keys: tuple[str, ...] = ()
    invalid: str = REFUSE
    on_error: str = ON_ERROR[0]
    executor: ExecutorSpec = HERE

    @property
    def runs(self) -> list[Resolved]:
        """The runs to get or train, in order."""
        return [run for run in self.asked if isinstance(run, Resolved)]

    @property
    def skipped(self) -> list[Skipped]:
        """The runs left out, in order."""
        return [run for run in self.asked if isinstance(run, Skipped)]

    def without(self, faults: Mapping[str, InputError]) -> SweepSpecs:
        """The runs without those that cannot be built.

        Args:
            faults: why a run cannot be built, by signature.

        Raises:
            InputError: there are faults and `invalid` is "refuse", or no run is left.
        """

        def check(run: Resolved | Skipped) -> Resolved | Skipped:
            if isinstance(run, Skipped) or run.spec.signature not in faults:
                return run
            return _skipped(run.spec.model_dump(mode="json"), self.keys, faults[run.spec.signature])

        found = replace(self, asked=tuple(map(check, self.asked)))
        found.check()
        return found

    def check(self) -> None:
        """Refuse impossible runs, unless they may be left out and others remain.

        Raises:
            InputError: names the first impossible run and says how many there are.
        """
        total, impossible = len(self.asked), self.skipped
        if not impossible or (self.invalid == SKIP and len(impossible) < total):
            return
        first = impossible[0]
        name = f"{first.words}: " if first.words and total > 1 else ""
        if len(impossible) == total:
            more = f"; none of the {total} runs is possible" if total > 1 else ""
        else:
            more = f"; {len(impossible)} of {total} runs cannot exist, invalid={SKIP} leaves them out"
        raise InputError(f"{name}{first.reason}{more}")

    def notes(self) -> list[str]:
        """One line per run that was left out; equal ones once."""
        lines = dict.fromkeys((run.words, run.reason) for run in self.skipped)
        return [f"n/a: {words or 'this run'}: {reason}" for words, reason in lines]


def resolve_sweep(configs: Sequence[Mapping[str, Any]]) -> SweepSpecs:
    """The runs of composed configurations, in order.

    An argument such as norm.args.group_size is dropped for choices that lack it, if another run has it.

    Raises:
        InputError: an argument that no run has, several trackers, a run that is impossible (unless
            `invalid` is "skip"), or no run that is possible.
    """
    groups = SeedGroups(configs)
    invalid = _one_value(groups.firsts, "invalid", REFUSE)
    if invalid not in (REFUSE, SKIP):
        raise InputError(f"invalid must be {REFUSE} or {SKIP}; got {invalid!r}")
    on_error = _one_value(groups.firsts, "on_error", ON_ERROR[0])
    if on_error not in ON_ERROR:
        raise InputError(f"on_error must be {' or '.join(ON_ERROR)}; got {on_error!r}")
    executor = parse_executor(_one_value(groups.firsts, "executor", None))
    _one_value(groups.firsts, "tracking", None)
    elsewhere = _arguments(groups.firsts, lone=len(configs) == 1)
    keys = varying([_comparable(config) for config in groups.firsts])
    asked = tuple(
        _skipped(config, keys, run) if isinstance(run, InputError) else run
        for config, run in zip(configs, groups.resolved(elsewhere), strict=True)
    )
    specs = SweepSpecs(asked, tuple(keys), invalid, on_error, executor)
    specs.check()
    return specs


def _arguments(configs: Sequence[Mapping[str, Any]], *, lone: bool) -> set[str]:
    """The arguments that the choices of all runs have, and "optim.ema" if a run averages its weights.

    Args:
        lone: whether the command has one run, so that `resolve` refuses its arguments.

    Raises:
        InputError: several runs are given an argument that none of them has.
    """
    having = {
        path for config in configs for group in GROUPS for path in arguments_of(group, config.get(group))
    }
    if not lone:
        for group in GROUPS:
            given = {name for config in configs for name in _given(config, group)}
            for path in sorted(given - having):
                raise _no_owner(group, path, [each for each in having if each.startswith(f"{group}.")])
    if any(_averages(config) for config in configs):
        having.add("optim.ema")
    return having


def _averages(config: Mapping[str, Any]) -> bool:
    """Whether a run averages its weights."""
    optim = config.get("optim")
    return isinstance(optim, Mapping) and optim.get("ema") is not None


def _no_owner(group: str, path: str, having: Sequence[str]) -> InputError:
    """The error for an argument that no choice of the sweep has."""
    names = owners(group).get(path.removeprefix(f"{group}.args."), [])
    some = ", ".join(f"{group}={name}" for name in names[:4]) + (", …" if len(names) > 4 else "")
    if some:
        return InputError(f"{path} is an argument of {some}, but no run of the sweep has it")
    return unknown("argument", path, having, remedy="no run of the sweep has it")


def _given(config: Mapping[str, Any], group: str) -> list[str]:
    part = config.get(group)
    arguments = part.get("args") if isinstance(part, Mapping) else None
    return [f"{group}.args.{name}" for name in arguments] if isinstance(arguments, Mapping) else []


def _one_value(configs: Sequence[Mapping[str, Any]], key: str, default: Any) -> Any:
    """The value of a key that holds for the whole command.

    Raises:
        InputError: runs differ in it.
    """
    values = {json.dumps(config.get(key, default), sort_keys=True) for config in configs}
    if len(values) > 1:
        hint = "; quote a value with a comma: 'tracking.project=\"a,b\"'" if key == "tracking" else ""
        raise InputError(f"{key} must be the same for all runs of a command{hint}")
    return json.loads(values.pop()) if values else default


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as `varying` compares it; workers that are no number cannot make a total."""
    whole = all(isinstance(config.get(key), int) for key in ("batch", "workers"))
    return {key: value for key, value in config.items() if key != "workers" or whole}


def _skipped(fields: Mapping[str, Any], keys: Sequence[str], error: InputError) -> Skipped:
    return Skipped(settings(fields, keys), str(error), fields)
