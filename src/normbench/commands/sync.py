"""`normbench sync`: bring wandb up to date from our own records, whatever tracked them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from normbench.commands.parser import Parser
from normbench.errors import InputError, NormbenchError, RunFailure, reason
from normbench.phrases import counted
from normbench.visible import visible

if TYPE_CHECKING:
    from normbench.commands.uploads import Target
    from normbench.record import Record
    from normbench.tracking.wandb_process import WandbProcess

TOGETHER = 16  # runs that are sent at the same time
ASK_S = 90.0  # that the server may take to say what it has
SEND_S = 180.0  # that it may take for TOGETHER runs


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "sync",
        "Bring wandb up to date from the local records: runs that were trained offline, without a tracker,\n"
        "or whose transfer broke. A run that the server has is not sent again. Tags that\n"
        "`normbench runs tag` has changed are brought up to date.",
        "normbench sync --dry-run",
        "normbench sync norm=bn,gn batch=2,32 'seed=range(3)'",
        "normbench sync --where data=mnist --project my-project --entity my-team",
    )
    made.add_runs()
    made.add_argument(
        "--project", help="of wandb (default: that of the run, else WANDB_PROJECT or normbench)"
    )
    made.add_argument("--entity", help="user or team (default: that of the run, else WANDB_ENTITY)")
    made.add_argument("--dry-run", action="store_true", help="ask the server and say what would be sent")
    return made


def run(argv: Sequence[str]) -> int:
    """Send what the server lacks; 1 if a run could not be sent."""
    args = parser().parse_intermixed_args(list(argv))
    from functools import partial
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from normbench.commands.asked_runs import asked_runs
    from normbench.commands.damage import warn_of_damage
    from normbench.commands.uploads import targets
    from normbench.report.tables import chosen, conditions_of
    from normbench.store import Store
    from normbench.tracking.wandb_process import WandbProcess
    from normbench.tracking.wandb_setup import check_environment, mode_of_environment
    from normbench.tracking.wandb_upload import WandbUploads

    if (mode := mode_of_environment()) in ("offline", "disabled"):
        raise InputError(f"WANDB_MODE={mode} forbids to send; unset it")
    check_environment()
    store = Store.default()
    try:
        runs = asked_runs(args.words, store, args.config_dir)
        records = chosen(runs.records, (), (), conditions_of(args.where))
        found = targets(store, records, args.project, args.entity)
    finally:
        warn_of_damage(store)
    if runs.missing:
        print(f"missing  {counted(len(runs.missing), 'run')} of these words: not trained yet")
    whole = bool(args.words) and not (runs.missing or args.where)
    lost: list[str] = []
    with TemporaryDirectory(prefix="normbench-sync-", ignore_cleanup_errors=True) as folder:
        process = WandbProcess(partial(WandbUploads, Path(folder)), store.root, print)
        try:
            server = process.call("server", limit_s=ASK_S)
            for target in found:
                lacking, tags, there = _differences(process, server, target)
                if args.dry_run:
                    for record in lacking:
                        print(f"to send  {_line(target, record)}")
                    for record, wanted in tags:
                        print(f"to tag   {_line(target, record)}: {_shown(wanted)}")
                    continue
                lost += _send(process, target, lacking, there)
                lost += _tag(process, target, tags)
                if whole and len(found) == 1 and not lost:
                    _send_summary(process, target, again=bool(lacking))
        except BaseException:
            process.kill()
            raise
        finally:
            process.end()
    if lost:
        raise RunFailure(
            f"{counted(len(lost), 'run')} not sent: {lost[0]}; repeat the command to send the rest"
        )
    return 0


class _Differences(NamedTuple):
    """What differs between our records and the server.

    Attributes:
        lacking: runs that the server lacks or has incompletely.
        tags:    other runs whose tags differ, and the tags that it must show.
        there:   id → the tags that it shows, of all runs that it has.
    """

    lacking: list[Record]
    tags: list[tuple[Record, tuple[str, ...]]]
    there: Mapping[str, tuple[str, ...]]


def _differences(process: WandbProcess, server: str, target: Target) -> _Differences:
    """Ask the server, say what it has, and return what differs.

    Raises:
        RunFailure: the server does not answer.
    """
    expected = target.expected()
    try:
        found = process.call("compare", target.project, target.entity, expected, limit_s=ASK_S)
    except NormbenchError as error:
        raise RunFailure(f"{server} does not say which runs it has: {reason(error)}") from None
    lacking, tags = [], []
    for record in target.records:
        if record.signature in found.absent:
            lacking.append(record)
        elif (wanted := target.tags(record, own := found.tags[record.signature])) != own:
            tags.append((record, wanted))
    place = "/".join(filter(None, (target.entity, target.project)))
    same = len(target.records) - len(lacking) - len(tags)
    print(
        f"project  {place} at {server}: {counted(len(target.records), 'run')}, {same:,} up to date, "
        f"{len(lacking):,} to send" + (f", {len(tags):,} with other tags" if tags else "")
    )
    return _Differences(lacking, tags, found.tags)


def _tag(process: WandbProcess, target: Target, tags: Sequence[tuple[Record, Sequence[str]]]) -> list[str]:
    """Bring the tags of runs up to date and say so per run; return the reasons for those that failed."""
    lost: list[str] = []
    for start in range(0, len(tags), TOGETHER):
        some = {record.signature: wanted for record, wanted in tags[start : start + TOGETHER]}
        try:
            why = process.call("set_tags", target.project, target.entity, some, limit_s=SEND_S)
        except NormbenchError as error:  # without its process, nothing more can be sent
            return lost + [reason(error)] * (len(tags) - start)
        for record, wanted in tags[start : start + TOGETHER]:
            failed = why[record.signature]
            print(f"{'failed' if failed else 'tagged':<9}{_line(target, record)}: {failed or _shown(wanted)}")
        lost += filter(None, why.values())
    return lost


def _send(
    process: WandbProcess, target: Target, records: Sequence[Record], there: Mapping[str, Sequence[str]]
) -> list[str]:
    """Send runs and say so per run; return the reasons for those that were not sent.

    It stops after a group of runs of which none was sent. The server is then taken for broken.

    Args:
        there: id → the tags that the server shows; they stay.
    """
    lost: list[str] = []
    for start in range(0, len(records), TOGETHER):
        some = records[start : start + TOGETHER]
        uploads = [target.upload(record, there.get(record.signature, ())) for record in some]
        try:
            why = process.call("send", target.project, target.entity, uploads, limit_s=SEND_S)
        except NormbenchError as error:  # without its process, nothing more can be sent
            return lost + [reason(error)] * (len(records) - start)
        for record in some:
            failed = why[record.signature]
            print(f"{'failed' if failed else 'sent':<9}{_line(target, record)}{failed and ': ' + failed}")
        lost += filter(None, why.values())
        if all(why.values()):
            return lost + ["not tried after these"] * (len(records) - start - len(some))
    return lost


def _send_summary(process: WandbProcess, target: Target, *, again: bool) -> None:
    """Send the table of the sweep, if a run of it was sent or if the server has no table.

    Raises:
        RunFailure: the server did not take it.
    """
    from normbench.commands.sweep_summary import sweep_summary
    from normbench.tracking.wandb_server import Expected

    made = sweep_summary(target.records, target.varying)
    if made is None or (named := target.summary()) is None:
        return
    wanted = {named["id"]: Expected({}, 1)}
    try:
        if again or process.call("compare", target.project, target.entity, wanted, limit_s=ASK_S).absent:
            process.call("send_summary", named, made, limit_s=SEND_S)
            print(f"sent     {named['name']}")
    except NormbenchError as error:
        raise RunFailure(f"the summary of the sweep was not sent: {reason(error)}") from None


def _line(target: Target, record: Record) -> str:
    from normbench.tracking.wandb_fields import name

    return visible(f"{record.signature[:8]}  {name(record.spec, target.varying)}")


def _shown(tags: Sequence[str]) -> str:
    return visible(", ".join(tags)) or "no tags"
