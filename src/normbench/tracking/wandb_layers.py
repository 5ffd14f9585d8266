"""What diagnostics found by layer, as points of wandb: a series per layer, histograms as wandb's own type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from normbench.tracking.wandb_fields import metrics

#: Makes wandb's histogram from counts and edges of bins.
MakeHistogram = Callable[[tuple[list[float], list[float]]], Any]


def layer_points(
    rows: Sequence[dict[str, Any]], images_per_step: int, histogram: MakeHistogram
) -> Iterator[dict[str, Any]]:
    """One point per step, with the key `diagnostic_quantity/layer` for every value.

    A list of numbers has one key per place: `…/layer/0`, `…/layer/1`. Numbers that do not exist are left out.

    Args:
        rows:            readings as in diagnostics.jsonl: step, name and values by layer.
        images_per_step: batch × workers; wandb draws every metric over the images seen.
        histogram:       see `MakeHistogram`.
    """
    points: dict[int, dict[str, Any]] = {}
    for row in rows:
        point = points.setdefault(row["step"], {"images_seen": row["step"] * images_per_step})
        [name] = metrics({row["name"]: 0})
        for layer, value in row["layers"].items():
            point |= _values(f"{name}/{layer}", value, histogram)
    yield from (points[step] for step in sorted(points))


def _values(key: str, value: Any, histogram: MakeHistogram) -> dict[str, Any]:
    if isinstance(value, dict) and value.keys() == {"edges", "counts"}:
        return {key: histogram((value["counts"], value["edges"]))}
    if isinstance(value, (dict, list)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for place, part in parts for k, v in _values(f"{key}/{place}", part, histogram).items()}
    return {} if value is None else {key: value}
