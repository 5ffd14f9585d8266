"""Plant bugs, one at a time, and see whether the tests catch them.

    scripts/mutants.py run tests/mutants/planted.yaml tests/mutants/sampled.yaml
    scripts/mutants.py run tests/mutants/planted.yaml --sample 6
    scripts/mutants.py sample --count 60 --seed 0 > tests/mutants/sampled.yaml

A mutant is an entry of a YAML list:

    file:     of `src/normbench`
    before:   lines of code as they stand there, without their indentation; the first place counts
    after:    what is put in their place
    tests:    words for pytest; the mutant is caught if one of these tests fails
    survives: the reason, for a mutant that no test can catch or need catch

Each mutant is planted in a copy of the source tree, so that several run at the same time and the checkout
stays as it is. `run` prints one line per mutant that was not caught, and the count. It exits with 1 if a
mutant without a reason survives, if one with a reason is caught, or if the code that it changes is not there.

`sample` makes mutants with operators on arithmetic, comparisons and constants. The seed fixes which.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "normbench"
#: Seconds that the tests of one mutant may take; one that makes them hang is caught.
LIMIT_S = 600
#: Packages that `sample` changes, with the tests that are to notice.
SAMPLED = ("engine", "norms", "models", "data", "report")
SWAPS: dict[type, tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"), ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"), ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="),
}  # fmt: skip


def planted(text: str, mutant: dict[str, Any]) -> str:
    """The text of a file with a mutant in it.

    Raises:
        ValueError: the code that the mutant changes is not there.
    """
    lines = text.splitlines()
    before = [line.strip() for line in mutant["before"].strip().splitlines()]
    for at in range(len(lines) - len(before) + 1):
        if [line.strip() for line in lines[at : at + len(before)]] == before:
            indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
            after = textwrap.indent(textwrap.dedent(mutant["after"]).strip(), indent)
            return "\n".join([*lines[:at], after, *lines[at + len(before) :]]) + "\n"
    raise ValueError(f"{mutant['file']}: there is no {mutant['before'].strip()!r}")


def verdict(mutant: dict[str, Any]) -> str:
    """caught, survived, or what is wrong with the mutant."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "src"
        shutil.copytree(
            ROOT / "src", copy, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "conf")
        )
        (copy / "normbench" / "conf").symlink_to(ROOT / "conf")
        file = copy / "normbench" / mutant["file"]
        try:
            file.write_text(planted(file.read_text(encoding="utf-8"), mutant), encoding="utf-8")
        except (ValueError, OSError) as error:
            return f"stale: {error}"
        words = [*mutant["tests"].split(), "-x", "-q", "-p", "no:cacheprovider"]
        environment = {
            **os.environ,
            "PYTHONPATH": str(copy),
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *words], cwd=ROOT, env=environment, capture_output=True,
                text=True, timeout=LIMIT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return "caught"
    if done.returncode == 0:
        return "survived"
    if done.returncode in (1, 2):  # a test failed, or a module does not even import
        return "caught"
    return f"stale: pytest ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}"


def run(files: list[Path], sample: int | None, processes: int) -> int:
    """Run the mutants of some files; the exit code."""
    mutants = [m for file in files for m in yaml.safe_load(file.read_text(encoding="utf-8"))]
    if sample is not None:  # spread over the list, always the same ones
        mutants = mutants[:: max(1, len(mutants) // sample)][:sample]
    caught = wrong = excused = 0
    with ThreadPoolExecutor(processes) as pool:
        for mutant, said in zip(mutants, pool.map(verdict, mutants), strict=True):
            change = f"{mutant['file']}: {mutant['before'].strip()!r} → {mutant['after'].strip()!r}"
            if said == "caught" and "survives" not in mutant:
                caught += 1
            elif said == "survived" and "survives" in mutant:
                excused += 1
                print(f"survived, as expected: {change} ({mutant['survives']})", flush=True)
            else:
                wrong += 1
                print(f"{said.upper()}: {change}", flush=True)
    share = 100 * caught / len(mutants)
    counts = f"{caught} caught ({share:.0f} %), {excused} survived with a reason, {wrong} wrong"
    print(f"{len(mutants)} mutants: {counts}")
    return int(wrong > 0)


def sites(file: Path) -> Iterator[dict[str, Any]]:
    """Every mutant that the operators make of a file, on lines of one statement each."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    tree = ast.parse(text)
    skipped = {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr) or _is_docstring(node)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for node in ast.walk(tree):
        for start, end, new in _changes(node):
            if node.lineno != node.end_lineno or node.lineno in skipped:
                continue
            line = lines[node.lineno - 1]
            code = line.encode()
            after = (code[:start] + new.encode() + code[end:]).decode()
            if lines.count(line) == 1 and after != line:
                yield {
                    "file": file.relative_to(SOURCE).as_posix(), "before": line.strip(),
                    "after": after.strip(), "tests": tests_of(file.relative_to(SOURCE)),
                }  # fmt: skip


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _changes(node: ast.AST) -> Iterator[tuple[int, int, str]]:
    """Byte columns and replacement of what an operator changes at a node of the syntax tree."""
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
        yield from _between(node.left, node.right, *SWAPS[type(node.op)])
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPS:
        yield from _between(node.left, node.comparators[0], *SWAPS[type(node.ops[0])])
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        assert node.end_col_offset is not None
        yield node.col_offset, node.end_col_offset, repr(node.value + 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        assert node.end_col_offset is not None
        yield node.col_offset, node.end_col_offset, repr(not node.value)


def _between(left: ast.expr, right: ast.expr, old: str, new: str) -> Iterator[tuple[int, int, str]]:
    if left.end_lineno == right.lineno and left.end_col_offset is not None:
        source = left.end_col_offset, right.col_offset
        yield *source, f" {new} " if old else ""


def tests_of(file: Path) -> str:
    """The tests that are to notice a change in a file."""
    package, name = file.parts[0], file.stem
    if file.parts[:2] == ("norms", "methods"):
        return f"tests/norms tests/engine/test_parity.py -k {name}"
    return f"tests/{package}"


def sample(count: int, seed: int) -> int:
    """Print a random sample of mutants as YAML."""
    files = sorted(file for package in SAMPLED for file in (SOURCE / package).rglob("*.py"))
    found = [site for file in files for site in sites(file)]
    chosen = random.Random(seed).sample(found, count)
    print(yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True, width=110), end="")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant bugs and see whether the tests catch them.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    runs = verbs.add_parser("run", help="run the mutants of some files")
    runs.add_argument("files", nargs="+", type=Path)
    runs.add_argument("--sample", type=int, help="so many of them, spread over the files")
    runs.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    samples = verbs.add_parser("sample", help="make mutants and print them")
    samples.add_argument("--count", type=int, default=60)
    samples.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.verb == "run":
        return run(args.files, args.sample, args.processes)
    return sample(args.count, args.seed)


if __name__ == "__main__":
    sys.exit(main())
