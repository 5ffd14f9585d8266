"""`normbench migrate`: brings the records of earlier versions to the folders of today."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.commands.parser import Parser


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "migrate",
        "Bring records of schema 1 to the folders of today. Their signatures depended on how a run was\n"
        "evaluated. The old folders move to migrated/. If the command was interrupted, call it again.",
        "normbench migrate --dry-run",
        "normbench migrate",
    )
    made.add_argument("--dry-run", action="store_true", help="write nothing; say what would be done")
    return made


def run(argv: Sequence[str]) -> int:
    """Migrate and print the counts; 1 if a record could not be read."""
    args = parser().parse_intermixed_args(list(argv))
    from collections import Counter

    from normbench.commands.damage import warn_of_damage
    from normbench.commands.merge_lines import counts, dry, named
    from normbench.merging.migration import MIGRATED, earlier_folders, migrate
    from normbench.phrases import counted
    from normbench.store import Store
    from normbench.visible import visible

    store = Store.default()
    folders = earlier_folders(store)
    if not folders:
        print(f"{store.root}: all records are up to date")
        return 0
    if not args.dry_run:
        store.check_writable()
    found = list(migrate(store, folders, dry_run=args.dry_run))
    joined = [each for each in found if each is not None]
    warn_of_damage(store)
    said = [f"{store.root}: {counted(len(folders), 'record')} of schema 1"]
    said += [f"  {counts(Counter(each.kind for each in joined))}"] if joined else []
    said += list(named([each for each in joined if each.note]))
    if lost := len(found) - len(joined):
        said.append(f"  {counted(lost, 'record')} cannot be read and stays where it is")
    if joined and not args.dry_run:
        said.append(f"the old folders are in {store.root / MIGRATED}; remove them if all is well")
    for line in dry(said, args.dry_run):
        print(visible(line))
    return 1 if lost else 0
