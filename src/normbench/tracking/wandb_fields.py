"""A run in the form that wandb's dashboards expect: its name, configuration and metrics."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from normbench.conditions import quantity
from normbench.labels import field, settings
from normbench.record import Metrics, Record
from normbench.spec import RunSpec
from normbench.visible import visible

#: Characters that wandb's server accepts in the name of a run.
MOST = 128
_ALWAYS_NAMED = ("model", "norm", "weight", "batch", "workers")
#: What the label of a group names beside those, whatever varies in the sweep.
_GROUP_NAMES = ("data", "norm.momentum", "placement", "optim.lr")


def cell(spec: dict[str, Any], varying: Sequence[str] = ()) -> str:
    """The cell of a run in its sweep, as text: norm, batch, model, and what else varies except the seed.

    Fields that the run does not have are left out. It is a text because wandb rounds numbers when it groups
    by them (wandb/wandb#9777).

    >>> spec = {"norm": {"name": "bn"}, "batch": 2, "workers": 8, "model": {"name": "lenet5"}, "seed": 0}
    >>> cell(spec), cell(spec | {"optim": {"lr": 0.1}}, ["batch", "optim.lr"])
    ('bn b2x8 lenet5', 'bn b2x8 lenet5 optim.lr=0.1')
    """
    weight = field(spec, "weight") or "none"
    norm = field(spec, "norm")
    batch, workers = spec.get("batch"), spec.get("workers", 1)
    words = [
        norm if norm is None or weight == "none" else f"{norm}+{weight}",
        None if batch is None else f"b{batch}" + (f"x{workers}" if workers > 1 else ""),
        field(spec, "model"),
        settings(spec, [key for key in varying if key not in _ALWAYS_NAMED]),
    ]
    return visible(" ".join(filter(None, words)))[:MOST]


def name(spec: dict[str, Any], varying: Sequence[str] = ()) -> str:
    """The name of a run on a dashboard: its cell, then its seed.

    >>> spec = {"norm": {"name": "bn"}, "batch": 2, "workers": 8, "model": {"name": "lenet5"}, "seed": 0}
    >>> name(spec), name(spec | {"optim": {"lr": 0.1}}, ["batch", "optim.lr"])
    ('bn b2x8 lenet5 s0', 'bn b2x8 lenet5 optim.lr=0.1 s0')
    """
    seed = spec.get("seed")
    return _ending(cell(spec, varying), "" if seed is None else f" s{seed}")


def group(spec: dict[str, Any], digest: str) -> str:
    """The group of a run: one configuration, all seeds. It is the same in every sweep.

    It holds no `=`, because wandb-workspaces 0.4.13 doubles that sign in the values of filters.

    Args:
        digest: `RunSpec.group()`. Its first digits tell configurations apart that read alike.

    >>> spec = {"norm": {"name": "bn", "momentum": 0.1}, "batch": 2, "data": {"name": "mnist"}, "seed": 0}
    >>> group(spec, "0123456789abcdef")
    'bn b2 data mnist norm.momentum 0.1 01234567'
    """
    return _ending(cell(spec, _GROUP_NAMES).replace("=", " "), f" {digest[:8]}")


def group_of(record: Record) -> str | None:
    """The group of an ended run; None if this version cannot read its specification."""
    try:
        return group(record.spec, RunSpec.model_validate(record.spec).group())
    except ValidationError:
        return None


def config(spec: dict[str, Any], varying: Sequence[str] = ()) -> dict[str, Any]:
    """The specification as nested mappings. wandb itself flattens them to `norm.name`.

    The dashboard cannot filter by keys that contain a dot (wandb/wandb#3087). Knobs that the run does not
    have are left out. Two keys are added: `total`, the images per optimiser step, and `cell`, a text to group
    by.
    """
    total = spec["batch"] * spec["workers"] if {"batch", "workers"} <= spec.keys() else None
    tree = {**spec, "tracking": None, "total": total, "cell": cell(spec, varying) or None}
    return {key: _without_nulls(value) for key, value in tree.items() if value is not None}


def results(record: Record, history: Sequence[Metrics]) -> dict[str, Any]:
    """The final numbers of a run, its status, and two kinds of numbers that dashboards show.

    `<error>_min` is the lowest value on the curve. wandb's own `define_metric(summary="min")` would have the
    key of the final number, which replaces it. `statistics_cost` is test_error − test_error@batch: what
    the running statistics cost.
    """
    numbers: Metrics = {**record.timing, **record.metrics}
    for key in dict.fromkeys(key for point in history for key in point if quantity(key).endswith("_error")):
        found = [value for point in history if (value := point.get(key)) is not None]
        if found:
            numbers[f"{key}_min"] = min(found)
    running, batch = record.metrics.get("test_error"), record.metrics.get("test_error@batch")
    if running is not None and batch is not None:
        numbers["statistics_cost"] = running - batch
    return {**metrics(numbers), "status": record.status}


def metrics(values: dict[str, Any]) -> dict[str, Any]:
    """The numbers under names that wandb can sort and filter by: letters, digits and underscores."""
    return {re.sub("[@/:]", "_", key): value for key, value in values.items() if value is not None}


def _ending(text: str, end: str) -> str:
    """A text with this end, of at most MOST characters."""
    return f"{text[: MOST - len(end)]}{end}".strip()


def _without_nulls(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _without_nulls(v) for k, v in tree.items() if v is not None}
    return tree
