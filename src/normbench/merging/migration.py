"""Bring records of schema 1 to the folders of today.

Their folders have the name of an earlier signature, which depended on how a run was evaluated. Each run is
joined into the folder of its signature today. Its old folder is then moved, as it is, below `migrated/`.
If the process is killed in between, both exist. Readers then take the new one, and the next call continues.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from normbench.files import last_bytes
from normbench.merging import run_files
from normbench.merging.join import BUSY, NEW, Joined, Joiner
from normbench.run_folder import config_text, write_files, writing
from normbench.store import Store

#: Folder of a store that has the old folders, in the layout of a store.
MIGRATED = "migrated"
#: The end of a record.json of schema 1, which has the schema last.
_SCHEMA_1 = '"schema": 1\n}'


def earlier_folders(store: Store) -> list[Path]:
    """The folders of runs with a record of schema 1."""
    return [each for each in store.folders() if last_bytes(each / run_files.RECORD).endswith(_SCHEMA_1)]


def migrate(store: Store, folders: list[Path], *, dry_run: bool) -> Iterator[Joined | None]:
    """Bring records to the folders of today.

    Args:
        folders: those of `earlier_folders`.

    Yields:
        What became of each; None for a record that cannot be read, which stays where it is.

    Raises:
        StoreFailure: the store cannot be written.
    """
    joiner = Joiner(store, dry_run=dry_run)
    for folder in folders:
        record = store.record_in(folder)
        if record is None:
            yield None
            continue
        if folder == store.run_folder(record.signature):  # its signature has not changed
            texts = {
                "config.yaml": config_text(record.spec),
                "record.json": run_files.today(record).to_json(),
            }
            if not dry_run:
                write_files(folder, texts, lambda: None)
            yield Joined(record.signature, NEW, folder, tuple(texts))
            continue
        joined = joiner.join(folder, store)
        if not dry_run and joined is not None and joined.kind != BUSY:
            _set_aside(folder, store.root / MIGRATED)
        yield joined


def _set_aside(folder: Path, root: Path) -> None:
    place = root / "runs" / folder.parent.name / folder.name
    with writing(place):
        if place.exists():
            place = place.with_name(f"{place.name}-{secrets.token_hex(4)}")
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(place)
    with suppress(OSError):  # others are in it
        folder.parent.rmdir()
