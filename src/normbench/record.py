"""Record: one ended run as a value."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = 1

COMPLETE = "complete"
DIVERGED = "diverged"  # a result, not an error: the loss left the finite numbers
FAILED = "failed"


@dataclass(frozen=True)
class Record:
    """What is kept of a run for ever. Metrics are fractions (never percent); None stands for "no such
    number".
    """

    signature: str
    spec: dict[str, Any]  # RunSpec as plain containers
    status: str  # complete | diverged | failed
    metrics: dict[str, float | None]
    timing: dict[str, float]
    environment: dict[str, Any]
    provenance: dict[str, Any]  # stack size, lane, git commit, how to rerun
    schema: int = SCHEMA
    history: tuple[dict[str, float | None], ...] = field(default=(), compare=False)

    @property
    def ended_well(self) -> bool:
        """A result that need not be trained again."""
        return self.status in (COMPLETE, DIVERGED)

    def value(self, key: str) -> Any:
        """A field by its dotted name, as tables name rows and columns.

        `norm` is short for `norm.name`; what is neither a spec field nor a metric is None.
        """
        if key in self.metrics:
            return self.metrics[key]
        node: Any = self.spec
        for part in key.split("."):
            if not isinstance(node, dict) or part not in node:
                return getattr(self, key, None) if key in ("status", "signature") else None
            node = node[part]
        return node["name"] if isinstance(node, dict) and "name" in node else node

    def to_json(self) -> str:
        """The text of record.json; the history lies beside it in history.jsonl."""
        tree = asdict(self)
        del tree["history"]
        return json.dumps(tree, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read record.json.

        Raises:
            ValueError: not a record of a schema that this version reads.
        """
        tree = json.loads(text)
        if not isinstance(tree, dict) or tree.get("schema") != SCHEMA:
            raise ValueError(f"not a record of schema {SCHEMA}")
        try:
            return cls(**tree)
        except TypeError as error:
            raise ValueError(f"not a record: {error}") from None
