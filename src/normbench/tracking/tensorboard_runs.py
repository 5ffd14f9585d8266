"""TensorBoard as an observer: one folder of event files per run, live while the run trains.

    tensorboard --logdir results/tensorboard

A folder is named by the settings, the seed and the signature of its run, so every sweep finds it again. The
tab HPARAMS shows settings and final metrics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from normbench.errors import InputError
from normbench.events import Event, RunEnded, RunEvaluated, RunFound, StackLogged, StackStarted
from normbench.labels import label, material
from normbench.record import Record
from normbench.store import Store
from normbench.tracking.wandb_fields import group, metrics

#: Runs that are shown live. Each has an open file and a thread. The others are written when they end.
MOST_LIVE = 100


def check_tensorboard() -> None:
    """Refuse the tracker if its package is missing.

    Raises:
        InputError: says how to install it.
    """
    if find_spec("tensorboard") is None:
        raise InputError(
            "tracking=tensorboard needs the package tensorboard: pip install 'normbench[tensorboard]'"
        )


@dataclass
class _Live:
    """A run that trains: its open event file, and the last step that the file has; -1: none."""

    writer: Any
    sent: int


class TensorboardRuns:
    """Writes the runs of a sweep to `root`/tensorboard.

    Args:
        root:      the results folder.
        most_live: the largest number of runs with an open event file.
    """

    def __init__(self, root: Path, *, most_live: int = MOST_LIVE) -> None:
        self._root, self._most_live = root, most_live
        self._store = Store(root)
        self._live: dict[str, _Live] = {}

    def notify(self, event: Event) -> None:
        match event:
            case StackStarted():
                for signature, spec in zip(event.signatures, event.specs, strict=True):
                    if signature not in self._live and len(self._live) < self._most_live:
                        writer = self._writer(signature, spec, event.first_step)
                        self._live[signature] = _Live(writer, event.first_step or -1)
            case StackLogged():
                for signature, point in zip(event.signatures, event.points, strict=True):
                    live = self._live.get(signature)
                    if live is not None and event.step > live.sent:
                        _add(live.writer, point, event.step)
                        live.sent = event.step
            case RunEnded(record=record):
                live = self._live.pop(record.signature, None)
                self._end(record, live)
            case RunFound(record=record) if not self._folder(record.signature, record.spec).exists():
                self._end(record, None)  # it was trained without this tracker
            case RunEvaluated(record=record):
                self._end(record, None)

    def close(self) -> None:
        """Close the event files of runs that have not ended."""
        for live in self._live.values():
            live.writer.close()
        self._live.clear()

    def _end(self, record: Record, live: _Live | None) -> None:
        """Write what the file of a run lacks, its settings and its final metrics; then close it."""
        history = self._store.history(record.signature)
        writer = self._writer(record.signature, record.spec, 0) if live is None else live.writer
        sent = -1 if live is None else live.sent
        for point in history:
            if (step := int(point["step"] or 0)) > sent:
                _add(writer, point, step)
        last = int(history[-1]["step"] or 0) if history else 0
        final = metrics({**record.timing, **record.metrics})
        _add(writer, final, last)
        tables = import_module("torch.utils.tensorboard.summary")
        shown = {key: _plain(value) for key, value in material(record.spec).items() if value is not None}
        for part in tables.hparams(shown | {"seed": record.spec.get("seed", 0)}, final):
            writer.file_writer.add_summary(part)
        writer.close()

    def _writer(self, signature: str, spec: Mapping[str, Any], first_step: int) -> Any:
        """An event file for a run. TensorBoard drops points after `first_step` that earlier files have."""
        module = import_module("torch.utils.tensorboard")
        folder = self._folder(signature, spec)
        return module.SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else 0)

    def _folder(self, signature: str, spec: Mapping[str, Any]) -> Path:
        words = group(dict(spec), f"s{spec.get('seed', 0)}")
        return self._root / "tensorboard" / re.sub(r"[^\w.+=-]", "_", f"{words} {signature[:8]}")


def _add(writer: Any, point: Mapping[str, float | None], step: int) -> None:
    for name, value in metrics(dict(point)).items():
        if name != "step":
            writer.add_scalar(name, value, step)


def _plain(value: Any) -> bool | int | float | str:
    """A setting as TensorBoard takes it."""
    return value if isinstance(value, bool | int | float | str) else label(value)
