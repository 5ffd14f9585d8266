"""Norm momentum in one direction, whatever convention it was written in.

A norm with running statistics keeps, per channel, s ← s + w_t (batch − s): w_t is the weight of the NEW
batch.

    0.1             w_t = 0.1                       PyTorch's direction, the plain number
    cumulative      w_t = 1 / t                     equal weight to every batch (torch momentum=None)
    debiased:0.1    w_t = m / (1 − (1 − m)^t)       no trace of the initial value (Adam's correction)
    keras:0.99      the plain number 1 − 0.99       keras, tf, flax and haiku weigh the OLD value
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from normbench.errors import InputError, unknown

WEIGHT_OF_NEW = ("torch",)
WEIGHT_OF_OLD = ("keras", "tf", "flax", "haiku")
FORMS = "a number in [0, 1] (weight of the new batch), cumulative, debiased:<m>, or " + ", ".join(
    f"{name}:<m>" for name in (*WEIGHT_OF_NEW, *WEIGHT_OF_OLD)
)


class Momentum(NamedTuple):
    """How running statistics weigh a new batch: `rate` is m; `kind` is ema, debiased or cumulative."""

    kind: str
    rate: float

    def __str__(self) -> str:
        return {"ema": repr(self.rate), "debiased": f"debiased:{self.rate!r}"}.get(self.kind, self.kind)

    @property
    def canonical(self) -> float | str:
        """The one spelling that enters signatures: a float, `debiased:<m>` or `cumulative`."""
        return self.rate if self.kind == "ema" else str(self)


def parse_momentum(value: float | str) -> Momentum:
    """Read a momentum in any accepted spelling.

    >>> parse_momentum("keras:0.99")
    Momentum(kind='ema', rate=0.01)
    >>> parse_momentum("cumulative").canonical
    'cumulative'

    Raises:
        InputError: not a number, outside [0, 1], or a convention that is not known.
    """
    text = str(value).strip()
    if text == "cumulative":
        return Momentum("cumulative", 0.0)
    convention, _, number = text.rpartition(":")
    if convention not in ("", "debiased", *WEIGHT_OF_NEW, *WEIGHT_OF_OLD):
        raise unknown("momentum convention", convention, ("debiased", *WEIGHT_OF_NEW, *WEIGHT_OF_OLD))
    try:
        exact = Decimal(number)
    except InvalidOperation:
        raise InputError(f"norm.momentum must be {FORMS}; got '{value}'") from None
    if not 0 <= exact <= 1 or (convention == "debiased" and exact == 0):
        raise InputError(f"norm.momentum must lie in [0, 1]; got '{value}'. Accepted: {FORMS}")
    if convention in WEIGHT_OF_OLD:
        exact = 1 - exact
    return Momentum("debiased" if convention == "debiased" else "ema", float(exact))
