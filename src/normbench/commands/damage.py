"""What a command says of files in the store that it could not use: one line each, and it goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from normbench.record import Record
from normbench.record_checks import lack
from normbench.store import Store
from normbench.visible import visible


def whole_records(store: Store, signatures: Iterable[str] | None = None) -> list[Record]:
    """The records that a table can take. Others are noted in `store.damaged`.

    Args:
        signatures: of the runs to read, in this order; None for all. Runs without a record are left out.
    """
    if signatures is None:
        found = store.records()
    else:
        found = [record for each in signatures if (record := store.get(each)) is not None]
    faults = {record.signature: lack(record.spec) for record in found}
    wrong = {signature: text for signature, text in faults.items() if text is not None}
    store.damaged += [f"run {signature}: {text}; it is left out" for signature, text in wrong.items()]
    return [record for record in found if record.signature not in wrong]


def warn_of_damage(store: Store) -> None:
    """Name every damaged file that was met, on standard error, once."""
    for message in store.damaged:
        print(visible(f"warning: {' '.join(message.split())}"), file=sys.stderr)
    store.damaged.clear()
