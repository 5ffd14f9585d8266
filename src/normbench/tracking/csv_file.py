"""The curves and results of a sweep as one CSV file in long form: one line per run, step and metric.

    run,norm,batch,seed,step,metric,value
    6f1c2a…,bn,2,0,100,train_loss,0.412

pandas reads it as it is. A run is written when it ends, from its files in the store. So the file holds the
whole curve, also if the run was resumed or its stack was split, and every run once.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TextIO

from normbench.csv_rows import csv_row
from normbench.events import Event, RunEnded, RunEvaluated, RunFound, SweepStarted
from normbench.labels import field, label, varying
from normbench.record import Record
from normbench.store import Store


class CsvFile:
    """Writes the runs of one sweep to `root`/csv.

    Args:
        root:   the results folder.
        notice: called with one line that names the file, at the end.
        now:    the time for the name of the file.
    """

    def __init__(
        self, root: Path, notice: Callable[[str], None], now: Callable[[], datetime] = datetime.now
    ) -> None:
        self._root, self._notice, self._now = root, notice, now
        self._store = Store(root)
        self._varying: tuple[str, ...] | None = None  # None until the sweep says it
        self._waiting: list[Record] = []  # runs that were found before that
        self._written: set[str] = set()
        self._stream: TextIO | None = None

    def notify(self, event: Event) -> None:
        match event:
            case SweepStarted():
                self._varying = event.varying
            case RunFound(record=record) if self._varying is None:
                self._waiting.append(record)
            case RunFound(record=record) | RunEnded(record=record):
                self._write(record)
            case RunEvaluated(record=record, added=added):
                self._write(record, added)

    def close(self) -> None:
        """Close the file. If nothing had to train, write the runs that were found."""
        if self._waiting:
            self._varying = tuple(varying([record.spec for record in self._waiting]))
            for record in self._waiting:
                self._write(record)
            self._waiting.clear()
        if self._stream is not None:
            self._stream.close()
            self._notice(f"curves and results: {self._stream.name}")
            self._stream = None

    def _write(self, record: Record, added: Iterable[str] = ()) -> None:
        """Write a run: all of it the first time, then the metrics that were added."""
        first = record.signature not in self._written
        self._written.add(record.signature)
        history = self._store.history(record.signature)
        names = record.metrics if first else added
        last = history[-1]["step"] if history else None
        lines: list[tuple[float | None, str, float | None]] = []
        if first:
            points = [(point["step"], key, value) for point in history for key, value in point.items()]
            final = {*record.metrics, *record.timing}
            lines = [line for line in points if not (line[0] == last and line[1] in final)]
            lines += [(last, key, value) for key, value in record.timing.items()]
        lines += [(last, key, record.metrics.get(key)) for key in names]
        stream = self._open()
        settings = [_text(record, key) for key in (*(self._varying or ()), "seed")]
        csv.writer(stream, lineterminator="\n").writerows(
            csv_row([record.signature, *settings, step if step is None else int(step), key, value])
            for step, key, value in lines
            if value is not None and key != "step"
        )
        stream.flush()

    def _open(self) -> TextIO:
        """The open file; created with its header at the first use."""
        if self._stream is None:
            keys = self._varying or ()
            self._stream = _new_file(self._root / "csv", self._now(), keys)
            header = csv_row(["run", *keys, "seed", "step", "metric", "value"])
            csv.writer(self._stream, lineterminator="\n").writerow(header)
        return self._stream


def _text(record: Record, key: str) -> str:
    value = field(record.spec, key)
    return "" if value is None else label(value)


def _new_file(folder: Path, now: datetime, keys: Sequence[str]) -> TextIO:
    """A new file, named by the time and by what varies; never one that exists."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]", "_", "-".join([f"{now:%Y-%m-%dT%H%M%S}", *keys]))[:120]
    names = (f"{stem}-{number}.csv" if number > 1 else f"{stem}.csv" for number in count(1))
    free = next(name for name in names if not (folder / name).exists())
    return (folder / free).open("x", encoding="utf-8", newline="")
