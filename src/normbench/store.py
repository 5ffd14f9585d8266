"""The store: one folder per run, written so that a reader never meets half a record.

    <root>/runs/<first two digits>/<signature>/
        config.yaml      the specification
        history.jsonl    the curve, one point per line
        error.txt        why the run failed, where it did
        record.json      written last: its presence means that the run ended
        checkpoint.pt    while the run is under way

Every file is written under a temporary name in its own folder and renamed into place. That is atomic on local
and on network file systems, so several processes and machines may share a store without locks.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import yaml

from normbench.errors import InputError, RunFailure, unknown
from normbench.record import COMPLETE, DIVERGED, FAILED, Record

#: What reading a file that this version did not write, or that a disk has torn, can raise.
_UNREADABLE = (OSError, ValueError, RecursionError)
#: PERF: libyaml's takes a tenth of the time, where PyYAML was built with it.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_REMEDY = "give another folder with NORMBENCH_RESULTS"


class Store:
    """Records on disk under `root`. Nothing is created before the first `put`.

    `damaged` collects one message per file that was met and could not be read; such a run counts as missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.damaged: list[str] = []

    @classmethod
    def default(cls) -> Store:
        """The store of this shell: `NORMBENCH_RESULTS`, or `results` under the current folder."""
        return cls(Path(os.environ.get("NORMBENCH_RESULTS") or "results"))

    def run_folder(self, signature: str) -> Path:
        return self._runs / signature[:2] / signature

    def checkpoint_file(self, signature: str) -> Path:
        """Where a run under way keeps its checkpoint; `put` deletes it."""
        return self.run_folder(signature) / "checkpoint.pt"

    def put(self, record: Record, error: str | None = None) -> None:
        """Keep a record for ever, with `error` as the text of error.txt where the run failed.

        A failed record never takes the place of a result, whichever process comes last.

        Raises:
            RunFailure: the disk is full, or the folder cannot be written.
        """
        folder = self.run_folder(record.signature)
        texts = {
            "history.jsonl": "".join(json.dumps(point, allow_nan=False) + "\n" for point in record.history),
            "config.yaml": yaml.dump(record.spec, Dumper=_DUMPER, sort_keys=False, allow_unicode=True),
        }
        if record.status == FAILED:
            if record.signature in self.finished([record.signature]):
                return
            texts["error.txt"] = (error or "no reason was given").rstrip() + "\n"
        texts["record.json"] = record.to_json()  # last: it declares the others complete
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                write_atomically(folder / name, text)
            if record.status != FAILED:
                (folder / "error.txt").unlink(missing_ok=True)
            self.checkpoint_file(record.signature).unlink(missing_ok=True)
        except OSError as failure:
            raise RunFailure(
                f"the record of run {record.signature} cannot be written to {folder}: "
                f"{failure.strerror or failure}; free space there or {_REMEDY}, then repeat the command"
            ) from failure

    def get(self, signature: str) -> Record | None:
        """The record of a run without its history; None where there is none or it cannot be read."""
        return self._read(self.run_folder(signature) / "record.json")

    def finished(self, signatures: Iterable[str]) -> set[str]:
        """Those of the signatures whose runs need not be trained again."""
        records = (self.get(signature) for signature in signatures)
        return {record.signature for record in records if record is not None and record.ended_well}

    def records(self) -> list[Record]:
        """Every readable record, sorted by signature."""
        found = [self._read(folder / "record.json") for folder in self._folders()]
        return [record for record in found if record is not None]

    def history(self, signature: str) -> tuple[dict[str, float | None], ...]:
        """The curve of a run, a point per logged step; unreadable lines are left out and noted as damaged."""
        file = self.run_folder(signature) / "history.jsonl"
        points = []
        try:
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                try:
                    points.append(json.loads(line))
                except ValueError:
                    self._note(f"{file}: line {number} is no JSON; it is left out")
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            self._note(f"{file}: {error}; the curve is left out")
        return tuple(points)

    def find(self, name: str) -> Record:
        """The run meant by a unique start of its signature, or by the path of its folder or record.json.

        Raises:
            InputError: no run or several are meant, or the record cannot be read.
        """
        known = [folder.name for folder in self._folders() if (folder / "record.json").is_file()]
        matches = [signature for signature in known if name and signature.startswith(name)]
        if len(matches) > 1:
            some = ", ".join(matches[:8]) + (", …" if len(matches) > 8 else "")
            raise InputError(f"'{name}' is the start of {len(matches)} runs: {some}; give more digits")
        if matches:
            file = self.run_folder(matches[0]) / "record.json"
        elif name and Path(name).exists():
            file = Path(name) / "record.json" if Path(name).is_dir() else Path(name)
        elif known:
            raise unknown("run", name, known, remedy="give the start of a signature or a run's folder")
        else:
            raise InputError(f"no run '{name}': {self.root} holds no records; train some, or {_REMEDY}")
        try:
            return _load(file.resolve())
        except FileNotFoundError:
            raise InputError(f"run '{name}' has not ended: there is no {file}; repeat its command") from None
        except _UNREADABLE as error:
            raise InputError(f"{file} cannot be read: {error}; repeat the command of that run") from None

    def check_writable(self) -> None:
        """Prove, by writing and removing a file, that records can be kept; nothing is left behind.

        Permissions are not asked for, they are tried: root, network mounts and full disks answer wrongly.

        Raises:
            InputError: nothing can be written there.
        """
        try:
            nearest = next(place for place in (self._runs, *self._runs.parents) if os.path.lexists(place))
            if not nearest.is_dir():
                raise NotADirectoryError(f"{nearest} is not a folder")
            probe = nearest / f".normbench-{secrets.token_hex(8)}"
            write_atomically(probe, "can this be written?\n")
            probe.unlink()
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"results cannot be written to {self.root}: {reason}; {_REMEDY}") from None

    @property
    def _runs(self) -> Path:
        return self.root / "runs"

    def _folders(self) -> list[Path]:
        return sorted(self._runs.glob("*/*/"), key=lambda folder: folder.name)

    def _read(self, file: Path) -> Record | None:
        try:
            return _load(file)
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            self._note(f"{file}: {error}; the run counts as missing")
            return None

    def _note(self, message: str) -> None:
        if message not in self.damaged:
            self.damaged.append(message)


def write_atomically(path: Path, text: str) -> None:
    """Write a text so that a reader sees the old content or the new, never a part; the folder must exist."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _load(file: Path) -> Record:
    """Read a record.json; ValueError also for what parses and is no record of its folder, such as a copy."""
    record = Record.from_json(file.read_text(encoding="utf-8"))
    if record.signature != file.parent.name:
        raise ValueError(f"it holds run {record.signature}, but lies in folder {file.parent.name}")
    if record.status not in (COMPLETE, DIVERGED, FAILED):
        raise ValueError(f"it has the unknown status {record.status!r}")
    groups = (record.spec, record.metrics, record.timing, record.environment, record.provenance)
    if not all(isinstance(group, dict) for group in groups):
        raise ValueError("spec, metrics, timing, environment and provenance must be mappings")
    for name, value in record.metrics.items():
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise ValueError(f"metric {name} must be a finite number or null")
    return record
