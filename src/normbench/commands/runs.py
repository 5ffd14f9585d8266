"""`normbench runs`: lists the runs of the store, removes some, changes their tags."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.commands.parser import Parser
from normbench.errors import InputError

COLUMNS = ("run", "status", "steps", "metric", "size", "age")


def parser() -> Parser:
    """The options of the listing; `rm` and `tag` have their own."""
    made = Parser(
        "runs",
        "List the runs at hand: status, steps, a metric, size on disk, age. A partial run has a checkpoint\n"
        "and goes on from there. `normbench runs rm` removes runs; `normbench runs tag` changes their tags.",
        "normbench runs",
        "normbench runs norm=bn,gn 'seed=range(3)' --sort test_error",
        "normbench runs --where status=failed,partial",
        "normbench runs --sort size --reverse --json",
        "normbench runs rm 3f2a9c 81d0 --yes",
        "normbench runs rm --where status=failed",
        "normbench runs tag add draft norm=bn,gn --where batch=2",
    )
    made.add_runs()
    made.add_argument("--metric", default="test_error", help="the metric that is shown (default: test_error)")
    made.add_argument(
        "--sort", default="", metavar="KEY",
        help=f"sort by {', '.join(COLUMNS)} or a key such as norm (default: the order of the words, or age)",
    )  # fmt: skip
    made.add_argument("--reverse", action="store_true", help="the other way round")
    made.add_argument("--json", action="store_true", help="as JSON; sizes in bytes, times in UTC")
    made.add_argument("--csv", action="store_true", help="as CSV, with the same values")
    return made


def run(argv: Sequence[str]) -> int:
    """Print the list, or call `runs rm` or `runs tag`."""
    if argv and argv[0] in ("rm", "tag"):
        if argv[0] == "rm":
            from normbench.commands.runs_rm import run as act
        else:
            from normbench.commands.runs_tag import run as act
        return act(argv[1:])
    args = parser().parse_intermixed_args(list(argv))
    if args.json and args.csv:
        raise InputError("--json and --csv exclude each other; give one")
    if stray := [word for word in args.words if "=" not in word]:
        raise InputError(
            f"runs takes the words of train, rm or tag; got '{stray[0]}'; one run: normbench info {stray[0]}"
        )
    from normbench.commands.damage import warn_of_damage
    from normbench.commands.run_listing import in_order, listing
    from normbench.commands.runs_at_hand import runs_at_hand
    from normbench.commands.text_file import print_file
    from normbench.report.run_list import render_runs
    from normbench.store import Store

    store = Store.default()
    try:
        runs, absent = runs_at_hand(store, args.words, args.where, args.config_dir)
    finally:
        warn_of_damage(store)
    by = args.sort or ("" if args.words else "age")
    if by:
        oldest_first = by == "age" and not args.sort
        runs = in_order(runs, by, args.metric, reverse=args.reverse != oldest_first)
    elif args.reverse:
        runs.reverse()
    found = listing(runs, args.metric, files=args.json or args.csv)
    if args.json or args.csv:
        print_file(render_runs(found, "json" if args.json else "csv"))
        return 0
    if not runs and not absent:
        raise InputError(
            f"{store.root} holds no runs; train some, or give another folder with NORMBENCH_RESULTS"
        )
    if runs:
        from rich.console import Console

        from normbench.report.terminal import run_lines

        console = Console(highlight=False)
        console.print(run_lines(found, console))
    from normbench.commands.runs_summary import closing_lines

    print("\n".join(closing_lines(runs, absent, args.words)))
    return 0
