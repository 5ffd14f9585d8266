"""The task that Hydra calls with configurations, and that trains them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from normbench import events, skipped_runs
from normbench.config.compose import to_plain
from normbench.config.sweep import Skipped, resolve_sweep
from normbench.errors import RunFailure
from normbench.record import FAILED, Record, why_failed
from normbench.store import Store
from normbench.uncollected import uncollected

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from normbench.commands.sweep_summary import Draw

Metrics = dict[str, float | None]


class Training:
    """The task that Hydra calls, with one configuration or (through the launcher) with all of a sweep.

    records: the records of all runs asked for, in order.
    trained: signatures of the runs trained by this command.
    elsewhere: signatures of the runs that other processes trained meanwhile.
    skipped: the impossible runs that were left out.

    Args:
        console: show the sweep on stdout and stderr.
        draw:    draws the figures that a tracker shows of each sweep; None: there are none.
    """

    def __init__(self, *, console: bool = True, draw: Draw | None = None) -> None:
        self._console, self._draw = console, draw
        self.store = Store.default()
        self.records: list[Record] = []
        self.trained: set[str] = set()
        self.elsewhere: set[str] = set()
        self.skipped: list[Skipped] = []

    def __call__(self, config: DictConfig) -> Metrics:
        """Get or train one run; return its metrics.

        Raises:
            InputError: the run cannot be trained as asked.
            RunFailure: the run failed.
        """
        [outcome] = self.many([to_plain(config)])
        if isinstance(outcome, RunFailure):
            raise outcome
        return outcome

    def many(self, configs: Sequence[Mapping[str, Any]]) -> list[Metrics | RunFailure]:
        """Get or train all runs; return for each its metrics (none if it was skipped), or why it failed.

        Raises:
            InputError: a run cannot be trained as asked. Nothing was written then.
        """
        from normbench import tracking
        from normbench.commands.damage import warn_of_damage
        from normbench.commands.sweep_summary import sweep_summary
        from normbench.sweeps.get_or_train import Sweep

        specs = resolve_sweep(configs)
        with uncollected():
            import_module("normbench.sweeps.worker")  # it imports torch
        sweep = Sweep(specs.runs, self.store, specs.on_error, specs.executor)
        if sweep.faults:
            specs = specs.without(sweep.faults)
            sweep = Sweep(specs.runs, self.store, specs.on_error, specs.executor)
        tally = Tally()
        asked = specs.runs[0].spec.tracking
        summarize = partial(sweep_summary, draw=self._draw)
        observers = tracking.observers(asked, self.store.root, console=self._console, summarize=summarize)
        records = sweep.train([*observers, tally])
        warn_of_damage(self.store)
        self.records += records
        self.skipped += specs.skipped
        for run in specs.skipped:
            with suppress(OSError):  # tables then say nothing in place of n/a
                skipped_runs.keep(self.store.root, run.fields, run.reason)
        self.trained |= tally.ended
        self.elsewhere |= tally.elsewhere
        ended = iter(records)
        return [{} if isinstance(run, Skipped) else _outcome(next(ended)) for run in specs.asked]


def _outcome(record: Record) -> Metrics | RunFailure:
    return RunFailure(why_failed(record.provenance)) if record.status == FAILED else record.metrics


class Tally:
    """An observer that collects the signatures of the runs that end, here and elsewhere."""

    def __init__(self) -> None:
        self.ended: set[str] = set()
        self.elsewhere: set[str] = set()

    def notify(self, event: events.Event) -> None:
        if isinstance(event, events.RunEnded):
            self.ended.add(event.record.signature)
        elif isinstance(event, events.RunEndedElsewhere):
            self.elsewhere.add(event.record.signature)

    def close(self) -> None:
        """Does nothing: there is nothing to release."""
