"""The console's view of a sweep: live on a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
import sys

from normbench.events import Observer


def console_view() -> Observer:
    """The view that fits stdout."""
    if is_live():
        from normbench.tracking.live import LiveView

        return LiveView.on_stdout()
    from normbench.tracking.plain import PlainView

    return PlainView(sys.stdout, sys.stderr)


def is_live() -> bool:
    """Whether stdout is a terminal and neither NO_COLOR, CI nor TERM=dumb is set."""
    if os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout.isatty()
