"""Observers of a sweep: the console, and the tracker that the configuration asks for.

Records are on disk before an observer hears of them. An observer that is absent, slow or dead loses its own
view and nothing else. rich, wandb and TensorBoard are imported when they are first used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from normbench.events import Notice, Observer
from normbench.spec import TrackingSpec
from normbench.tracking.sweep_summary import Summarize
from normbench.tracking.wandb_setup import DISABLED, check_environment, mode_of_environment

__all__ = ["observers"]


def observers(
    spec: TrackingSpec, root: Path, *, console: bool = True, summarize: Summarize | None = None
) -> list[Observer]:
    """The observers that a configuration asks for, in the order in which events reach them.

    Args:
        spec:      which tracker, and its settings.
        root:      the results folder. A tracker writes its own files below it.
        console:   show the sweep on stdout and stderr.
        summarize: makes the table that a tracker shows at the end of a sweep.

    Raises:
        InputError: the tracker is not installed, or does not accept an environment variable.
    """
    from normbench.tracking.console import console_view

    view = console_view() if console else None
    found: list[Observer] = []
    if spec.name == "wandb" and mode_of_environment() != DISABLED:
        from normbench.tracking.wandb_runs import WandbRuns

        check_environment()
        found.append(WandbRuns(spec, root, _notice_through(view), summarize))
    elif spec.name == "tensorboard":
        from normbench.tracking.tensorboard_runs import TensorboardRuns, check_tensorboard

        check_tensorboard()
        found.append(TensorboardRuns(root))
    elif spec.name == "csv":
        from normbench.tracking.csv_file import CsvFile

        found.append(CsvFile(root, _notice_through(view)))
    if view is not None:
        found.append(view)  # last: it still shows what trackers say while they close
    return found


def _notice_through(view: Observer | None) -> Callable[[str], None]:
    if view is None:
        return logging.getLogger(__name__).warning
    return lambda text: view.notify(Notice(text))
