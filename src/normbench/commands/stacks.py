"""The stacks of a plan as a table. Equal stacks share one line, which names what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from normbench.commands.summary import varying
from normbench.commands.text_table import columns
from normbench.labels import flatten, label
from normbench.spec import LANE_FIELDS
from normbench.sweeps.plan import Pack

_GROUPS = ("model", "norm", "weight", "placement", "data", "optim", "schedule")
_NUMBERS = ("batch", "workers", "epochs", "steps")


def stacks(packs: Sequence[Pack]) -> list[str]:
    """Lines for the packs of a plan. Empty if nothing is to be trained."""
    if not packs:
        return []
    specs = [pack.specs[0].model_dump(mode="json") for pack in packs]
    apart = [key for key in varying(specs) if key not in LANE_FIELDS]
    alike: Counter[tuple[object, ...]] = Counter()
    for pack, spec in zip(packs, specs, strict=True):
        alike[len(pack.trainings), *(_value(spec, key) for key in apart)] += 1
    names = ["stacks", "lanes", *apart]
    rows = [dict(zip(names, [count, *row], strict=True)) for row, count in alike.items()]
    same = [key for key in (*_GROUPS, *_NUMBERS) if key not in apart and specs[0][key] is not None]
    return ["all with " + " ".join(f"{key}={_value(specs[0], key)}" for key in same), *columns(rows)]


def _value(spec: dict[str, object], key: str) -> str:
    flat = flatten(spec)
    return label(flat.get(key, flat.get(f"{key}.name")))
