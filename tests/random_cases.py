"""Settings of tests with random cases, and how many cases were asked for."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

#: `make test-fuzz` sets it. 0: a small sample, always the same one.
ASKED = int(os.environ.get("NORMBENCH_FUZZ", "0"))


def cases(sample: int) -> settings:
    """As many cases as were asked for, else a sample of that size."""
    return settings(
        max_examples=ASKED or sample,
        derandomize=not ASKED,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
