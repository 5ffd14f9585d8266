"""Record: one ended run as a value, and additions with metrics that were evaluated later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from normbench.paths import get
from normbench.record_checks import fault, first_invalid_number, is_table

SCHEMA = 2

COMPLETE = "complete"
DIVERGED = "diverged"  # a result, not an error: the loss was no longer finite
FAILED = "failed"
STATUSES = (COMPLETE, DIVERGED, FAILED)

Metrics = dict[str, float | None]
#: Numbers in nested lists; None in place of a number that does not exist.
Table = list[Any]
#: Fields of a record that are mappings.
_MAPPINGS = ("spec", "metrics", "timing", "environment", "provenance")


@dataclass(frozen=True)
class Addition:
    """Metrics of an ended run that were evaluated later, with their own provenance."""

    signature: str
    metrics: Metrics
    environment: dict[str, Any]
    provenance: dict[str, Any]
    schema: int = SCHEMA
    tables: dict[str, Table | None] = field(default_factory=dict)

    def to_json(self) -> str:
        return _json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Addition:
        """Read an addition.

        Raises:
            ValueError: it is not an addition of this schema.
        """
        return cls(**_checked(_tree(text), cls, ("metrics", "environment", "provenance")))


@dataclass(frozen=True)
class Record:
    """The permanent record of a run. Metrics are fractions, never percent. None: the number does not exist.

    Attributes:
        signature:   identifies the final state of the run.
        spec:        the RunSpec as plain containers.
        status:      complete, diverged or failed.
        metrics:     by name, including those of `additions`.
        timing:      seconds and rates of the training.
        environment: versions and device of the training.
        provenance:  stack size, lane, bank, commit, date.
        tables:      measurements that are not numbers, such as a confusion matrix, by name.
        history:     the curve, one point per logged step. It has its own file.
        diagnostics: values by layer, one mapping per reading. They have their own files.
        additions:   metrics that were evaluated after the run had ended, in the order of the file names.
        tags:        tags that the run has now, see `normbench.tags`. They have their own file.
    """

    signature: str
    spec: dict[str, Any]
    status: str
    metrics: Metrics
    timing: dict[str, float]
    environment: dict[str, Any]
    provenance: dict[str, Any]
    schema: int = SCHEMA
    tables: dict[str, Table | None] = field(default_factory=dict)
    history: tuple[Metrics, ...] = field(default=(), compare=False)
    diagnostics: tuple[dict[str, Any], ...] = field(default=(), compare=False)
    additions: tuple[Addition, ...] = field(default=(), compare=False)
    tags: tuple[str, ...] = field(default=(), compare=False)

    @property
    def ended_well(self) -> bool:
        """Whether the record is a result, so that the run need not train again."""
        return self.status in (COMPLETE, DIVERGED)

    def with_additions(self, additions: tuple[Addition, ...]) -> Record:
        """The record with the results of the additions. No existing result is replaced."""
        if not additions:
            return self
        metrics, tables = dict(self.metrics), dict(self.tables)
        for addition in additions:
            metrics |= {name: value for name, value in addition.metrics.items() if name not in metrics}
            tables |= {name: value for name, value in addition.tables.items() if name not in tables}
        return replace(self, metrics=metrics, tables=tables, additions=(*self.additions, *additions))

    @property
    def measured(self) -> set[str]:
        """Names of all metrics and tables."""
        return {*self.metrics, *self.tables}

    def value(self, key: str) -> Any:
        """A metric or a field by the dotted name that tables use; None if there is no such name.

        `norm` is short for `norm.name`.
        """
        if key in self.metrics:
            return self.metrics[key]
        if key in ("status", "signature"):
            return getattr(self, key)
        found = get(self.spec, key)
        return found["name"] if isinstance(found, dict) and "name" in found else found

    def to_json(self) -> str:
        """The text of record.json. History, diagnostics and tags have their own files."""
        own = {"history", "diagnostics", "tags", "additions"}  # PERF: asdict copies all of a history
        tree = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in own}
        if self.additions:
            tree["additions"] = [asdict(addition) for addition in self.additions]
        return _json(tree)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read record.json. A record of schema 1 gets the signature that its spec has today.

        Raises:
            ValueError: it is not a valid record, or its schema is not one that this version reads.
        """
        tree = _tree(text)
        if tree.get("schema") == 1:
            tree = _of_schema_1(tree)
        record = cls(**_checked(tree, cls, _MAPPINGS))
        if (wrong := fault(record.spec, record.timing)) is not None:
            raise ValueError(wrong)
        return record


