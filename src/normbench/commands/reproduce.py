"""`normbench reproduce`: a table rerun at some scale, beside published numbers, its claims judged."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from time import perf_counter

from normbench.commands.most_seeds import MAX_SEEDS
from normbench.commands.parser import Parser, own_path
from normbench.commands.table_rerun import rerun
from normbench.errors import InputError

#: The words that fit every table.
_FIT_ALL = ("scale=", "seed_offset=", "engine.", "tracking")


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "reproduce",
        "Train the missing runs of a table, print it beside published numbers, say which claims hold.",
        "normbench reproduce",
        "normbench reproduce wu2018/batch_size scale=tiny",
        "normbench reproduce wu2018/batch_size scale=small --plan",
        "normbench reproduce wu2018/batch_size scale=small norm=bn,gn 'seed=range(5)' --json wu2018.json",
        "normbench reproduce --all scale=tiny",
        "normbench reproduce --all scale=tiny seed_offset=1000",
        "normbench reproduce conf/paper/mine/groups.yaml --until-decided",
    )
    made.add_argument(
        "name", nargs="?", metavar="NAME", help="a table, or the path of its file; without it, all are listed"
    )
    made.add_argument(
        "words", nargs="*", metavar="key=value", help="scale=…, seed_offset=…, and words over the table's"
    )
    made.add_argument("--json", type=own_path, metavar="FILE", help="also write table and claims to FILE")
    made.add_argument(
        "--out", type=own_path, metavar="DIR",
        help="write the table's files into DIR instead of tables/ of the results folder",
    )  # fmt: skip
    made.add_argument("--all", action="store_true", help="all tables that have the scale (default tiny)")
    made.add_argument(
        "--plan", action="store_true", help="show what would run and what it costs, train nothing"
    )
    made.add_argument("--strict", action="store_true", help="exit 1 also if an asserted claim is undecided")
    made.add_argument(
        "--partial", action="store_true", help="judge claims although cells or runs are missing"
    )
    made.add_argument(
        "--until-decided", action="store_true", help="add seeds to the cells of undecided claims, in stages"
    )
    made.add_argument(
        "--max-seeds", type=int, metavar="N",
        help=f"with --until-decided: the most seeds of a cell (default {MAX_SEEDS})",
    )  # fmt: skip
    return made


def run(argv: Sequence[str]) -> int:
    """Reproduce a table, or all; 1 if a run failed or an asserted claim is refuted."""
    args = parser().parse_intermixed_args(list(argv))
    if args.all:
        return _all(args)
    if args.name is None:
        return _list()
    from normbench import papers
    from normbench.config.search_path import own_config_dir
    from normbench.papers.catalogue import SUFFIXES

    if "=" in args.name and not args.name.endswith(SUFFIXES):
        raise InputError(f"the name of a table must come first; got '{args.name}'; see normbench reproduce")
    return rerun(papers.load(args.name, own_config_dir()), args, args.words).status


def _all(args: Namespace) -> int:
    """Reproduce all tables that have the scale, and print one line for each at the end."""
    from normbench import papers
    from normbench.commands.expected_cost import of_all
    from normbench.commands.text_table import columns
    from normbench.config.search_path import own_config_dir
    from normbench.store import Store

    words = [*([args.name] if args.name else []), *args.words]
    if strays := [word for word in words if not word.startswith(_FIT_ALL)]:
        raise InputError(f"--all takes scale=…, seed_offset=…, engine.…=… and tracking=…; got {strays[0]}")
    if args.json is not None:
        raise InputError("--json belongs to one table; leave out --all")
    scale = next((word.partition("=")[2] for word in words if word.startswith("scale=")), "tiny")
    words = [f"scale={scale}", *(word for word in words if not word.startswith("scale="))]
    own = own_config_dir()
    tables = [table for name in papers.names(own) if scale in (table := papers.load(name, own)).scales]
    if not tables:
        raise InputError(f"no table has the scale {scale}; scales are tiny, small and full")
    print(of_all(tables, scale))
    began, status, lines, reports = perf_counter(), 0, [], []
    for table in tables:
        print(f"== {table.name}")
        ended = rerun(table, args, words)
        status = max(status, ended.status)
        if ended.report is not None:
            reports.append(ended.report)
            lines.append({"table": table.name, "claims": ended.report.outcomes()})
    if reports:
        file = papers.write_index(reports, args.out or Store.default().root / "tables")
        print("\n".join(["", *columns(lines)]))
        print(f"{len(reports)} tables in {perf_counter() - began:.0f} s; wrote {file}")
    return status


def _list() -> int:
    from normbench import papers
    from normbench.commands.text_table import columns
    from normbench.config.search_path import own_config_dir

    own = own_config_dir()
    tables = [papers.load(name, own) for name in papers.names(own)]
    rows = [{"table": table.name, "scales": " ".join(table.scales), "title": table.title} for table in tables]
    print("\n".join(columns(rows)))
    return 0
