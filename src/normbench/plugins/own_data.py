"""Registers a data set of the user's."""

from __future__ import annotations

import inspect
from typing import Any

from normbench import parts
from normbench.data.shapes import SOURCES
from normbench.errors import InputError
from normbench.plugins.loading import plugin_of

#: Knobs of a data set that is read by a function, at their defaults.
_KNOBS = {
    "root": None, "path": None, "classes": None, "size": None, "channels": None, "train_size": "all",
    "test_size": "all", "flip": False, "crop": 0, "download": None,
    "stream": None, "readers": None, "resized_crop": None, "center_crop": None,
}  # fmt: skip


def register(name: str, made: Any, flip: bool, crop: int, numerics: int) -> None:
    """Register the function that reads a data set.

    Raises:
        InputError: the name is taken, or the function takes other arguments than `path`.
    """
    arguments = inspect.signature(made).parameters
    if strange := [argument for argument in arguments if argument != "path"]:
        raise InputError(f"data {name}: the function may take path alone; {made.__name__} takes {strange[0]}")
    path = None
    if "path" in arguments:
        default = arguments["path"].default
        path = "???" if default is inspect.Parameter.empty else default
        if not isinstance(path, str):
            raise InputError(
                f"data {name}: the default of path must be a text; got {path!r}; leave the default out, and "
                "data.path must be given"
            )
    knobs = {"name": name, **_KNOBS, "path": path, "flip": flip, "crop": crop, "numerics": numerics}
    parts.add(parts.Part("data", name, made, plugin_of(made), knobs), SOURCES)
