"""Ended runs as uploads to wandb: with the name, group, tags and project that live tracking gives them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from normbench import tags
from normbench.labels import varying
from normbench.record import Record
from normbench.spec import TrackingSpec
from normbench.store import Store
from normbench.tracking.wandb_fields import group_of
from normbench.tracking.wandb_run import names
from normbench.tracking.wandb_server import Expected
from normbench.tracking.wandb_summary import identity
from normbench.tracking.wandb_upload import Upload

PROJECT = "normbench"


@dataclass(frozen=True)
class Target:
    """A project of wandb, and the runs that belong there. Their histories are read when they are needed.

    Attributes:
        entity:  user or team; None: the owner of the key.
        varying: the fields in which the runs of the command differ; names tell them apart by these.
        lone:    whether the command has one run.
    """

    store: Store
    project: str
    entity: str | None
    records: tuple[Record, ...]
    varying: tuple[str, ...]
    lone: bool

    def expected(self) -> dict[str, Expected]:
        """What the server must show: run → its numbers and its number of points."""
        return {record.signature: self.upload(record).expected for record in self.records}

    def tags(self, record: Record, there: Sequence[str]) -> tuple[str, ...]:
        """The tags that the server must show of a run.

        Args:
            there: those that it shows. They stay as they are, unless the tags were changed here.
        """
        change = tags.changed(self.store.folder_of(record))
        return tuple(there) if change is None else change.applied_to(there)

    def upload(self, record: Record, there: Sequence[str] = ()) -> Upload:
        """A run with all that is sent of it.

        Args:
            there: the tags that the server shows of it.
        """
        label = group_of(record)
        place = {"project": self.project, "entity": self.entity, "id": record.signature}
        whole = replace(
            record,
            history=self.store.history(record.signature),
            diagnostics=self.store.diagnostics(record.signature),
        )
        return Upload(
            whole,
            place | names(record.spec, label, self.varying, lone=self.lone),
            self.varying,
            self.tags(record, tuple(dict.fromkeys([*there, *record.tags]))),
        )

    def summary(self) -> dict[str, Any] | None:
        """What names the summary run of these runs; None if they are no sweep."""
        if len(self.records) < 2:
            return None
        every = dict.fromkeys(tag for record in self.records for tag in record.tags)
        tracking = TrackingSpec(
            name="wandb", project=self.project, entity=self.entity, mode="online", tags=tuple(every)
        )
        return identity(tracking, [record.signature for record in self.records], self.varying)


def targets(store: Store, records: Sequence[Record], project: str | None, entity: str | None) -> list[Target]:
    """The projects that the runs belong to.

    Args:
        project: for all runs; None: the one that a run was tracked in, else WANDB_PROJECT, else normbench.
        entity:  for all runs; None: the one that a run was tracked in, else WANDB_ENTITY.
    """
    differ = tuple(varying([record.spec for record in records]))
    places: dict[tuple[str, str | None], list[Record]] = {}
    for record in records:
        own = _tracking(record)
        place = (
            project or own.get("project") or os.environ.get("WANDB_PROJECT") or PROJECT,
            entity or own.get("entity") or os.environ.get("WANDB_ENTITY") or None,
        )
        places.setdefault(place, []).append(record)
    return [
        Target(store, *place, tuple(some), differ, lone=len(records) == 1) for place, some in places.items()
    ]


def _tracking(record: Record) -> Mapping[str, Any]:
    found = record.spec.get("tracking")
    return found if isinstance(found, Mapping) else {}
