"""Hydra's and OmegaConf's exceptions as one line with the cause and what to do.

No other module knows these exceptions.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)
from yaml import YAMLError

from normbench.config.choices import GROUPS, owners
from normbench.config.grammar import several_choices, unreadable
from normbench.errors import InputError, NormbenchError, unknown
from normbench.synonyms import meant

HYDRA_ERRORS = (HydraException, OmegaConfBaseException, YAMLError)
_PACKAGES = ("hydra", "omegaconf", "antlr4", "yaml")


@contextmanager
def explained(keys: Callable[[], Iterable[str]] = tuple) -> Iterator[None]:
    """Turn an exception of Hydra or OmegaConf into an InputError. Only their calls belong inside.

    Args:
        keys: returns the keys that exist. It is called only if a key is unknown, to offer the nearest ones.
    """
    try:
        yield
    except NormbenchError:
        raise
    except Exception as error:  # Hydra meets odd words with a TypeError, an AssertionError and others
        raise explain(error, keys) from error


def raised_by_hydra(error: BaseException) -> bool:
    """Whether an exception is one of Hydra or OmegaConf, or was raised by their code."""
    if isinstance(error, HYDRA_ERRORS):
        return True
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    return str(last.f_globals.get("__name__")).partition(".")[0] in _PACKAGES


def explain(error: Exception, keys: Callable[[], Iterable[str]] = tuple) -> InputError:
    """The InputError that says what an exception of Hydra or OmegaConf means."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, RecursionError):
        return InputError("values are nested too deeply; write them flatter")
    if isinstance(error, OverrideParseException):
        return InputError(unreadable(error.override))
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        if (own := group.partition("/")[0]) in GROUPS and own != group:  # norm=bn/gn is no folder norm/bn
            group, choice = own, error.missing_cfg_file.removeprefix(f"{own}/")
        return unknown(group, choice, error.options, remedy=several_choices(group, choice))
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
        return _unknown_key(str(cause.full_key), keys())
    if isinstance(cause, MissingMandatoryValue):
        return InputError(f"{cause.full_key} has no value here and must be given; add {cause.full_key}=…")
    if isinstance(cause, UnsupportedInterpolationType | InterpolationResolutionError):
        return InputError(f"{cause.full_key} cannot be resolved: {_first_line(cause)}")
    if match := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'", str(error)):
        return InputError(f"'{match[1]}' lists several values, but only one run can be shown; give one value")
    if match := re.match(r"Could not override '(.*?)'.\s*No match in the defaults list", str(error)):
        return InputError(f"the group '{match[1]}' has no default choice to override; write +{match[1]}=…")
    if match := re.match(r"Multiple values for (\S+)\. To override", str(error)):
        return InputError(f"{match[1]} has a default choice already; write {match[1]}=… without +")
    if "Cannot merge DictConfig with ListConfig" in str(cause):
        return InputError("a list stands where keys with values must stand; write {key:value}")
    if "does not support sweep type" in str(error):
        return InputError(
            "a sweep lists its values with a,b,c, range(), choice() or glob(); interval() is not possible"
        )
    if not isinstance(error, (*HYDRA_ERRORS, ValueError)):
        return InputError(
            f"Hydra cannot read this configuration ({type(error).__name__}: {_one_line(cause)})"
        )
    return InputError(_one_line(cause))


def _unknown_key(key: str, known: Iterable[str]) -> InputError:
    """Lists the keys beside the unknown one, or all if there are none. Offers any key by its meaning."""
    parent, _, leaf = key.rpartition(".")
    names = list(known)
    if key in ("plugin", "plugins"):
        return InputError(
            f"a configuration cannot name plugins, because it must not run code; use --plugin MODULE instead "
            f"of {key}=MODULE, or set NORMBENCH_PLUGINS"
        )
    if key.startswith("hydra."):
        return InputError(f"unknown key '{key}' of Hydra; normbench train --hydra-help lists its flags")
    neighbours = [name for name in names if name.rpartition(".")[0] == parent]
    if parent and len(leaf) > 3 and get_close_matches(key, neighbours, cutoff=0.9):
        return unknown("key", key, neighbours)  # a slip of the finger; the meaning is not sought elsewhere
    arguments = {f"{group}.args.{name}": having for group in GROUPS for name, having in owners(group).items()}
    error = unknown("key", key, neighbours or names, beyond=[*names, *arguments])
    path = next((path for path in meant(key, arguments) if path not in names), None)
    if path is None or meant(key, names):
        return error
    some = ", ".join(f"{path.partition('.')[0]}={name}" for name in arguments[path][:4])
    return InputError(f"unknown key '{key}'; nearest: {path}, an argument of {some}")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _one_line(error: BaseException) -> str:
    """The message on one line, cut before the lists of search paths and object types."""
    beyond = r"\n\s*(?:Config search path|Search path|full_key|object_type|To append|See https)"
    return " ".join(re.split(beyond, str(error).strip())[0].split())
