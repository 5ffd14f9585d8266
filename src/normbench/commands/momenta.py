"""The effect of each norm momentum over the length of a run, for `plan` and `info`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from normbench.commands.text_table import columns
from normbench.momentum import Momentum, parse_momentum
from normbench.sweeps.plan import Pack


def momenta(packs: Sequence[Pack], cache: Path) -> list[str]:
    """A table with one line per momentum and run length. Runs without running statistics are left out.

    Args:
        packs: the stacks of a plan.
        cache: the folder of decoded data sets.
    """
    from normbench.data.shapes import shape_of

    images = {spec.data: 0 for pack in packs for spec in pack.specs}
    images = {data: shape_of(data, cache).train_images for data in images}
    rows = [
        effect(spec.norm.momentum, spec.norm.args, spec.length(images[spec.data]))
        for pack in packs
        for spec in pack.specs
    ]
    distinct = {tuple(row.values()): row for row in rows if row}
    return columns(list(distinct.values())) if distinct else []


def effect(momentum: Momentum | float | str | None, args: Mapping[str, Any], steps: int) -> dict[str, str]:
    """The effect of a run's momentum on its running statistics, by name. Empty if the run keeps none.

    >>> effect(0.01, {}, 100)
    {'momentum': '0.01', 'steps': '100', 'last weight': '0.01', 'half-life': '69', '% initial left': '36.6'}

    Args:
        momentum: `norm.momentum` of the run.
        args:     `norm.args`. If statistics freeze `after` a share of the run, they move only until then.
        steps:    length of the run.
    """
    moving = math.ceil(Fraction(str(args.get("after", 1))) * steps)
    if momentum is None or moving == 0:
        return {}
    weight, half_life, initial = parse_momentum(momentum).effect(steps, moving)
    return {
        "momentum": str(momentum),
        "steps": f"{moving}",
        "last weight": f"{weight:.3g}",
        "half-life": f"{half_life:.1f}" if half_life < 10 else f"{half_life:.0f}",
        "% initial left": f"{100 * initial:.1f}",
    }
