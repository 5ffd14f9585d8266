"""`normbench runs rm`: removes runs from the store, after asking."""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from normbench.commands.parser import Parser
from normbench.errors import InputError, RunFailure

if TYPE_CHECKING:
    from normbench.commands.runs_at_hand import RunAtHand

#: Runs that are listed before they are removed; of more, the number is said.
_LISTED = 20


def parser() -> Parser:
    from normbench.commands.run_choice import add_choice

    made = Parser(
        "runs rm",
        "Remove runs: record, curve, weights, checkpoint. They train again if they are asked for.",
        "normbench runs rm 3f2a9c 81d0",
        "normbench runs rm --where status=failed --yes",
        "normbench runs rm norm=bn batch=2 'seed=range(3)'",
    )
    add_choice(made)
    made.add_argument("-y", "--yes", action="store_true", help="do not ask")
    return made


def run(argv: Sequence[str]) -> int:
    """Remove runs; 1 if the answer is no, or a folder cannot be removed."""
    args = parser().parse_intermixed_args(list(argv))
    from normbench.commands.damage import warn_of_damage
    from normbench.commands.run_choice import chosen_runs
    from normbench.commands.run_listing import labels
    from normbench.commands.runs_summary import counts
    from normbench.phrases import counted, sized
    from normbench.run_states import RUNNING
    from normbench.store import Store
    from normbench.visible import visible

    store = Store.default()
    try:
        runs = chosen_runs(store, args, args.words)
    finally:
        warn_of_damage(store)
    busy = [run for run in runs if run.record.status == RUNNING]
    if busy:
        raise InputError(
            f"run {busy[0].signature} is being trained ({busy[0].note}); "
            f"stop that, or leave {counted(len(busy), 'run')} out with --where status!={RUNNING}"
        )
    for each in runs:
        _check_inside(each.folder, store.root / "runs")
    label = labels([run.record for run in runs])
    for each in runs[:_LISTED]:
        print(f"  {each.signature}  {visible(label(each.record))}  {each.record.status}  {sized(each.size)}")
    if len(runs) > _LISTED:
        print(f"  … and {counted(len(runs) - _LISTED, 'more run')}")
    told = counts(runs)
    if not args.yes:
        if not sys.stdin.isatty():
            raise InputError(f"{told} would be removed; add --yes to remove them")
        if input(f"remove {told}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was removed")
            return 1
    remove(runs, store.root)
    print(f"removed {told}")
    return 0


def remove(runs: Sequence[RunAtHand], root: Path) -> None:
    """Remove the folders of runs. Each first moves out of the store at once, so no reader sees a half.

    Raises:
        RunFailure: a folder cannot be removed. Those before it are gone.
    """
    waste = root / ".removed"
    for run in runs:
        place = waste / f"{run.signature}-{secrets.token_hex(4)}"
        try:
            waste.mkdir(exist_ok=True)
            run.folder.rename(place)
            shutil.rmtree(place)
        except OSError as error:
            raise RunFailure(f"{run.folder} cannot be removed: {error.strerror or error}") from None
        with suppress(OSError):  # others still need it
            run.folder.parent.rmdir()
    with suppress(OSError):
        waste.rmdir()


def _check_inside(folder: Path, runs: Path) -> None:
    """Refuse a folder that does not lie in the store, such as a link to elsewhere.

    Raises:
        InputError: names the folder.
    """
    if folder.is_symlink() or folder.resolve().parent.parent != runs.resolve():
        raise InputError(f"{folder} leads out of the store at {runs}; remove it by hand")
