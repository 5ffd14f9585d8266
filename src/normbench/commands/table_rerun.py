"""One table of `normbench reproduce`: train what it lacks, write its files, print it, judge its claims."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from normbench.errors import InputError

if TYPE_CHECKING:
    from normbench.commands.table_runs import TableRuns
    from normbench.papers import PaperReport, PaperTable, SeedPlan
    from normbench.papers.description import Scale

MAX_SEEDS = 30


class Ended(NamedTuple):
    """How a reproduction ended: the exit code, and what it gave; None if it was only planned."""

    status: int
    report: PaperReport | None


def rerun(table: PaperTable, args: Namespace, words: Sequence[str]) -> Ended:
    """Train what a table lacks, write its files and print it.

    Args:
        args:  the options of `reproduce`.
        words: scale=…, and words over the table's.

    Raises:
        InputError: an unknown scale, or words that are not valid.
    """
    from normbench import papers
    from normbench.commands.planned import plan_lines
    from normbench.commands.summary import broken
    from normbench.commands.table_runs import TableRuns
    from normbench.commands.text_file import check_writable, write
    from normbench.config.compose import values_by_key
    from normbench.config.search_path import own_config_dir

    own = own_config_dir()
    extra = values_by_key([word for word in words if not word.startswith("arm=")], own)
    for word in words:
        if word.startswith("arm="):
            extra["arm"] = word.partition("=")[2].split(",")
    [scale, *others] = extra.pop("scale", [next(iter(table.scales))])
    if others:
        raise InputError(f"one scale at a time; got scale={','.join([scale, *others])}")
    chosen = table.scale(scale)
    most = _most_seeds(args.until_decided, args.max_seeds)
    runs = TableRuns(table, scale, extra, own)
    folder = args.out or runs.store.root / "tables"
    for name, why in runs.absent.items():
        print(f"n/a: data={name}: {why}")
    for option, file in (("--json", args.json), ("--out", args.out and args.out / f"{table.name}.md")):
        if file is not None:
            check_writable(file, option)
    variant = _variant(runs)
    print(_cost(chosen, len(runs.configs)))
    if args.plan:
        print("\n".join(plan_lines(runs.configs, runs.store)))
        return Ended(0, None)
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
    status = int(any(claim.broken for claim in report.claims) or bool(failed) or undecided)
    return Ended(status, report)


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
