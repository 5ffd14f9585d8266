"""`normbench bench`: the speed of stacks, lone runs and a plain loop on this machine, and the reasons."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from normbench.commands.parser import Parser, own_path
from normbench.commands.text_file import check_writable
from normbench.errors import InputError, RunFailure


def parser() -> Parser:
    made = Parser(
        "bench",
        "Measure the steps per second of stacks, lone runs and a plain PyTorch loop on this machine,\n"
        "the share of the machine that they use, and the phases of a step. Words of train apply to all.",
        "normbench bench",
        "normbench bench --models lenet5 --batches 2,8 --lanes 1,16 norm=gn",
        "normbench bench --models mlp --lanes 1,4 --seconds 0.2 --json quick.json",
    )
    made.add_argument(
        "words", nargs="*", metavar="key=value", help="words of a train command, without sweeps"
    )
    made.add_argument("--models", default="lenet5,resnet20", metavar="NAMES", help="default: lenet5,resnet20")
    made.add_argument("--batches", default="2,32", metavar="NUMBERS", help="images per step (default: 2,32)")
    made.add_argument("--lanes", default="1,8,16,32", metavar="NUMBERS", help="default: 1,8,16,32")
    made.add_argument(
        "--rounds",
        default="5",
        metavar="N",
        help="rounds; each contestant is timed once per round (default: 5)",
    )
    made.add_argument(
        "--seconds",
        default="3",
        metavar="S",
        help="seconds per contestant over all rounds; a slower step is not measured (default: 3)",
    )
    made.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    made.add_argument(
        "--json", type=own_path, metavar="FILE",
        help="write to FILE instead of .json and .md in bench/ of the results folder",
    )  # fmt: skip
    return made


def run(argv: Sequence[str]) -> int:
    """Measure, print and save."""
    args = parser().parse_intermixed_args(list(argv))
    if args.json is not None:
        check_writable(args.json, "--json")
    batches, lanes = _numbers("--batches", args.batches), _numbers("--lanes", args.lanes)
    rounds, seconds = _numbers("--rounds", args.rounds), _seconds(args.seconds)
    if len(rounds) > 1:
        raise InputError(f"--rounds must be one whole number ≥ 1; got '{args.rounds}'")
    from normbench.bench.grid import Grid, cases
    from normbench.bench.throughput import measure
    from normbench.commands.bench_page import page, text
    from normbench.config.search_path import own_config_dir
    from normbench.store import Store
    from normbench.sweeps.provenance import commit

    store = Store.default()
    if args.json is None:
        store.check_writable()
    models = tuple(dict.fromkeys(args.models.split(",")))
    grid = Grid(models, batches, lanes, rounds[0], seconds, tuple(args.words), args.device)
    chosen = cases(grid, store.root / "cache", own_config_dir())
    found = measure(grid, chosen, say=lambda line: print(line, file=sys.stderr, flush=True))
    found |= {"commit": commit(), "date": date.today().isoformat()}
    found["command"] = shlex.join(["normbench", "bench", *argv])
    print("\n".join(text(found)))
    written = json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    if args.json is not None:
        files = {args.json: written}
    else:
        stem = store.root / "bench" / _stem(found)
        files = {Path(f"{stem}.json"): written, Path(f"{stem}.md"): page(found)}
    for line in _write(files):
        print(line)
    return 0


def _numbers(option: str, given: str) -> tuple[int, ...]:
    """Comma-separated whole numbers ≥ 1, without duplicates."""
    if not re.fullmatch(r"0*[1-9]\d*(,0*[1-9]\d*)*", given):
        raise InputError(f"{option} must be whole numbers ≥ 1, separated by commas; got '{given}'")
    return tuple(dict.fromkeys(map(int, given.split(","))))


def _seconds(given: str) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise InputError(f"--seconds must be a number > 0; got '{given}'")
    return seconds


def _stem(found: dict[str, Any]) -> str:
    """The file name <device>_<torch>_<date>, with the device in lower case and dashes."""
    device = re.sub(r"[^a-z0-9]+", "-", found["device"].lower()).strip("-")
    return f"{device}_{found['torch'].partition('+')[0]}_{found['date']}"


def _write(files: dict[Path, str]) -> list[str]:
    """Write the results; return one line per file.

    Raises:
        RunFailure: a file cannot be written.
    """
    from normbench.files import write_atomically

    for file, content in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, content)
        except OSError as error:
            raise RunFailure(
                f"cannot write {file}: {error.strerror or error}; the results are printed above"
            ) from None
    return [f"wrote {file}" for file in files]
