"""The specification of a run as a record has it: the fields that tables and pages read."""

from __future__ import annotations

from typing import Any


def mlp_spec(norm: str, batch: int, seed: int) -> dict[str, Any]:
    """An MLP on digits, 10 steps."""
    return {
        "model": {"name": "mlp"}, "norm": {"name": norm, "args": {}}, "weight": {"name": "none"},
        "placement": {"name": "conv_norm_act"}, "data": {"name": "digits", "path": None},
        "optim": {"name": "sgd"}, "schedule": {"name": "constant"}, "batch": batch, "workers": 1,
        "steps": 10, "seed": seed,
    }  # fmt: skip
