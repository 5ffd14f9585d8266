"""A run in the form that wandb's dashboards expect: its name, configuration and metrics."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from normbench.labels import field, settings

#: Characters that wandb's server accepts in the name of a run.
MOST = 128
_ALWAYS_NAMED = ("model", "norm", "weight", "batch", "workers")


def name(spec: dict[str, Any], varying: Sequence[str] = ()) -> str:
    """The name of a run on a dashboard: norm, batch, model, what else varies in the sweep, seed.

    Fields that the run does not have are left out.

    >>> spec = {"norm": {"name": "bn"}, "batch": 2, "workers": 8, "model": {"name": "lenet5"}, "seed": 0}
    >>> name(spec), name(spec | {"optim": {"lr": 0.1}}, ["batch", "optim.lr"])
    ('bn b2x8 lenet5 s0', 'bn b2x8 lenet5 optim.lr=0.1 s0')
    """
    weight = field(spec, "weight") or "none"
    norm = field(spec, "norm")
    batch, workers, seed = spec.get("batch"), spec.get("workers", 1), spec.get("seed")
    words = [
        norm if norm is None or weight == "none" else f"{norm}+{weight}",
        None if batch is None else f"b{batch}" + (f"x{workers}" if workers > 1 else ""),
        field(spec, "model"),
        settings(spec, [key for key in varying if key not in _ALWAYS_NAMED]),
    ]
    end = "" if seed is None else f" s{seed}"
    return " ".join(filter(None, words))[: MOST - len(end)] + end


def config(spec: dict[str, Any]) -> dict[str, Any]:
    """The specification as nested mappings. wandb itself flattens them to `norm.name`.

    The dashboard cannot filter by keys that contain a dot (wandb/wandb#3087). Knobs that the run does not
    have are left out. `total`, the images per optimiser step, is added.
    """
    total = spec["batch"] * spec["workers"] if {"batch", "workers"} <= spec.keys() else None
    tree = {**spec, "tracking": None, "total": total}
    return {key: _without_nulls(value) for key, value in tree.items() if value is not None}


def metrics(values: dict[str, Any]) -> dict[str, Any]:
    """The numbers under names that wandb can sort and filter by: letters, digits and underscores."""
    return {re.sub("[@/:]", "_", key): value for key, value in values.items() if value is not None}


def _without_nulls(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _without_nulls(v) for k, v in tree.items() if v is not None}
    return tree
