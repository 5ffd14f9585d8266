"""Limits on a user's own images, so that a small file cannot fill the memory or run for hours.

Each limit is an environment variable, because it says what a machine bears and changes no result.

    NORMBENCH_MOST_MEMBERS   files and folders of one directory or archive
    NORMBENCH_MOST_BYTES     bytes of one image file, unpacked
    NORMBENCH_MOST_PIXELS    width × height of one image
    NORMBENCH_MOST_RATIO     unpacked bytes per byte of an archive, if it unpacks to more than 1 GiB
"""

from __future__ import annotations

import os

from normbench.errors import InputError

_DEFAULTS = {
    "MEMBERS": 5_000_000,  # ImageNet has 1.4 million
    "BYTES": 256 << 20,
    "PIXELS": 1 << 26,  # 8192 × 8192
    "RATIO": 200,  # deflate reaches 1032; images in archives have about 1
}
#: Unpacked bytes of an archive that are accepted whatever its size is.
_SMALL = 1 << 30


def most(limit: str) -> int:
    """A limit by the end of its name.

    >>> most("PIXELS")
    67108864

    Raises:
        InputError: the environment variable is no whole number ≥ 1.
    """
    text = os.environ.get(variable := f"NORMBENCH_MOST_{limit}", "")
    if not text:
        return _DEFAULTS[limit]
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"{variable} must be a whole number ≥ 1; got {text!r}")
    return int(text)


def check(limit: str, found: int, what: str) -> None:
    """Refuse what passes a limit.

    Args:
        limit: the end of its name, such as "BYTES".
        found: the number to compare.
        what:  what has this number, with the word for the unit last: "x.png of data.path=d: bytes".

    Raises:
        InputError: the message names the limit and its environment variable.
    """
    if found > (bound := most(limit)):
        raise InputError(
            f"{what} must be at most {bound:,}; got {found:,}; NORMBENCH_MOST_{limit}={found} allows it"
        )


def check_unpacked(unpacked: int, packed: int, what: str) -> None:
    """Refuse an archive that unpacks to far more bytes than it has.

    Raises:
        InputError: it unpacks to more than 1 GiB and passes NORMBENCH_MOST_RATIO.
    """
    if unpacked > _SMALL and unpacked > most("RATIO") * packed:
        raise InputError(
            f"{what} unpacks to {unpacked:,} bytes or more, from {packed:,}; at most {most('RATIO')} times "
            "as many are accepted; NORMBENCH_MOST_RATIO=2000 allows it"
        )
