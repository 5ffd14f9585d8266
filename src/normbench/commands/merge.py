"""`normbench merge`: joins other results folders into the current one. Nothing is overwritten."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.commands.parser import Parser, own_path
from normbench.errors import InputError


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "merge",
        "Join other results folders into this one (results, or NORMBENCH_RESULTS): records, curves, further\n"
        "results, final states, checkpoints. Nothing here is overwritten. The other folders are only read.\n"
        "If a run has other results there, they are kept aside in conflicts/ and named.",
        "normbench merge ../laptop/results /mnt/cluster/results",
        "normbench merge --dry-run ../laptop/results",
    )
    made.add_argument("folders", nargs="+", type=own_path, metavar="DIR", help="a results folder")
    made.add_argument("--dry-run", action="store_true", help="write nothing; say what would be done")
    return made


def run(argv: Sequence[str]) -> int:
    """Merge and print the counts; 1 if a file of another folder could not be read."""
    args = parser().parse_intermixed_args(list(argv))
    import sys

    from normbench.commands.merge_lines import dry, lines, total
    from normbench.merging import stores
    from normbench.merging.join import Joiner
    from normbench.merging.migration import earlier_folders
    from normbench.phrases import counted
    from normbench.store import Store
    from normbench.visible import visible

    target = Store.default()
    found = stores.sources(args.folders, target)
    if earlier := earlier_folders(target):
        raise InputError(
            f"{target.root} has {counted(len(earlier), 'record')} of schema 1; "
            f"bring {'it' if len(earlier) == 1 else 'them'} up to date first: normbench migrate"
        )
    if not args.dry_run:
        target.check_writable()
    joiner, merged, impossible = Joiner(target, dry_run=args.dry_run), [], 0
    for source in found:
        merged.append(stores.merge(source, joiner))
        impossible += stores.merge_impossible(source, target, dry_run=args.dry_run)
        for line in lines(merged[-1]):
            print(visible(line), flush=True)
    damaged = [message for each in merged for message in each.damaged]
    for message in [*damaged, *target.damaged]:
        print(visible(f"warning: {' '.join(message.split())}"), file=sys.stderr)
    for line in dry(total(merged, impossible), args.dry_run):
        print(line)
    return 1 if damaged else 0
