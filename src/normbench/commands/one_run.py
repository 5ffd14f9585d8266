"""The one run that a command is about: by the start of its signature, its folder, or words of `train`."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.commands.asked_runs import asked_runs
from normbench.errors import InputError
from normbench.record import COMPLETE, Record
from normbench.store import Store


def one_trained_run(names: Sequence[str], store: Store, config_dir: str | None = None) -> Record:
    """The record of a run whose final state can be read.

    Args:
        names: one signature or path, or words of train.

    Raises:
        InputError: no run or several runs are meant, or the run keeps no final state.
    """
    found = _named(names, store, config_dir)
    if found.status == COMPLETE and not store.weights_file(found.signature).is_file():
        from normbench.commands.rerun import command_or_reason

        raise InputError(
            f"run {found.signature} keeps no final state; train it again: normbench runs rm "
            f"{found.signature} --yes, then {command_or_reason(found)} keep_weights=true"
        )
    return found


def _named(names: Sequence[str], store: Store, config_dir: str | None) -> Record:
    if all("=" in name for name in names):
        asked = asked_runs(names, store, config_dir)
        count = len(asked.records) + len(asked.missing)
        if count != 1:
            raise InputError(f"these words are {count} runs; give one, for example with seed=0")
        return asked.records[0]
    if len(names) != 1:
        raise InputError(f"give one run, or words of train; got {' '.join(names)}")
    return store.find(names[0])
