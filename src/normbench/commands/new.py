"""`normbench new ablation NAME`: writes a commented example that `normbench reproduce` can run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from normbench.commands.parser import Parser
from normbench.errors import InputError, unknown

KINDS = ("ablation",)
#: The folder of tables whose name has no folder.
FOLDER = "mine"


def parser() -> Parser:
    made = Parser(
        "new",
        "Write a commented example of a table of your own into ./conf/paper.",
        "normbench new ablation groups",
        "normbench reproduce mine/groups",
    )
    made.add_argument("kind", metavar="KIND", help="what to write: ablation")
    made.add_argument("name", metavar="NAME", help="its name: TABLE, or FOLDER/TABLE")
    return made


def run(argv: Sequence[str]) -> int:
    """Write the file; 2 if the name cannot be one, or the file exists."""
    args = parser().parse_args(list(argv))
    if args.kind not in KINDS:
        raise unknown("kind of file", args.kind, KINDS)
    from normbench.commands.text_file import write
    from normbench.papers.example import text

    if not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)?", args.name):
        raise InputError(
            f"a name has letters, digits, _ and -, and at most one /; got '{args.name}', use groups"
        )
    name = args.name if "/" in args.name else f"{FOLDER}/{args.name}"
    file = Path("conf") / "paper" / f"{name}.yaml"
    if file.exists():
        raise InputError(f"{file} exists already; give another name or edit it")
    write(file, text(name.rpartition("/")[2], name))
    print(f"wrote {file}\nrun it with: normbench reproduce {name}")
    return 0
