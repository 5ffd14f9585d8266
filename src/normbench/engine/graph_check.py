"""Refuse, before anything is trained, CUDA graphs of steps that cannot be captured."""

from __future__ import annotations

from normbench import norms
from normbench.errors import InputError
from normbench.spec import RunSpec


def check(spec: RunSpec) -> None:
    """Refuse `engine.graphs=true` for a norm that waits for the host.

    Raises:
        InputError: the norm does.
    """
    what = norms.entry(spec.norm.name).layer.waits_for_host
    if spec.engine.graphs is True and what:
        raise InputError(
            f"norm={spec.norm.name} cannot train with engine.graphs=true: its {what} waits for the host; "
            "use engine.graphs=auto"
        )
