"""Registers a diagnostic of the user's."""

from __future__ import annotations

from typing import Any

from normbench import parts
from normbench.diagnostics import CATALOGUE, Entry, Source
from normbench.engine.probes.protocol import Probe
from normbench.errors import InputError
from normbench.plugins.loading import plugin_of


def register(name: str, made: Any, quantities: tuple[str, ...], follows_from: Source) -> None:
    """Register the class of a probe.

    Raises:
        InputError: the name is taken, the class is no probe, or it has no quantity.
    """
    if not (isinstance(made, type) and issubclass(made, Probe)):
        raise InputError(
            f"diagnostic {name} must be a class that derives from normbench.engine.probes.protocol.Probe; "
            f"got {made!r}"
        )
    if not quantities or follows_from not in ("state", "curve", "training"):
        raise InputError(
            f"diagnostic {name} needs quantities, and follows_from must be state, curve or training; got "
            f"{quantities} and {follows_from}"
        )
    facts = {"entry": Entry(quantities, follows_from)}
    parts.add(parts.Part("diagnostic", name, made, plugin_of(made), facts=facts), CATALOGUE)
