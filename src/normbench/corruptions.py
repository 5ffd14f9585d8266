"""Names of corruptions of test images and their severities; `data.corruption` computes the images.

contrast:3         one severity
gaussian_noise:1-5 several
fog                all five
all:3              every family of STANDARD
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from normbench.errors import InputError, unknown
from normbench.numbers import whole

#: The families of CIFAR-10-C's benchmark without frost, whose authors lay photographs over the images.
STANDARD = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur",
    "zoom_blur", "snow", "fog", "brightness", "contrast", "elastic_transform", "pixelate",
    "jpeg_compression",
)  # fmt: skip
#: Its further families without spatter. `all` leaves them out.
EXTRA = ("speckle_noise", "gaussian_blur", "saturate")
#: Families of CIFAR-10-C that are not computed here, with the reason.
LEFT_OUT = {
    "frost": "it lays photographs of frost over the images, and normbench carries none",
    "spatter": "it needs an edge detector and a distance transform of OpenCV",
}
SEVERITIES = (1, 2, 3, 4, 5)


class Corruption(NamedTuple):
    """One corruption of the test images.

    Attributes:
        name:     one of STANDARD or EXTRA.
        severity: 1 to 5.
    """

    name: str
    severity: int

    def __str__(self) -> str:
        return f"{self.name}:{self.severity}"


def parse_corruptions(given: str | Sequence[str | Corruption]) -> tuple[Corruption, ...]:
    """Read a list of corruptions: each once, in the order given.

    >>> [str(each) for each in parse_corruptions(["contrast:3-4", "fog:1", "contrast:4"])]
    ['contrast:3', 'contrast:4', 'fog:1']

    Raises:
        InputError: an unknown family or a severity out of range.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(f"eval.corruptions must be a list, as in [contrast:3, all:1-5]; got {given!r}")
    found = [corruption for each in given for corruption in _expanded(each)]
    return tuple(dict.fromkeys(found))


def _expanded(value: str | Corruption) -> list[Corruption]:
    if isinstance(value, Corruption):
        return [value]
    name, _, severities = str(value).strip().partition(":")
    if name in LEFT_OUT:
        raise InputError(f"eval.corruptions: {name} is not offered: {LEFT_OUT[name]}; use another family")
    known = (*STANDARD, *EXTRA)
    if name != "all" and name not in known:
        raise unknown("corruption", name, ["all", *known])
    first, dash, last = (severities or "1-5").partition("-")
    bounds = [whole(text) or 0 for text in ([first, last] if dash else [first])]
    if not all(bound in SEVERITIES for bound in bounds) or bounds[0] > bounds[-1]:
        raise InputError(
            f"eval.corruptions: a severity is a whole number from 1 to 5, or two as in 1-5; got '{value}'"
        )
    names = STANDARD if name == "all" else (name,)
    return [Corruption(each, severity) for each in names for severity in range(bounds[0], bounds[-1] + 1)]
