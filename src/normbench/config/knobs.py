"""The knobs of one choice, such as norm=gn: unused ones are dropped, null and types are checked.

A knob that is null in the packaged YAML of a choice does not exist for it (`norm/gn.yaml` has no momentum).
Whatever is set there is dropped, so runs that differ only in it are one run. Every other knob needs a value.
Equal values get one spelling, so that equal runs have one signature.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from normbench.config.choices import FACTS, choices, declared, owners
from normbench.errors import InputError, unknown
from normbench.momentum import parse_momentum
from normbench.numbers import LARGEST

#: The meaning of null for knobs where a library documents one: torch's momentum=None is the plain average.
NULL_MEANS = {"norm.momentum": "cumulative"}


def choice_name(group: str, values: object) -> str:
    """The name of the choice of a group.

    Raises:
        InputError: there is none.
    """
    name = values.get("name") if isinstance(values, dict) else values
    if not isinstance(name, str) or not isinstance(values, dict):
        raise InputError(f"{group}.name must be a name out of {', '.join(choices(group))}; got {name!r}")
    return name


def settle(
    group: str, values: dict[str, Any], known: Mapping[str, Any], elsewhere: Collection[str] = ()
) -> list[str]:
    """Bring the knobs of one choice to the values in force, in place.

    Args:
        group:     such as "norm".
        values:    the knobs as configured, with `name`.
        known:     the knobs that the choice declares, with their defaults.
        elsewhere: arguments that other runs of the sweep have, such as "norm.args.group_size". They are
                   dropped here instead of refused.

    Returns:
        The knobs that were set and dropped, such as "norm.momentum of gn".

    Raises:
        InputError: an unknown argument, null where a value is needed, or a value of another type.
    """
    name = choice_name(group, values)
    choice = f"{group}={name}"
    unused = []
    for knob, default in known.items():
        if knob in FACTS:
            continue
        if default is None and values.get(knob) is not None:
            values[knob] = None
            unused.append(f"{group}.{knob} of {name}")
        elif knob in values and values[knob] is None and _needs_value(knob, default):
            values[knob] = _null(f"{group}.{knob}", choice, default)
    if "args" in known and values.get("args") is None:
        values["args"] = {}
    arguments = values.get("args", {})
    if not isinstance(arguments, dict):
        raise InputError(f"{group}.args must be written {{argument:value}}; got {arguments!r}")
    for argument in list(arguments):
        if argument in (known.get("args") or {}):
            path, default = f"{group}.args.{argument}", known["args"][argument]
            arguments[argument] = _canonical(path, choice, arguments[argument], default)
        elif f"{group}.args.{argument}" in elsewhere:
            del arguments[argument]
            unused.append(f"{group}.args.{argument} of {name}")
        else:
            raise _unknown_argument(group, choice, argument, list(known.get("args") or {}))
    for argument, default in (known.get("args") or {}).items():
        arguments.setdefault(argument, default)  # a file of the user's own may leave some out
    return unused


def _needs_value(knob: str, default: Any) -> bool:
    """Whether null is no value for a knob with this default. What the environment gives may be null."""
    from_environment = isinstance(default, str) and default.startswith("${")
    return default is not None and knob != "args" and not from_environment


def arguments_of(group: str, values: object) -> list[str]:
    """The arguments that the choice of a group has, such as "norm.args.group_size"."""
    name = values.get("name") if isinstance(values, dict) else None
    if not isinstance(name, str) or name not in choices(group):
        return []
    return [f"{group}.args.{argument}" for argument in declared(group, name).get("args") or {}]


def _null(path: str, choice: str, default: Any) -> Any:
    """The meaning of null for a knob that the choice has.

    Raises:
        InputError: null has no meaning there.
    """
    if path in NULL_MEANS:
        return NULL_MEANS[path]
    usual = "" if default == "???" else f" (default: {default})"
    zero = "; write 0 to switch it off" if path == "optim.momentum" else ""
    raise InputError(f"{path} must have a value for {choice}{usual}; got null{zero}")


def _canonical(path: str, choice: str, given: Any, default: Any) -> Any:
    """An argument's value in its one spelling: 3 is 3.0 for a float, keras:0.9 is 0.1 for a momentum.

    Raises:
        InputError: the value is not finite or has another type than the default.
    """
    if isinstance(given, float) and not math.isfinite(
        given
    ):  # JSON has no such number, so no signature either
        raise InputError(f"{path} of {choice} must be finite; got {given}")
    if isinstance(given, int | float) and not isinstance(given, bool) and abs(given) > LARGEST:
        raise InputError(f"{path} of {choice} must be at most {LARGEST:g} in size; got {given:g}")
    if default is None:  # of no type; a number is written as short as it can be
        whole = isinstance(given, float) and given.is_integer()
        return int(given) if whole else _not_boolean(path, choice, given)
    if given is None:
        return _null(path, choice, default)
    if isinstance(default, bool):
        if not isinstance(given, bool):
            raise InputError(f"{path} of {choice} must be true or false; got {given!r}")
    elif isinstance(default, int | float):
        _not_boolean(path, choice, given)
        if not isinstance(given, int | float):
            raise InputError(f"{path} of {choice} must be a number; got {given!r}")
        if isinstance(default, float):
            return float(given)
        if given != int(given):
            raise InputError(f"{path} of {choice} must be a whole number; got {given!r}")
        return int(given)
    elif path.endswith("momentum"):
        return parse_momentum(given, path).canonical
    return given


def _not_boolean(path: str, choice: str, given: Any) -> Any:
    if isinstance(given, bool):
        raise InputError(f"{path} of {choice} must be a number; got {str(given).lower()}")
    return given


def _unknown_argument(group: str, choice: str, argument: str, known: list[str]) -> InputError:
    having = owners(group).get(argument, [])
    some = ", ".join(f"{group}={name}" for name in having[:4]) + (", …" if len(having) > 4 else "")
    remedy = f"it is an argument of {some}" if having else f"see normbench norms {choice.partition('=')[2]}"
    near = [f"{group}.args.{name}" for name in known]
    return unknown(f"argument of {choice}", f"{group}.args.{argument}", near, remedy=remedy)