def why_failed(provenance: Mapping[str, Any]) -> str:
    """Why a run failed, in one line, from the provenance of its record."""
    return str(provenance.get("error", "see error.txt in its folder"))


def _json(tree: dict[str, Any]) -> str:
    """The text of a record or an addition; tables are left out if there are none, and stand on one line."""
    tables = tree.pop("tables")
    text = json.dumps(tree, indent=2, allow_nan=False)
    if tables:
        lines = [
            f"{json.dumps(name)}: {json.dumps(table, allow_nan=False)}" for name, table in tables.items()
        ]
        text = text.removesuffix("\n}") + ',\n  "tables": {\n    ' + ",\n    ".join(lines) + "\n  }\n}"
    return text + "\n"


def _tree(text: str) -> dict[str, Any]:
    tree = json.loads(text)
    if not isinstance(tree, dict):
        raise ValueError("not a record: it holds no mapping")
    return tree


def _of_schema_1(tree: dict[str, Any]) -> dict[str, Any]:
    """Convert a record of schema 1. Its signature depended on how the run was evaluated."""
    from pydantic import ValidationError  # PERF: `--help` reads no records

    from normbench.spec import RunSpec, first_fault

    known = tree.get("spec")
    untracked: dict[str, Any] = {"name": "none", "project": None, "entity": None, "mode": None, "tags": []}
    try:
        spec = RunSpec.model_validate({**known, "tracking": untracked} if isinstance(known, dict) else known)
    except ValidationError as error:
        raise ValueError(f"its spec is of an older version: {first_fault(error)}") from None
    provenance = {**(tree.get("provenance") or {}), "earlier_signature": tree.get("signature")}
    status, metrics = tree.get("status"), tree.get("metrics")
    if status == COMPLETE and isinstance(metrics, dict) and metrics.get("test_loss", 0.0) is None:
        status = DIVERGED  # its last update left weights that are not finite
    return tree | {
        "signature": spec.signature, "spec": spec.model_dump(mode="json"), "provenance": provenance,
        "schema": SCHEMA, "status": status,
    }  # fmt: skip


def _checked(tree: dict[str, Any], cls: type, mappings: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a record or an addition, with checked types."""
    if tree.get("schema") != SCHEMA:
        raise ValueError(f"not of schema {SCHEMA} or older: {tree.get('schema')!r}")
    tree = {"tables": {}} | tree
    mappings = (*mappings, "tables")
    unknown = tree.keys() - {"signature", "schema", *mappings, *(("status",) if cls is Record else ())}
    if unknown or not isinstance(tree.get("signature"), str):
        raise ValueError(f"not a record: {', '.join(sorted(unknown)) or 'it has no signature'}")
    if absent := [name for name in mappings if not isinstance(tree.get(name), dict)]:
        raise ValueError(f"{', '.join(absent)} must be mappings")
    if cls is Record and tree.get("status") not in STATUSES:
        raise ValueError(f"it has the unknown status {tree.get('status')!r}")
    if (name := first_invalid_number(tree["metrics"])) is not None:
        raise ValueError(f"metric {name} must be a finite number or null")
    if wrong := [name for name, table in tree["tables"].items() if not is_table(table)]:
        raise ValueError(f"table {wrong[0]} must be nested lists of finite numbers or null")
    return tree


def curve_point(tree: Any) -> Metrics:
    """Check a point of a curve that was read, and return it.

    Raises:
        ValueError: it is not a mapping of names to finite numbers or null.
    """
    if not isinstance(tree, dict) or first_invalid_number(tree) is not None:
        raise ValueError("it is not a point of a curve")
    return tree
