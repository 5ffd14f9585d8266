"""One run of wandb: how it is opened, what it gets, and how it is finished. Live tracking and sync share it.

`_step` of a point is the optimiser step. So a resumed run is one curve: wandb refuses steps that it has.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from normbench.record import FAILED, Metrics, Record
from normbench.tracking.wandb_fields import config, metrics, name, results
from normbench.tracking.wandb_layers import layer_points
from normbench.tracking.wandb_setup import minimal_settings


def names(
    spec: Mapping[str, Any], label: str | None, varying: Sequence[str], *, lone: bool
) -> dict[str, Any]:
    """Name and group of a run, as arguments of `wandb.init`. WANDB_RUN_GROUP and WANDB_NAME win.

    Args:
        label:   of its group, see `wandb_fields.group`; None if it is not known.
        varying: the fields in which the runs of the sweep differ.
        lone:    whether it is the only run; WANDB_NAME would give all runs of a sweep the same name.
    """
    tree = dict(spec)
    return {
        "name": (os.environ.get("WANDB_NAME") if lone else None) or name(tree, varying),
        "group": os.environ.get("WANDB_RUN_GROUP") or label,
    }


def open_run(
    wandb: Any, identity: Mapping[str, Any], spec: Mapping[str, Any], varying: Sequence[str],
    tags: Sequence[str], root: Path, mode: str | None, *, resumed: bool,
) -> Any:  # fmt: skip
    """Open a run of wandb.

    Args:
        identity: id, project, entity, name and group; wandb takes from its environment what is left out.
        spec:     the specification of the run as plain containers.
        tags:     if empty, wandb takes those in WANDB_TAGS.
        root:     wandb writes to `root`/wandb.
        mode:     online or offline.
        resumed:  continue the run of this id. Otherwise an earlier attempt is replaced.
    """
    run = wandb.init(
        **identity,
        job_type=spec.get("norm", {}).get("name"),
        tags=list(tags) or None,
        config=config(dict(spec), varying),
        dir=str(root),
        mode=mode,
        reinit="create_new",  # the default returns the run that is already open
        resume="allow" if resumed else None,
        settings=minimal_settings(wandb),
    )
    run.define_metric("epoch")
    run.define_metric("images_seen")
    run.define_metric("*", step_metric="images_seen")
    return run


def log_point(run: Any, step: int, point: Metrics) -> None:
    """Log a point of the curve. Without `commit`, wandb would hold it back until the next step."""
    run.log(metrics(point), step=step, commit=True)


def log_layers(wandb: Any, run: Any, spec: Mapping[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Log what diagnostics found by layer. It is known when a run has ended, so it follows the curve."""
    images = spec.get("batch", 1) * spec.get("workers", 1)
    for point in layer_points(rows, images, lambda bins: wandb.Histogram(np_histogram=bins)):
        run.log(point)


def finish_run(run: Any, record: Record | None, history: Sequence[Metrics]) -> None:
    """Give a run its results and finish it. Without a record it counts as failed until it is resumed.

    Raises:
        TimeoutError: the server did not take everything in time.
    """
    if record is not None:
        run.summary.update(results(record, history))
    run.finish(exit_code=0 if record is not None and record.status != FAILED else 1)
