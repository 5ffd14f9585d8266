"""What every test stands on: a results folder of its own, no tracker, one thread. And training in no time."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

import hydra_memory
from normbench import events
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.record import COMPLETE, FAILED, Record
from normbench.spec import Resolved, RunSpec
from normbench.store import Store
from normbench.sweeps import get_or_train as run


@pytest.fixture(scope="session", autouse=True)
def _composed_once() -> Iterator[None]:
    """Hydra composes the same words once per process."""
    with pytest.MonkeyPatch.context() as patch:
        hydra_memory.remember(patch)
        yield


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A results folder of the test's own, no wandb, one thread for torch; logging is put back as it was."""
    monkeypatch.setenv("NORMBENCH_RESULTS", str(tmp_path / "results"))
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


class Trainer:
    """Stands for `normbench.sweeps.get_or_train.Sweep.train`, with its contract towards store and observers;
    training is a rule.

    error:   the test error of a run.
    breaks:  whether a run fails.
    trained: the runs that were trained, in order.
    """

    def __init__(self) -> None:
        self.error: Callable[[RunSpec], float] = lambda spec: 0.01 * spec.batch + 0.001 * spec.seed
        self.breaks: Callable[[RunSpec], bool] = lambda spec: False
        self.trained: list[RunSpec] = []

    def __call__(
        self, resolved: Sequence[Resolved], store: Store, observers: Sequence[events.Observer] = ()
    ) -> list[Record]:
        finished = store.finished({r.spec.signature for r in resolved})
        missing = {r.spec.signature: r.spec for r in resolved if r.spec.signature not in finished}
        for spec in missing.values():
            self.trained.append(spec)
            record = self._record(spec)
            store.put(record)
            for observer in observers:
                observer.notify(events.RunEnded(record))
        records = [store.get(r.spec.signature) for r in resolved]
        return [record for record in records if record is not None]

    @staticmethod
    def _metrics(spec: RunSpec, error: float) -> dict[str, float | None]:
        metrics: dict[str, float | None] = {"test_error": error, "test_loss": 10 * error}
        other = [source for source in spec.eval.statistics if source.suffix]
        return metrics | {f"{name}@{source}": metrics[name] for source in other for name in list(metrics)}

    def _record(self, spec: RunSpec) -> Record:
        failed = self.breaks(spec)
        error = self.error(spec)
        return Record(
            signature=spec.signature,
            spec=spec.model_dump(mode="json"),
            status=FAILED if failed else COMPLETE,
            metrics={} if failed else self._metrics(spec, error),
            timing={} if failed else {"train_s": 1.5},
            environment={"torch": "2.6"},
            provenance={"stack_size": 1, "lane": 0} | ({"error": "RuntimeError: no luck"} if failed else {}),
        )


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """Every training of the test goes to this."""
    made = Trainer()

    def train(sweep: run.Sweep, observers: Sequence[events.Observer] = ()) -> list[Record]:
        return made([Resolved(spec, ()) for spec in sweep.asked], sweep.store, observers)

    monkeypatch.setattr(run.Sweep, "train", train)
    return made


@pytest.fixture
def make_sweep():
    """A function from override words, sweeps included, to what the specification makes of each run."""
    return lambda *words: [resolve(config) for config in _composed(words)]


@pytest.fixture
def make_spec(make_sweep):
    """A function from override words to the RunSpec of the one run they ask for."""

    def make(*words: str):
        (resolved,) = make_sweep(*words)
        return resolved.spec

    return make


@cache
def _composed(words: tuple[str, ...]):
    return compose(words)
