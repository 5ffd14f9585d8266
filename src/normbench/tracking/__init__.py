"""Who listens to a sweep: the console, and Weights & Biases where it is asked for.

Store first, track second: the records are on disk before an observer hears of them, so a listener that is
absent, slow or dead costs nothing but its own view. rich and wandb are imported when they are first used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from normbench.events import Notice, Observer
from normbench.spec import TrackingSpec
from normbench.tracking.wandb_setup import DISABLED, mode_of_environment

__all__ = ["observers"]


def observers(spec: TrackingSpec, root: Path, *, console: bool = True) -> list[Observer]:
    """The listeners that a configuration asks for, in the order in which they are to be told and closed.

    Args:
        spec:    which tracker, and how it is set up.
        root:    the results folder; a tracker's own files go below it.
        console: show the sweep on stdout and stderr.
    """
    from normbench.tracking.console import console_view

    view = console_view() if console else None
    listeners: list[Observer] = []
    if spec.name == "wandb" and mode_of_environment() != DISABLED:
        from normbench.tracking.wandb_runs import WandbRuns

        listeners.append(WandbRuns(spec, root, _saying_through(view)))
    if view is not None:
        listeners.append(view)  # last: what trackers say while they close is still shown
    return listeners


def _saying_through(view: Observer | None) -> Callable[[str], None]:
    if view is None:
        return logging.getLogger(__name__).warning
    return lambda text: view.notify(Notice(text))
