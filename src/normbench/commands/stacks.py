"""The stacks of a plan as a table. Equal stacks share one line, which names what differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from normbench.commands.text_table import columns
from normbench.labels import field, label, settings, varying
from normbench.spec import LANE_FIELDS
from normbench.sweeps.plan import Pack

_GROUPS = ("model", "norm", "weight", "placement", "data", "optim", "schedule")
_NUMBERS = ("batch", "workers", "epochs", "steps")
#: Most values that are listed of a field in which lanes differ.
_MOST = 8


def stacks(packs: Sequence[Pack]) -> list[str]:
    """Lines for the packs of a plan. Empty if nothing is to be trained.

    The first line names what all runs have in common. The table names what differs between stacks. The last
    line names what differs between lanes.
    """
    if not packs:
        return []
    specs = [[spec.tree() for spec in pack.specs] for pack in packs]
    runs = [spec for stack in specs for spec in stack]
    differing = varying(runs)
    apart = [key for key in differing if key not in LANE_FIELDS]
    alike: Counter[tuple[object, ...]] = Counter()
    for pack, stack in zip(packs, specs, strict=True):
        alike[len(pack.trainings), *(label(field(stack[0], key)) for key in apart)] += 1
    names = ["stacks", "lanes", *apart]
    rows = [dict(zip(names, [count, *row], strict=True)) for row, count in alike.items()]
    lanes = [key for key in (*differing, "seed") if key in LANE_FIELDS and len(_values(runs, key)) > 1]
    told = " ".join(_listed(key, _values(runs, key)) for key in lanes)
    last = [f"runs also differ in {told}"] if told else []
    return [f"all with {settings(runs[0], _common(runs))}", *columns(rows), *last]


def _common(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The choices and numbers that all runs share; the total, if it is shared and the workers are not."""
    keys = [key for key in (*_GROUPS, *_NUMBERS) if len(_values(runs, key)) == 1]
    shares_total = "workers" not in keys and len(_values(runs, "total")) == 1
    return [*keys, "total"] if shares_total else keys


def _values(runs: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """The distinct values of a field, as text; `total` is batch × workers."""
    return list(dict.fromkeys(label(field(run, key)) for run in runs))


def _listed(key: str, values: Sequence[str]) -> str:
    """
    >>> _listed("seed", ["0", "1"]), _listed("seed", [str(n) for n in range(10)])
    ('seed=0,1', 'seed=0,1,2,3,4,5,6,7,… (10 values)')
    """
    more = f",… ({len(values)} values)" if len(values) > _MOST else ""
    return f"{key}={','.join(values[:_MOST])}{more}"
