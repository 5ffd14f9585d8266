"""The contract of norm layers, as functions: `normbench check-norm` and the tests of this package call them.

A clause takes a `Subject` and raises `Broken` if the method breaks it. Its docstring is what it demands.
"""

from __future__ import annotations

from normbench.norms.contract import declarations, inputs, lanes, precision, training
from normbench.norms.contract.subject import Broken, Clause, Subject

__all__ = ["CLAUSES", "Broken", "Clause", "Subject", "broken"]

#: All clauses, the simple ones first.
CLAUSES: tuple[Clause, ...] = (
    *training.CLAUSES,
    *inputs.CLAUSES,
    *precision.CLAUSES,
    *lanes.CLAUSES,
    *declarations.CLAUSES,
)


def broken(clause: Clause, subject: Subject) -> str | None:
    """Why a method breaks a clause, in one line; None if it keeps it."""
    try:
        clause(subject)
    except Exception as error:
        said = " ".join(str(error).split())
        return said if isinstance(error, Broken) else f"{type(error).__name__}: {said}"
    return None
