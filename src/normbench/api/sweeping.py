"""`normbench.sweep`: what `normbench train` does, as a call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from normbench import skipped_runs
from normbench.api.run_set import Runs
from normbench.api.words import Words, of_train
from normbench.commands.asked_runs import AskedRuns
from normbench.record import Record


def sweep(words: Words, *, quiet: bool = False, config_dir: str | None = None) -> Runs:
    """Train the missing runs of a sweep, and return all of its runs in the order of the words.

    Finished runs are read, not trained. If a run fails, the others go on, and its record says why
    (`runs.failed`).

    >>> runs = normbench.sweep("norm=bn,gn batch=2,32 seed=range(3)")   # doctest: +SKIP

    Args:
        words:      those of `normbench train`, as a text or a list.
        quiet:      show no progress.
        config_dir: a folder with your own choices; by default `./conf`.

    Raises:
        InputError: a run cannot be trained as asked. Nothing was written.
        RunFailure: the results folder cannot be written.
    """
    from normbench.commands.training import Training
    from normbench.config.compose import compose
    from normbench.config.search_path import own_config_dir

    training = Training(console=not quiet)
    with _main_left_alone():
        training.many(compose(of_train(words), config_dir or own_config_dir()))
    records = list({record.signature: record for record in training.records}.values())
    skipped = [
        Record("", dict(run.fields), skipped_runs.SKIPPED, {}, {}, {}, {"error": run.reason})
        for run in training.skipped
    ]
    return Runs(AskedRuns(records, [], skipped), training.store)


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Keep worker processes from importing the caller's script, which would start the sweep again.

    multiprocessing imports the main module into every process that it starts. Workers need nothing of it. So
    a script needs no `if __name__ == "__main__"`.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
