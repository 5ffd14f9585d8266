"""The runs that words of `train` name: those with a record, those without, and those that cannot exist.

The words are composed and resolved as `train` does it. Signatures select the records. Nothing is trained.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from normbench import skipped_runs
from normbench.commands.damage import whole_records
from normbench.errors import InputError
from normbench.labels import material
from normbench.record import Record
from normbench.skipped_runs import SKIPPED
from normbench.store import Store

if TYPE_CHECKING:
    from normbench.config.sweep import Skipped, SweepSpecs

MISSING = "missing"


@dataclass(frozen=True)
class AskedRuns:
    """The runs of a reading command.

    Attributes:
        records: the runs that have a record.
        missing: the runs without a record, as records without metrics; none if no words were given.
        skipped: the runs that cannot exist, as records without metrics.
    """

    records: list[Record]
    missing: list[Record]
    skipped: list[Record]


def asked_runs(
    words: Sequence[str], store: Store, config_dir: str | None = None, *, need_one: bool = True
) -> AskedRuns:
    """The runs that the words name, in the order of the sweep; without words, all runs of the store.

    Args:
        words:      those of a train command.
        store:      where records are looked up.
        config_dir: a folder with the user's own choices; by default `./conf`.
        need_one:   refuse words of which no run has a record.

    Raises:
        InputError: the words do not compose, or none of their runs has a record.
    """
    if not words:
        return AskedRuns(whole_records(store), [], skipped_runs.read(store.root))
    sweep, specs = sweep_of(words, config_dir)
    place = {signature: f"{i:06d}" for i, signature in enumerate(specs)}
    impossible = [_impossible(run) for run in sweep.skipped]
    found = {record.signature: record for record in whole_records(store, specs)}
    lacking = {signature: spec for signature, spec in specs.items() if signature not in found}
    known = {_identity(run.spec): run for run in skipped_runs.read(store.root)} if lacking else {}
    missing = []
    for signature, spec in lacking.items():
        if known and (run := known.get(_identity(spec))) is not None:
            impossible.append(run)
        else:
            missing.append(Record(signature, spec, MISSING, {}, {}, {}, {"asked": place[signature]}))
    if not found and need_one:
        command = shlex.join(["normbench", "train", *words])
        which, them = f"none of the {len(specs)} runs of these words has a", "them"
        if len(specs) == 1:
            which, them = "the run of these words has no", "it"
        raise InputError(f"{which} record; train {them}: {command}")
    records = [  # names stand in the order of the words, whenever the runs were first asked for
        replace(record, provenance=record.provenance | {"asked": place[signature]})
        for signature, record in found.items()
    ]
    return AskedRuns(records, missing, impossible)


def sweep_of(words: Sequence[str], config_dir: str | None) -> tuple[SweepSpecs, dict[str, dict[str, Any]]]:
    """The sweep that the words of a train command name, and its specifications by signature.

    Raises:
        InputError: the words do not compose.
    """
    from normbench.config.compose import compose  # PERF: without words, nothing is composed
    from normbench.config.search_path import own_config_dir
    from normbench.config.sweep import resolve_sweep

    sweep = resolve_sweep(compose(words, config_dir or own_config_dir()))
    return sweep, {run.spec.signature: run.spec.tree() for run in sweep.runs}


def _impossible(run: Skipped) -> Record:
    fields = json.loads(json.dumps(run.fields, default=str))
    return Record("", fields, SKIPPED, {}, {}, {}, {"error": run.reason})


def _identity(spec: Mapping[str, Any]) -> str:
    """What tells configurations apart. The seed is left out: no run is impossible because of its seed."""
    return json.dumps(material(spec), sort_keys=True, default=str)
