"""The summary run of a sweep: one wandb run that holds our table of mean ± sd, and its figures."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Sequence
from typing import Any

from normbench.spec import TrackingSpec
from normbench.tracking.sweep_summary import SweepSummary
from normbench.tracking.wandb_fields import MOST

#: The job type of a summary run. Views of single runs leave it out.
JOB_TYPE = "summary"


def summary_id(signatures: Collection[str]) -> str:
    """The id of the summary run: the same runs have the same summary run.

    >>> summary_id(["b", "a"]) == summary_id(["a", "b"]), len(summary_id(["a"]))
    (True, 24)
    """
    return f"summary-{hashlib.sha256(' '.join(sorted(signatures)).encode()).hexdigest()[:16]}"


def identity(spec: TrackingSpec, signatures: Collection[str], varying: Sequence[str]) -> dict[str, Any]:
    """What names the summary run of a sweep, as arguments of `wandb.init`.

    Args:
        signatures: of all runs of the sweep.
        varying:    the fields in which they differ.
    """
    return {
        "project": spec.project,
        "entity": spec.entity,
        "id": summary_id(signatures),
        "name": f"summary {' '.join(varying)}".strip()[:MOST],
        "job_type": JOB_TYPE,
        "tags": list(spec.tags) or None,  # None leaves those in WANDB_TAGS
        "config": {"runs": len(signatures), "varying": list(varying)},
    }


def log_summary(wandb: Any, run: Any, summary: SweepSummary) -> None:
    """Log table and figures to an open run of wandb and finish it."""
    table = wandb.Table(columns=list(summary.columns), data=[list(row) for row in summary.rows])
    images = {f"figures/{name}": _image(wandb, png) for name, png in summary.figures.items()}
    run.log({"mean_and_sd": table, **images})
    if summary.undrawn:
        run.summary.update({"figures_not_drawn": summary.undrawn})
    run.finish(exit_code=0)


def _image(wandb: Any, png: bytes) -> Any:
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        picture.load()
        return wandb.Image(picture)
