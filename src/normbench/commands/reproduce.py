"""`normbench reproduce`: a published table rerun at some scale, beside its numbers, its claims judged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normbench.commands.parser import Parser
from normbench.errors import InputError

if TYPE_CHECKING:
    from normbench.papers import Extra, PaperReport, PaperTable


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "reproduce",
        "Train the missing runs of a published table, print it beside its numbers, say which claims hold.",
        "normbench reproduce",
        "normbench reproduce wu2018/batch_size scale=tiny",
        "normbench reproduce wu2018/batch_size scale=small norm=bn,gn 'seed=range(5)' --json wu2018.json",
    )
    made.add_argument(
        "name", nargs="?", metavar="NAME", help="the table; without a name, all tables are listed"
    )
    made.add_argument("words", nargs="*", metavar="key=value", help="scale=…, and words over the table's")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write table and claims to FILE")
    made.add_argument(
        "--out", type=Path, metavar="DIR",
        help="write the table's files into DIR instead of tables/ of the results folder",
    )  # fmt: skip
    return made


def run(argv: Sequence[str]) -> int:
    """Reproduce a table; 1 if a run failed or a claim that the table asserts does not hold."""
    args = parser().parse_intermixed_args(list(argv))
    if args.name is None:
        return _list()
    if "=" in args.name:
        raise InputError(f"the name of a table must come first; got '{args.name}'; see normbench reproduce")
    from normbench import papers
    from normbench.commands.summary import broken
    from normbench.commands.text_file import check_writable, write
    from normbench.commands.training import Training
    from normbench.config.compose import compose, values_by_key
    from normbench.config.search_path import own_config_dir

    table = papers.load(args.name)
    own = own_config_dir()
    extra = values_by_key(args.words, own)
    [scale, *others] = extra.pop("scale", [next(iter(table.scales))])
    if others:
        raise InputError(f"one scale at a time; got scale={','.join([scale, *others])}")
    training = Training()
    folder = args.out or training.store.root / "tables"
    for option, file in (("--json", args.json), ("--out", args.out and args.out / f"{table.name}.md")):
        if file is not None:
            check_writable(file, option)
    configs = [config for words in papers.sweeps(table, scale, extra) for config in compose(words, own)]
    variant = _variant(table, scale, extra, configs)
    training.many(configs)
    records = list({record.signature: record for record in training.records}.values())  # grids may share runs
    report = papers.report(table, scale, records, extra, variant)
    files = papers.write(report, folder)
    if args.json is not None:
        tree = report.to_json()
        write(args.json, json.dumps(tree, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
        files.append(args.json)
    _show(report)
    for line in [*broken(records), "", *(f"wrote {file}" for file in files)]:
        print(line)
    return int(any(claim.broken for claim in report.claims) or bool(broken(records)))


def _variant(table: PaperTable, scale: str, extra: Extra, configs: Sequence[dict[str, Any]]) -> str:
    """Empty if the words change nothing but the seeds, else what tells the files from the table's own."""
    if not extra.keys() - {"seed"}:
        return ""
    from normbench import papers
    from normbench.config.compose import compose
    from normbench.config.resolve import resolve
    from normbench.config.search_path import own_config_dir

    sweeps = papers.sweeps(table, scale, {"seed": ["0"]})
    unchanged = [config for words in sweeps for config in compose(words, own_config_dir())]
    groups = ([resolve(config).spec.group() for config in each] for each in (unchanged, configs))
    return papers.variant(*groups)


def _list() -> int:
    from normbench import papers
    from normbench.commands.text_table import columns

    tables = [papers.load(name) for name in papers.names()]
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
    console.print("\nclaims")
    for claim in report.claims:
        console.print(Padding(Text(claim.line(), style="red" if claim.broken else ""), (0, 0, 0, 2)))
