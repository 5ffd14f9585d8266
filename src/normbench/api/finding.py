"""`normbench.runs`: runs that are there already. Nothing is trained."""

from __future__ import annotations

from normbench.api.run_set import Runs
from normbench.api.words import Words, of_train
from normbench.commands.asked_runs import asked_runs
from normbench.store import Store


def runs(words: Words = (), *, where: Words = (), config_dir: str | None = None) -> Runs:
    """The runs of the results folder (`NORMBENCH_RESULTS`, by default `results`).

    >>> normbench.runs("norm=bn,gn seed=range(3)")   # doctest: +SKIP
    >>> normbench.runs(where="model=lenet5")         # doctest: +SKIP

    Args:
        words:      those of a train command, as a text or a list: exactly the runs of that sweep; by default
                    all runs.
        where:      one condition, or several: `key=value`, `key=a,b`, `key!=value`.
        config_dir: a folder with your own choices; by default `./conf`.

    Raises:
        InputError: the words do not compose, none of their runs has a record, or no run meets a condition.
    """
    store = Store.default()
    found = Runs(asked_runs(of_train(words), store, config_dir), store)
    return found.where(*((where,) if isinstance(where, str) else where)) if where else found
