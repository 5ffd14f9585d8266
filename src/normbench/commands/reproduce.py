"""`normbench reproduce`: a published table rerun at some scale, beside its numbers, its claims judged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from normbench.commands.parser import Parser
from normbench.errors import InputError

if TYPE_CHECKING:
    from normbench.papers import PaperReport


def parser() -> Parser:
    made = Parser(
        "reproduce",
        "Train the missing runs of a published table, print it beside its numbers, say which claims hold.",
        "normbench reproduce",
        "normbench reproduce wu2018/batch_size scale=tiny",
        "normbench reproduce wu2018/batch_size scale=small norm=bn,gn 'seed=range(5)' --json wu2018.json",
    )
    made.add_argument("name", nargs="?", metavar="NAME", help="the table; without a name all are listed")
    made.add_argument("words", nargs="*", metavar="key=value", help="scale=…, and words over the table's")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write table and claims to FILE")
    return made


def run(argv: Sequence[str]) -> int:
    """Reproduce a table; 1 if a run failed or a claim that the table asserts does not hold."""
    args = parser().parse_intermixed_args(list(argv))
    if args.name is None:
        return _list()
    if "=" in args.name:
        raise InputError(f"the name of a table must come first; got '{args.name}'; see normbench reproduce")
    if args.json is not None and not args.json.absolute().parent.is_dir():
        raise InputError(f"--json must lie in a folder that exists; got '{args.json}'")
    from normbench import papers
    from normbench.commands.summary import broken
    from normbench.commands.table import write
    from normbench.commands.training import Training
    from normbench.config.compose import compose, listed
    from normbench.config.search_path import own_config_dir

    table = papers.load(args.name)
    own = own_config_dir()
    extra = listed(args.words, own)
    [scale, *others] = extra.pop("scale", [next(iter(table.scales))])
    if others:
        raise InputError(f"one scale at a time; got scale={','.join([scale, *others])}")
    training = Training()
    grids = papers.sweeps(table, scale, extra)
    training.many([config for words in grids for config in compose(words, own)])
    records = list({record.signature: record for record in training.records}.values())  # grids may share runs
    made = papers.report(table, scale, records, extra)
    files = papers.write(made, training.store.root)
    if args.json is not None:
        write(args.json, json.dumps(made.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n")
        files.append(args.json)
    _say(made)
    for line in [*broken(records), "", *(f"wrote {file}" for file in files)]:
        print(line)
    return int(any(claim.broken for claim in made.claims) or bool(broken(records)))


def _list() -> int:
    from normbench import papers
    from normbench.commands.text_table import columns

    tables = [papers.load(name) for name in papers.names()]
    rows = [{"table": table.name, "scales": " ".join(table.scales), "title": table.title} for table in tables]
    print("\n".join(columns(rows)))
    return 0


def _say(made: PaperReport) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from normbench.report.terminal import renderable

    console = Console(highlight=False, markup=False)
    for line in made.heading():
        console.print(line)
    console.print()
    console.print(renderable(made.table, console))
    console.print("\nclaims")
    for claim in made.claims:
        console.print(Padding(Text(claim.line(), style="red" if claim.broken else ""), (0, 0, 0, 2)))
