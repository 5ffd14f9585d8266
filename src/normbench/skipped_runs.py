"""Impossible runs that `invalid=skip` left out: kept beside the records, so that tables can say n/a and why.

<root>/skipped/<signature>.json      {"spec": …, "reason": …}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normbench.files import write_atomically
from normbench.record import Record

SKIPPED = "skipped"


def keep(root: Path, spec: Mapping[str, Any], reason: str) -> None:
    """Remember a run that cannot exist.

    Args:
        root:   the results folder.
        spec:   its configuration as far as it could be resolved, shaped as a RunSpec's tree.
        reason: why it cannot exist, in one line.

    Raises:
        OSError: the folder cannot be written.
    """
    fields = json.loads(json.dumps(spec, default=str))
    name = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
    folder = root / SKIPPED
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"spec": fields, "reason": reason}, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / f"{name}.json", text)


def read(root: Path) -> list[Record]:
    """The impossible runs as records without metrics, sorted by file name; damaged files are passed over."""
    found = []
    for file in sorted((root / SKIPPED).glob("*.json")):
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
            spec, reason = dict(tree["spec"]), str(tree["reason"])
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            continue
        found.append(Record(file.stem, spec, SKIPPED, {}, {}, {}, {"error": reason}))
    return found
