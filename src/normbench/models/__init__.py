"""Networks of K stacked runs, built from a specification."""

from normbench.models.network import (
    Network,
    architecture,
    build,
    check,
    fitted,
    footprint,
    image_footprint,
)

__all__ = [
    "Network",
    "architecture",
    "build",
    "check",
    "fitted",
    "footprint",
    "image_footprint",
]
