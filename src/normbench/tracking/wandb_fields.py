"""A run as wandb's dashboards show it best: its name, its configuration, its metrics."""

from __future__ import annotations

from typing import Any


def name(spec: dict[str, Any]) -> str:
    """What a run is called on a dashboard: norm, batch, model, seed.

    >>> name({"norm": {"name": "bn"}, "batch": 2, "workers": 8, "model": {"name": "lenet5"}, "seed": 0})
    'bn b2x8 lenet5 s0'
    """
    weight = spec.get("weight", {}).get("name", "none")
    norm = spec["norm"]["name"] + ("" if weight == "none" else f"+{weight}")
    workers = f"x{spec['workers']}" if spec["workers"] > 1 else ""
    return f"{norm} b{spec['batch']}{workers} {spec['model']['name']} s{spec['seed']}"


def config(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec as wandb shows it best: nested, because wandb flattens it to `norm.name` by itself.

    Keys that hold a dot of their own cannot be filtered by (wandb/wandb#3087). Knobs that the run does not
    have are left out; the images per step are added.
    """
    tree = {**spec, "tracking": None, "total": spec["batch"] * spec["workers"]}
    return {key: _without_nulls(value) for key, value in tree.items() if value is not None}


def metrics(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers under names that wandb can sort and filter by: letters, digits and underscores."""
    return {key.replace("@", "_"): value for key, value in values.items() if value is not None}


def _without_nulls(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _without_nulls(v) for k, v in tree.items() if v is not None}
    return tree
