"""`normbench reproduce`: a table rerun at some scale, beside published numbers, its claims judged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from normbench.commands.parser import Parser, own_path
from normbench.errors import InputError

if TYPE_CHECKING:
    from normbench.commands.table_runs import TableRuns
    from normbench.papers import PaperReport, SeedPlan
    from normbench.papers.description import Scale

MAX_SEEDS = 30


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "reproduce",
        "Train the missing runs of a table, print it beside published numbers, say which claims hold.",
        "normbench reproduce",
        "normbench reproduce wu2018/batch_size scale=tiny",
        "normbench reproduce wu2018/batch_size scale=small norm=bn,gn 'seed=range(5)' --json wu2018.json",
        "normbench reproduce conf/paper/mine/groups.yaml --until-decided",
    )
    made.add_argument(
        "name", nargs="?", metavar="NAME", help="a table, or the path of its file; without it, all are listed"
    )
    made.add_argument("words", nargs="*", metavar="key=value", help="scale=…, and words over the table's")
    made.add_argument("--json", type=own_path, metavar="FILE", help="also write table and claims to FILE")
    made.add_argument(
        "--out", type=own_path, metavar="DIR",
        help="write the table's files into DIR instead of tables/ of the results folder",
    )  # fmt: skip
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
    """Reproduce a table; 1 if a run failed or an asserted claim is refuted (with --strict: or undecided)."""
    args = parser().parse_intermixed_args(list(argv))
    if args.name is None:
        return _list()
    from normbench import papers
    from normbench.commands.summary import broken
    from normbench.commands.table_runs import TableRuns
    from normbench.commands.text_file import check_writable, write
    from normbench.config.compose import values_by_key
    from normbench.config.search_path import own_config_dir
    from normbench.papers.catalogue import SUFFIXES

    if "=" in args.name and not args.name.endswith(SUFFIXES):
        raise InputError(f"the name of a table must come first; got '{args.name}'; see normbench reproduce")
    own = own_config_dir()
    table = papers.load(args.name, own)
    extra = values_by_key([word for word in args.words if not word.startswith("arm=")], own)
    for word in args.words:
        if word.startswith("arm="):
            extra["arm"] = word.partition("=")[2].split(",")
    [scale, *others] = extra.pop("scale", [next(iter(table.scales))])
    if others:
        raise InputError(f"one scale at a time; got scale={','.join([scale, *others])}")
    chosen = table.scale(scale)
    most = _most_seeds(args.until_decided, args.max_seeds)
    runs = TableRuns(table, scale, extra, own)
    folder = args.out or runs.store.root / "tables"
    for option, file in (("--json", args.json), ("--out", args.out and args.out / f"{table.name}.md")):
        if file is not None:
            check_writable(file, option)
    variant = _variant(runs)
    print(_cost(chosen, len(runs.configs)))
    runs.train()
    plan = papers.SeedPlan(papers.asked_seeds(chosen, extra, runs.absent), most)
    given = [*(["--partial"] if args.partial else []),
             *(["--until-decided", "--max-seeds", str(most)] if most else [])]  # fmt: skip

    def judged() -> PaperReport:
        return papers.report(
            table, scale, runs.records, extra, variant, absent=runs.absent, plan=plan, partial=args.partial,
            options=given,
        )  # fmt: skip

    report = judged()
    while more := _next_look(report, plan, chosen):
        runs.train_further(more)
        report = judged()
    files = papers.write(report, folder)
    if args.json is not None:
        tree = report.to_json()
        write(args.json, json.dumps(tree, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
        files.append(args.json)
    _show(report)
    failed = broken(runs.records)
    for line in [*failed, "", *(f"wrote {file}" for file in files)]:
        print(line)
    undecided = args.strict and any(claim.open for claim in report.claims)
    return int(any(claim.broken for claim in report.claims) or bool(failed) or undecided)


def _most_seeds(until_decided: bool, most: int | None) -> int | None:
    if most is not None and not until_decided:
        raise InputError("--max-seeds needs --until-decided; add it, or set seeds with seed=range(10)")
    if most is not None and most < 2:
        raise InputError(f"--max-seeds must be at least 2; got {most}")
    return (most or MAX_SEEDS) if until_decided else None


def _next_look(report: PaperReport, plan: SeedPlan, scale: Scale) -> dict[tuple[str, ...], list[int]]:
    """The further seeds of the cells of undecided claims; empty if nothing is left to decide or to spend."""
    if plan.ended:
        return {}
    undecided = [claim for claim in report.claims if claim.outcome == "undecided" and claim.p is not None]
    cells = {tuple(texts[key] for key in scale.keys): None for claim in undecided for texts in claim.cells}
    fresh = plan.extend(list(cells)) if cells else {}
    if fresh:
        runs = sum(map(len, fresh.values()))
        names = ", ".join(claim.id for claim in undecided)
        print(
            f"look {len(plan.asked)} of {plan.looks}: {runs} further runs in {len(fresh)} cells for {names}"
        )
    return fresh


def _cost(scale: Scale, runs: int) -> str:
    """What the table costs, in one line."""
    expects = scale.expects
    if expects is None or expects.minutes is None or expects.runs != runs:
        return f"{runs} runs"
    return f"{runs} runs; all of them took {expects.minutes:g} minutes on {expects.hardware or 'one machine'}"


def _variant(runs: TableRuns) -> str:
    """Empty if the words change nothing but the seeds, else what tells the files from the table's own."""
    if not runs.extra.keys() - {"seed"}:
        return ""
    from normbench import papers
    from normbench.config.compose import compose
    from normbench.config.resolve import resolve
    from normbench.config.search_path import own_config_dir

    sweeps = papers.sweeps(runs.table, runs.scale, {"seed": ["0"]}, runs.absent)
    unchanged = [config for words in sweeps for config in compose(words, own_config_dir())]
    groups = ([resolve(config).spec.group() for config in each] for each in (unchanged, runs.configs))
    return papers.variant(*groups)


def _list() -> int:
    from normbench import papers
    from normbench.commands.text_table import columns
    from normbench.config.search_path import own_config_dir

    own = own_config_dir()
    tables = [papers.load(name, own) for name in papers.names(own)]
    rows = [{"table": table.name, "scales": " ".join(table.scales), "title": table.title} for table in tables]
    print("\n".join(columns(rows)))
    return 0


def _show(report: PaperReport) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from normbench.report.terminal import renderable

    console = Console(highlight=False)
    for line in report.heading():
        console.print(Text(line))
    console.print()
    console.print(renderable(report.table, console))
    if report.claims:
        console.print("\nclaims")
    for claim in report.claims:
        style = "red" if claim.broken else "yellow" if claim.open else ""
        console.print(Padding(Text(claim.line(), style=style), (0, 0, 0, 2)))
