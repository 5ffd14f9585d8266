"""The folder of a run: how its files are written, and what is removed when it has a result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from normbench import unfinished
from normbench.errors import InputError, StoreFailure
from normbench.files import Content, sync_folder, write_atomically
from normbench.leftovers import remove_leftovers

#: Raises if the process must not write any more.
Guard = Callable[[], object]

REMEDY = "give another folder with NORMBENCH_RESULTS"
#: Start of the names of checkpoints that did not fit their run.
SET_ASIDE = "checkpoint-set-aside-"
#: PERF: if PyYAML was built with libyaml, its dumper takes a tenth of the time.
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def config_text(spec: Mapping[str, Any]) -> str:
    """The content of config.yaml: the specification of a run."""
    text: str = yaml.dump(dict(spec), Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
    return text


def write_files(
    folder: Path, contents: Mapping[str, Content], guard: Guard, *, new: str | None = None
) -> None:
    """Write files in their order, each atomically.

    Args:
        contents: name → content.
        guard:    called before every rename.
        new:      name of a file that must not be replaced.

    Raises:
        FileExistsError: the file `new` exists already.
        StoreFailure:    a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(folder / name, content, guard, new=name == new)
        sync_folder(folder)
    except OSError as failure:
        if isinstance(failure, FileExistsError) and new is not None and (folder / new).is_file():
            raise
        raise StoreFailure(
            f"the record of run {folder.name} cannot be written to {folder}: "
            f"{failure.strerror or failure}; free space there or {REMEDY}, then repeat the command"
        ) from failure


def clean(folder: Path) -> None:
    """Remove what only a run without a result needs, and what killed processes have left."""
    names = ("error.txt", "checkpoint.pt", unfinished.NAME)
    for file in (*(folder / name for name in names), *folder.glob(f"{SET_ASIDE}*")):
        with suppress(OSError):
            file.unlink(missing_ok=True)
    remove_leftovers(folder)


def check_places(folders: Iterable[Path]) -> None:
    """Check that nothing stands where these folders and their files will be written.

    Raises:
        InputError: names the first folder in place of a file, or file in place of a folder.
    """
    for folder in folders:
        for place in (folder.parent, folder):
            if place.exists() and not place.is_dir():
                raise InputError(f"{place} must be a folder, but is a file; move it away")
        for name in ("record.json", "history.jsonl", "config.yaml"):
            if (folder / name).is_dir():
                raise InputError(f"{folder / name} must be a file, but is a folder; move it away")


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn an error of the operating system into a StoreFailure that names the place."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise StoreFailure(f"{place} cannot be written: {why}; free space there or {REMEDY}") from None
