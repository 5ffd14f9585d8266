"""The store: one folder per run. A reader never sees half a record.

    <root>/runs/<first two digits>/<signature>/
        config.yaml           the specification
        history.jsonl         the curve, one point per line
        weights.safetensors   the final state, if it is kept: weights and the run's own statistics
        error.txt             why the run failed, if it did
        diagnostics.jsonl     what diagnostics found by layer, one reading per line, if any were asked for
        record.json           written last: its presence means that the run ended
        evaluation-*.json     metrics that were evaluated after the run had ended
        curve-*.json          denser curves and further diagnostics, from training the run again
        diagnostics-*.jsonl   what further diagnostics found by layer
        tags.json             tags, if they were changed after the training
        checkpoint.pt         exists from a while after the run has begun until it has a result
        checkpoint.json       how far the checkpoint is, for people
        lease.json            exists while a process trains the run, see `normbench.leases`

Every file is written under a temporary name in its folder and then renamed. That is atomic on local and on
network file systems, so several processes and machines may share a store without locks. The results of a run
are never replaced. Later results become new files.

Who trains a run passes a guard, which raises if the lease was lost. It is called before every rename. What is
left is a process that is stopped between the guard and the rename, for longer than its lease lasts. When it
wakes up, that one rename still happens. A new record is linked, not renamed, so it never replaces a result. A
curve or a final state may replace that of the successor, which is of the same run with the same seed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from normbench import run_series, tags, unfinished
from normbench.errors import InputError
from normbench.files import folders_in, last_bytes, try_writing
from normbench.record import FAILED, Addition, Metrics, Record
from normbench.run_folder import REMEDY, Guard, clean, config_text, write_files
from normbench.signatures import completed
from normbench.uncollected import uncollected

T = TypeVar("T")
#: Errors from reading a file that is damaged or was not written by this version.
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, RecursionError)
#: If the store has more runs, an error message does not list them.
_FEW = 8


class Store:
    """Records on disk under `root`. Nothing is created before the first `put`.

    `damaged` collects one message per file that could not be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.damaged: list[str] = []

    @classmethod
    def default(cls) -> Store:
        """The store in the folder `NORMBENCH_RESULTS`; if that is not set, in `results`."""
        return cls(Path(os.environ.get("NORMBENCH_RESULTS") or "results").expanduser())

    def run_folder(self, signature: str) -> Path:
        return self._runs.joinpath(signature[:2], signature)

    def folder_of(self, record: Record) -> Path:
        """The folder of a record. A record of schema 1 lies in the folder of its earlier signature."""
        return self.run_folder(str(record.provenance.get("earlier_signature", record.signature)))

    def folders(self) -> list[Path]:
        """The folders of all runs, ended or not, in the order of signatures."""
        found = [run for group in folders_in(self._runs) for run in folders_in(group.path)]
        return [Path(run.path) for run in sorted(found, key=lambda run: run.name)]

    def checkpoint_file(self, signature: str) -> Path:
        """The checkpoint file of a run that trains. `put` deletes it if the run has a result."""
        return self.run_folder(signature) / "checkpoint.pt"

    def lease_file(self, signature: str) -> Path:
        """The lease of a run, see `normbench.leases`."""
        return self.run_folder(signature) / "lease.json"

    def unfinished(self, signature: str) -> unfinished.Unfinished | None:
        """How far a run with a checkpoint is; None if it has none. A run that trains again may have one."""
        return unfinished.read(self.run_folder(signature))

    def error_file(self, signature: str) -> Path:
        """The file with the traceback of a run that failed."""
        return self.run_folder(signature) / "error.txt"

    def weights_file(self, signature: str) -> Path:
        """The file of a run's final state. It exists only if the final state was kept."""
        return self.run_folder(signature) / "weights.safetensors"

    def kept_bytes(self) -> int:
        """Bytes of all final states in the store."""
        return sum(file.stat().st_size for file in self._runs.glob("*/*/weights.safetensors"))

    def put(self, record: Record, error: str | None = None, guard: Guard = lambda: None) -> None:
        """Write a record, with `error` as the text of error.txt if the run failed.

        A run that has a result keeps it, even if another process writes later. If the result lacks metrics or
        a denser curve of the new record, they are added as new files. A failed record leaves the checkpoint:
        the run goes on from it.

        Args:
            guard: called before every rename; what it raises is passed on.

        Raises:
            StoreFailure: the disk is full, or the folder cannot be written.
        """
        if (known := self.get(record.signature)) is not None and known.ended_well:
            if record.status != FAILED:
                self._add_to(known, record, guard)
            return
        texts = {
            "history.jsonl": run_series.lines(record.history),
            "config.yaml": config_text(record.spec),
        }
        if record.diagnostics:
            texts["diagnostics.jsonl"] = run_series.lines(record.diagnostics)
        if record.status == FAILED:
            texts["error.txt"] = (error or "no reason was given").rstrip() + "\n"
        texts["record.json"] = record.to_json()  # last: its presence says that the others are complete
        folder = self.run_folder(record.signature)
        try:
            new = None if (folder / "record.json").exists() else "record.json"
            write_files(folder, texts, guard, new=new)
        except FileExistsError:  # another process has written it in this instant
            self.put(record, error, guard)
            return
        if record.status != FAILED:
            clean(folder)

    def add(
        self, addition: Addition, rows: Sequence[run_series.Row] = (), guard: Guard = lambda: None
    ) -> None:
        """Write metrics that were evaluated after a run had ended, and what diagnostics found by layer.
        Existing files are not replaced.

        Raises:
            StoreFailure: the disk is full, or the folder cannot be written.
        """
        folder = self._record_folder(addition.signature)
        if files := run_series.of_addition(folder, addition, rows):
            write_files(folder, files, guard)

    def _add_to(self, known: Record, record: Record, guard: Guard) -> None:
        """Add the metrics and the curve of another training that the known record lacks."""
        folder = self._record_folder(record.signature)
        write_files(folder, run_series.of_later_training(folder, known, record), guard)
        clean(self.run_folder(record.signature))

    def _record_folder(self, signature: str) -> Path:
        """The folder of a run's record. A record of schema 1 is in the folder of its earlier signature."""
        own = self.run_folder(signature)
        earlier = None if (own / "record.json").is_file() else self._earlier.get(signature)
        return own if earlier is None else self.folder_of(earlier)

    def get(self, signature: str) -> Record | None:
        """The record of a run without its history; None if it does not exist or cannot be read."""
        return self._read(self._record_folder(signature) / "record.json")

    def record_in(self, folder: Path) -> Record | None:
        """The record in the folder of a run; None if it has none, or cannot be read."""
        return self._read(folder / "record.json")

    def finished(self, signatures: Iterable[str]) -> set[str]:
        """The signatures of the runs that have a result and need not train again."""
        records = (self.get(signature) for signature in signatures)
        return {record.signature for record in records if record is not None and record.ended_well}

    def records(self) -> list[Record]:
        """Every readable record, sorted by signature. If a run has two, the one of the current schema."""
        with uncollected():
            found = [self.record_in(folder) for folder in self.folders()]
        by_signature: dict[str, Record] = {}
        for record in found:
            if record is not None and "earlier_signature" in record.provenance:
                by_signature.setdefault(record.signature, record)
            elif record is not None:
                by_signature[record.signature] = record
        return [by_signature[signature] for signature in sorted(by_signature)]

    @cached_property
    def _earlier(self) -> dict[str, Record]:
        """Records of schema 1 by the signature that their runs have today.

        PERF: the schema is at the end of record.json, so records of other schemas are not read.
        """
        files = [folder / "record.json" for folder in self.folders()]
        records = [self._read(file) for file in files if last_bytes(file).endswith('"schema": 1\n}')]
        return {record.signature: record for record in reversed(records) if record is not None}

    def history(self, signature: str) -> tuple[Metrics, ...]:
        """The curve of a run, one point per logged step. If there are several curves, the densest one, with
        the diagnostics of all. Unreadable lines are left out and noted as damaged.
        """
        return run_series.read_history(self._record_folder(signature), self.note)

    def diagnostics(self, signature: str) -> tuple[run_series.Row, ...]:
        """What diagnostics found by layer, one entry per step and name, in the order of the steps."""
        return run_series.read_diagnostics(self._record_folder(signature), self.note)

    def has_curve(self, record: Record, every: int) -> bool:
        """Whether the run has a curve with an evaluation every `every` steps."""
        return run_series.has_curve(self._record_folder(record.signature), record, every)

    def find(self, name: str) -> Record:
        """The record of the run with a unique start of its signature, or with a path of its folder or record.

        Raises:
            InputError: no run or several runs match, or the record cannot be read.
        """
        known = [*(f.name for f in self.folders() if (f / "record.json").is_file()), *self._earlier]
        if signature := completed(name, known):
            file = self._record_folder(signature) / "record.json"
        elif name and Path(name).exists():
            file = Path(name) / "record.json" if Path(name).is_dir() else Path(name)
        elif known:
            some = f" (all: {', '.join(known)})" if len(known) <= _FEW else ""
            raise InputError(
                f"unknown run '{name}' among {len(known):,}{some}; give the start of a signature or a "
                "folder; normbench table --runs lists them"
            )
        else:
            raise InputError(f"no run '{name}': {self.root} holds no records; train some, or {REMEDY}")
        try:
            return self._load(file.resolve())
        except FileNotFoundError:
            raise InputError(f"run '{name}' has not ended: there is no {file}; repeat its command") from None
        except _UNREADABLE as error:
            raise InputError(f"{file} cannot be read: {error}; repeat the command of that run") from None

    def check_writable(self) -> None:
        """Check that records can be written, by writing a file and removing it.

        Permission bits are not reliable for root, on network mounts and on full disks.

        Raises:
            InputError: nothing can be written there.
        """
        try:
            try_writing(self._runs)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"results cannot be written to {self.root}: {reason}; {REMEDY}") from None

    @property
    def _runs(self) -> Path:
        return self.root / "runs"

    def _read(self, file: Path) -> Record | None:
        return self._readable(file, self._load, "the run counts as missing")

    def _readable(self, file: Path, load: Callable[[Path], T], consequence: str) -> T | None:
        try:
            return load(file)
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            self.note(f"{file}: {error}; {consequence}")
            return None

    def _load(self, file: Path) -> Record:
        """Read a record.json and the additions in its folder.

        Raises:
            ValueError: it is not a record, or it belongs to another folder, for example a copy.
        """
        record = Record.from_json(file.read_bytes().decode())
        folder = file.parent
        if record.provenance.get("earlier_signature", record.signature) != folder.name:
            raise ValueError(f"it holds run {record.signature}, but is in folder {folder.name}")
        names = os.listdir(folder)  # noqa: PTH208 PERF: for all files that may be there at once
        files = [folder / name for name in sorted(names) if fnmatchcase(name, "evaluation-*.json")]
        found = [self._readable(each, _addition, "it is left out") for each in files]
        own = [each for each in found if each is not None and each.signature == record.signature]
        changed = None
        if tags.FILE in names:
            changed = self._readable(folder / tags.FILE, tags.read, "it is left out")
        tagged = tags.of(record.spec, changed)
        record = record.with_additions(tuple(own))
        return replace(record, tags=tagged) if tagged else record

    def note(self, message: str) -> None:
        """Add a message to `damaged`, once."""
        if message not in self.damaged:
            self.damaged.append(message)


def _addition(file: Path) -> Addition:
    return Addition.from_json(file.read_text(encoding="utf-8"))
