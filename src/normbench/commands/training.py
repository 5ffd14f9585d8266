"""The task that trains: what Hydra calls with configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from normbench import events
from normbench.commands.summary import failure
from normbench.config.compose import plain
from normbench.config.resolve import resolve
from normbench.errors import RunFailure
from normbench.record import FAILED, Record
from normbench.store import Store

if TYPE_CHECKING:
    from omegaconf import DictConfig

Metrics = dict[str, float | None]


class Training:
    """The task that Hydra calls: with one configuration, or through the launcher with all of a sweep.

    records: of all runs asked for, in order.
    trained: signatures of the runs that were trained now; the others had been before.
    """

    def __init__(self) -> None:
        self.store = Store.default()
        self.records: list[Record] = []
        self.trained: set[str] = set()

    def __call__(self, config: DictConfig) -> Metrics:
        """Get or train one run; its metrics.

        Raises:
            InputError: it cannot be trained as asked.
            RunFailure: it broke.
        """
        [outcome] = self.many([plain(config)])
        if isinstance(outcome, RunFailure):
            raise outcome
        return outcome

    def many(self, configs: Sequence[Mapping[str, Any]]) -> list[Metrics | RunFailure]:
        """Get or train all runs; for each its metrics, or why it failed.

        Raises:
            InputError: one of them cannot be trained as asked. Nothing was written then.
        """
        from normbench import tracking
        from normbench.commands.damage import warn_of_damage
        from normbench.sweeps.get_or_train import train

        resolved = [resolve(config) for config in configs]
        tally = Tally()
        observers = tracking.observers(resolved[0].spec.tracking, self.store.root, console=True)
        records = train(resolved, self.store, [*observers, tally])
        warn_of_damage(self.store)
        self.records += records
        self.trained |= tally.ended
        return [RunFailure(failure(r)) if r.status == FAILED else r.metrics for r in records]


class Tally:
    """An observer that keeps the signatures of the runs that end."""

    def __init__(self) -> None:
        self.ended: set[str] = set()

    def notify(self, event: events.Event) -> None:
        if isinstance(event, events.RunEnded):
            self.ended.add(event.record.signature)

    def close(self) -> None:
        """Nothing is held."""
