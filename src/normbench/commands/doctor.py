"""`normbench doctor`: what works on this machine and what does not, each with its remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from normbench.commands.parser import Parser

_COLOURS = {"ok": "32", "warn": "33", "fail": "31"}


def parser() -> Parser:
    made = Parser(
        "doctor",
        "Check this machine: Python, torch, GPU, packages, data, places to write, memory, trackers.\n"
        "ok: works; warn: works with limits; fail: normbench cannot be used. Exit code 1 if anything fails.",
        "normbench doctor",
        "normbench doctor --json",
    )
    made.add_argument("--json", action="store_true", help="a list of name, level, found, fix")
    return made


def run(argv: Sequence[str]) -> int:
    """Print one line per check; 1 if one fails."""
    args = parser().parse_args(list(argv))
    from normbench.commands.doctor_check import FAIL
    from normbench.commands.doctor_machine import MACHINE
    from normbench.commands.doctor_software import SOFTWARE
    from normbench.visible import visible

    found = [check() for check in (*SOFTWARE, *MACHINE)]
    if args.json:
        print(json.dumps([each._asdict() for each in found], indent=2, ensure_ascii=False))
    else:
        width = max(len(each.name) for each in found)
        coloured = sys.stdout.isatty()
        for each in found:
            level = f"{each.level:<4}"
            if coloured:
                level = f"\033[{_COLOURS[each.level]}m{level}\033[0m"
            print(f"{level}  {each.name:<{width}}  {visible(each.found)}")
            if each.fix:
                print(f"{'':<{width + 8}}→ {visible(each.fix)}")
    return int(any(each.level == FAIL for each in found))
