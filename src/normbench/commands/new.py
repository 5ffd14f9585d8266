"""`normbench new ablation|norm|model NAME`: writes a commented start that works as it is."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from normbench.commands.parser import Parser
from normbench.errors import InputError, unknown

KINDS = ("ablation", "norm", "model")
#: The folder of tables whose name has no folder.
FOLDER = "mine"


def parser() -> Parser:
    made = Parser(
        "new",
        "Write a commented start of your own that works as it is: a table into ./conf/paper, or a norm or a\n"
        "model as NAME.py into the current folder.",
        "normbench new ablation groups",
        "normbench reproduce mine/groups",
        "normbench new norm power_norm",
        "normbench new model small_net",
    )
    made.add_argument("kind", metavar="KIND", help="what to write: ablation, norm or model")
    made.add_argument("name", metavar="NAME", help="its name; of an ablation TABLE, or FOLDER/TABLE")
    return made


def run(argv: Sequence[str]) -> int:
    """Write the file; 2 if the name cannot be one, or the file exists."""
    args = parser().parse_args(list(argv))
    if args.kind not in KINDS:
        raise unknown("kind of file", args.kind, KINDS)
    from normbench.commands.text_file import write

    file, text, command = (_ablation if args.kind == "ablation" else _part)(args.kind, args.name)
    if file.exists():
        raise InputError(f"{file} exists already; give another name or edit it")
    write(file, text)
    print(f"wrote {file}\nrun it with: {command}")
    return 0


def _ablation(kind: str, given: str) -> tuple[Path, str, str]:
    """File, text and command of a table."""
    from normbench.papers.example import text

    if not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)?", given):
        raise InputError(f"a name has letters, digits, _ and -, and at most one /; got '{given}', use groups")
    name = given if "/" in given else f"{FOLDER}/{given}"
    file = Path("conf") / "paper" / f"{name}.yaml"
    return file, text(name.rpartition("/")[2], name), f"normbench reproduce {name}"


def _part(kind: str, name: str) -> tuple[Path, str, str]:
    """File, text and command of a norm or a model."""
    from normbench.config.choices import choices
    from normbench.templates import own_model, own_norm

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise InputError(
            f"the name of a {kind} has lower-case letters, digits and _, and begins with a letter; "
            f"got '{name}', use my_{kind}"
        )
    if name in choices(kind):
        raise InputError(f"{kind}={name} exists already; see normbench norms; use my_{name}")
    file = Path(f"{name}.py")
    if not file.exists() and find_spec(name) is not None:
        raise InputError(f"{file} would hide the package {name}; use my_{name}")
    text = own_norm.text(name) if kind == "norm" else own_model.text(name)
    return file, text, f"normbench train --plugin {file} {kind}={name}"
