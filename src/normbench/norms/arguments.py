"""Checks of a layer's arguments: each returns a fitting value, or raises an error that names the argument."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import ClassVar, TypeVar

from normbench.errors import NormError

T = TypeVar("T")


class Arguments:
    """Base of layers that check their arguments. Messages begin with the method's key."""

    key: ClassVar[str]

    def number(
        self,
        name: str,
        value: object,
        *,
        least: float = -math.inf,
        above: float = -math.inf,
        most: float = sys.float_info.max,
    ) -> float:
        """The value, if it is a finite number within bounds; true and false are no numbers.

        Args:
            least, above, most: the value must be ≥ least, > above and ≤ most.

        Raises:
            NormError: it is not; the message names the argument.
        """
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if not known or not (least <= value <= most and value > above):  # type: ignore[operator]
            if most < sys.float_info.max:
                wanted = f"number in [{least:g}, {most:g}]"
            else:
                wanted = f"finite number {'≥' if above == -math.inf else '>'} {max(least, above):g}"
            raise NormError(f"{self.key}: {name} must be a {wanted}; got {value!r}")
        return value  # type: ignore[return-value]

    def flag(self, name: str, value: object) -> bool:
        """The value, if it is true or false; a NormError that names the argument if not."""
        if not isinstance(value, bool):
            raise NormError(f"{self.key}: {name} must be true or false; got {value!r}")
        return value

    def choice(self, name: str, value: T, allowed: Sequence[T]) -> T:
        """The value, if it is one of those allowed and of the same type; a NormError if not."""
        if not any(value == each and type(value) is type(each) for each in allowed):
            listed = [str(each).lower() if isinstance(each, bool) else str(each) for each in allowed]
            wanted = " or ".join(filter(None, [", ".join(listed[:-1]), listed[-1]]))
            raise NormError(f"{self.key}: {name} must be {wanted}; got {value!r}")
        return value

    def whole(self, name: str, value: object, *, least: int = 1, most: int | None = None) -> int:
        """The value, if it is a whole number ≥ `least` and, if that is given, ≤ `most`.

        Raises:
            NormError: it is not; the message names the argument.
        """
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise NormError(f"{self.key}: {name} must be a whole number ≥ {least}; got {value!r}")
        if most is not None and value > most:
            raise NormError(f"{self.key}: {name} must be a whole number in [{least}, {most}]; got {value!r}")
        return value
