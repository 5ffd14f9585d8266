"""`normbench runs tag`: adds a tag to runs, or takes one away. Records and signatures stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.commands.parser import Parser
from normbench.errors import InputError, RunFailure, unknown

ACTS = ("add", "rm")


def parser() -> Parser:
    from normbench.commands.run_choice import add_choice

    made = Parser(
        "runs tag",
        "Add a tag to runs, or take it away. `--where tags=NAME` then selects them in table, plot and runs.\n"
        "`normbench sync` brings tags to wandb. TensorBoard and CSV files hold no tags.",
        "normbench runs tag add draft 3f2a9c 81d0",
        "normbench runs tag rm draft --where norm=bn",
    )
    made.add_argument("act", metavar="add|rm", help="add the tag, or take it away")
    made.add_argument("name", metavar="NAME", help="the tag")
    add_choice(made)
    return made


def run(argv: Sequence[str]) -> int:
    """Change the tags of runs and say how many changed."""
    args = parser().parse_intermixed_args(list(argv))
    if args.act not in ACTS:
        raise unknown("act", args.act, ACTS, remedy="write normbench runs tag add NAME RUN")
    from normbench import tags
    from normbench.commands.damage import warn_of_damage
    from normbench.commands.run_choice import chosen_runs
    from normbench.phrases import counted
    from normbench.store import Store

    tag, store = tags.check(args.name), Store.default()
    try:
        runs = chosen_runs(store, args, args.words)
    finally:
        warn_of_damage(store)
    ended = [run for run in runs if run.record.metrics or run.record.provenance]
    if not ended:
        raise InputError("a run gets tags when it has ended; none of these has")
    changed = 0
    for each in ended:
        own = each.record.tags
        new = (*own, tag) if args.act == "add" else tuple(name for name in own if name != tag)
        if {*new} == {*own}:
            continue
        try:
            tags.write(each.folder, new, removed=() if args.act == "add" else (tag,))
        except OSError as error:
            raise RunFailure(f"{each.folder} cannot be written: {error.strerror or error}") from None
        changed += 1
    word = "added to" if args.act == "add" else "taken from"
    before = len(ended) - changed
    print(f"tag {tag} {word} {counted(changed, 'run')}; {before} of {len(ended)} were so before")
    return 0
