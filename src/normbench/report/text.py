"""Labels as text: safe for one line of a terminal, a page or a file, and sorted as people expect."""

from __future__ import annotations

import math
import re
from typing import Any

from normbench.labels import MISSING


def natural(text: str) -> tuple[Any, ...]:
    """Sort key: `none` first, then numbers by size, then names with the numbers in them by size.

    >>> sorted(["resnet110", "bn", "32", "resnet20", "4", "0.1", "none"], key=natural)
    ['none', '0.1', '4', '32', 'bn', 'resnet20', 'resnet110']
    """
    if text in ("none", MISSING):
        return (0,)
    try:
        if math.isfinite(number := float(text)):
            return (1, number)
    except ValueError:
        pass
    pieces = re.split(r"([0-9]+)", text)  # every second piece is a number
    return (2, [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)])
