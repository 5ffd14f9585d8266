"""Signatures that a user gives by their first digits."""

from __future__ import annotations

from collections.abc import Iterable

from normbench.errors import InputError


def completed(name: str, signatures: Iterable[str]) -> str | None:
    """The only signature that starts with a name; None if there is none.

    Raises:
        InputError: several do.
    """
    matches = [signature for signature in signatures if name and signature.startswith(name.lower())]
    if len(matches) > 1:
        some = ", ".join(matches[:8]) + (", …" if len(matches) > 8 else "")
        raise InputError(f"'{name}' is the start of {len(matches)} runs: {some}; give more digits")
    return matches[0] if matches else None
