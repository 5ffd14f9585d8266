"""The tuning cache: one JSON file per workload under <results>/cache/tuning/.

A file holds for one workload, device, number of stacks that train at the same time, number of threads, and
version of torch. Delete it, and the next sweep measures again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from normbench.autotune.tuning import Measurement
from normbench.engine.stack_layout import StackLayout
from normbench.files import write_atomically


def tuning_file(cache: Path, key: dict[str, Any]) -> Path:
    """The file of the workload with that key, under the results' cache folder."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return cache / "tuning" / f"{digest}.json"


def read(file: Path, key: dict[str, Any]) -> dict[str, Any]:
    """What a file holds: `measurements` by width, `searched` and `day`, as Workload has them.

    Returns:
        An empty dict if there is no such file, or if it is damaged or of another workload.
    """
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["key"] != key:
            return {}
        measurements = [
            Measurement(**{**each, "layout": StackLayout(**each["layout"])}) for each in kept["measurements"]
        ]
        return {
            "measurements": {each.lanes: each for each in measurements},
            "searched": int(kept["searched"]),
            "day": str(kept["day"]),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write(
    file: Path, key: dict[str, Any], measurements: Iterable[Measurement], searched: int, day: str
) -> None:
    """Write a file and create its folder. If the disk refuses, the sweep goes on without the file."""
    kept = {"key": key, "day": day, "searched": searched, "measurements": list(map(asdict, measurements))}
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(kept, indent=1) + "\n")
