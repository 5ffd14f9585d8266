"""Networks of K stacked runs, built from a specification."""

from normbench.models.footprint import check, footprint, image_footprint
from normbench.models.network import Network, architecture, build, fitted, fitted_size

__all__ = [
    "Network",
    "architecture",
    "build",
    "check",
    "fitted",
    "fitted_size",
    "footprint",
    "image_footprint",
]
