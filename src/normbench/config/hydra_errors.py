"""What Hydra and OmegaConf raise, said in normbench's words: one line with cause and remedy.

The only place that knows their exceptions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

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

from normbench.errors import InputError, NormbenchError, unknown

FOREIGN = (HydraException, OmegaConfBaseException, YAMLError)


@contextmanager
def explained(keys: Callable[[], Iterable[str]] = tuple) -> Iterator[None]:
    """Raise an InputError for what Hydra or OmegaConf raises inside, where only calls of theirs may stand.

    Args:
        keys: the keys that exist, asked for only where an unknown one has to be told from its nearest.
    """
    try:
        yield
    except NormbenchError:
        raise
    except (*FOREIGN, ValueError) as error:
        raise explain(error, keys) from error


def explain(error: Exception, keys: Callable[[], Iterable[str]] = tuple) -> InputError:
    """The InputError that says what a foreign exception means."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, OverrideParseException):
        said = _one_line(error).removeprefix(f"Error parsing override '{error.override}'").strip()
        return InputError(f"cannot read '{error.override}': {said}; write key=value")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return unknown(group, choice, error.options)
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.full_key:
        return _unknown_key(str(cause.full_key), keys())
    if isinstance(cause, MissingMandatoryValue):
        return InputError(f"{cause.full_key} has no value here and must be given; add {cause.full_key}=…")
    if isinstance(cause, UnsupportedInterpolationType | InterpolationResolutionError):
        return InputError(f"{cause.full_key} cannot be resolved: {_first_line(cause)}")
    if match := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'", str(error)):
        return InputError(f"'{match[1]}' lists several values, where one run is shown; give one value")
    if "does not support sweep type" in str(error):
        return InputError("a sweep lists its values: a,b,c, range(), choice() or glob(), not interval()")
    return InputError(_one_line(cause))


def _unknown_key(key: str, known: Iterable[str]) -> InputError:
    """Offers the neighbours of a key where its parent exists, else all keys."""
    parent = key.rpartition(".")[0]
    names = list(known)
    neighbours = [name for name in names if name.rpartition(".")[0] == parent]
    return unknown("key", key, neighbours or names)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _one_line(error: BaseException) -> str:
    """All that is said before search paths and object types are listed, on one line."""
    beyond = r"\n\s*(?:Config search path|Search path|full_key|object_type|To append|See https)"
    return " ".join(re.split(beyond, str(error).strip())[0].split())
