"""A run in the form that wandb's dashboards expect: its name, configuration and metrics."""

from __future__ import annotations

from typing import Any


def name(spec: dict[str, Any]) -> str:
    """The name of a run on a dashboard: norm, batch, model, seed.

    >>> name({"norm": {"name": "bn"}, "batch": 2, "workers": 8, "model": {"name": "lenet5"}, "seed": 0})
    'bn b2x8 lenet5 s0'
    """
    weight = spec.get("weight", {}).get("name", "none")
    norm = spec["norm"]["name"] + ("" if weight == "none" else f"+{weight}")
    workers = f"x{spec['workers']}" if spec["workers"] > 1 else ""
    return f"{norm} b{spec['batch']}{workers} {spec['model']['name']} s{spec['seed']}"


def config(spec: dict[str, Any]) -> dict[str, Any]:
    """The specification as nested mappings. wandb itself flattens them to `norm.name`.

    The dashboard cannot filter by keys that contain a dot (wandb/wandb#3087). Knobs that the run does not
    have are left out. `total`, the images per optimiser step, is added.
    """
    tree = {**spec, "tracking": None, "total": spec["batch"] * spec["workers"]}
    return {key: _without_nulls(value) for key, value in tree.items() if value is not None}


def metrics(values: dict[str, Any]) -> dict[str, Any]:
    """The numbers under names that wandb can sort and filter by: letters, digits and underscores."""
    return {key.replace("@", "_"): value for key, value in values.items() if value is not None}


def _without_nulls(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _without_nulls(v) for k, v in tree.items() if v is not None}
    return tree
