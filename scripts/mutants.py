"""Plant bugs, one at a time, and see whether the tests catch them.

    scripts/mutants.py run tests/mutants/planted.yaml tests/mutants/sampled.yaml
    scripts/mutants.py run tests/mutants/planted.yaml --sample 6
    scripts/mutants.py run tests/mutants/planted.yaml --only engine/step.py
    scripts/mutants.py sample --count 60 --seed 0 > tests/mutants/sampled.yaml

A mutant is an entry of a YAML list:

    file:     below `src/normbench`; `conf/…` is a file of the configuration
    before:   whole lines of the file, without their indentation; they must stand there exactly once
    after:    what is put in their place
    tests:    words for pytest; the mutant is caught if one of these tests fails. Slow tests are left out
    survives: the reason, for a mutant that no test can catch or need catch
    ci:       true for the few mutants of which `--sample` takes the first ones

Each mutant is planted in a copy of the source tree, so that several run at the same time and the checkout
stays as it is. The tests run once without the mutant, unless `--trust` says that they pass. They must pass,
and the time that they take sets the limit after which a mutant counts as one that hangs. `run` prints one
line per mutant that was not caught, and the count. It exits with 1 if a mutant without a reason survives, if
one with a reason is caught, if its tests fail without it, or if the lines that it changes are not there.

`sample` makes mutants with operators on arithmetic, comparisons and constants. The seed fixes which.
"""

from __future__ import annotations

import argparse
import ast
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import textwrap
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "normbench"
#: Seconds that tests may take, and how many times as long as without a mutant plus MARGIN_S. A mutant whose
#: tests take longer hangs and is caught.
LIMIT_S, SLOWER, MARGIN_S = 600.0, 5.0, 60.0
#: Fields of a mutant.
NEEDED, OPTIONAL = {"file", "before", "after", "tests"}, {"survives", "ci"}
#: Packages that `sample` changes.
SAMPLED = ("engine", "norms", "models", "data", "report")
#: A module of norms that more methods than this use is tested with all of them.
MANY_METHODS = 6
#: PERF: what most tests import is imported once; every call of pytest is a fork of that process.
PRELOADED = [
    "torch", "torchvision.datasets", "numpy", "scipy.special", "scipy.stats", "sklearn.datasets",
    "sklearn.model_selection", "safetensors.torch", "sympy", "omegaconf", "pydantic", "yaml",
    "rich.console", "pytest",
]  # fmt: skip
SERVER = multiprocessing.get_context("forkserver")
SWAPS: dict[type, tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"), ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"), ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="),
}  # fmt: skip

#: Exit codes of a call of pytest that raised, and of one whose server was stopped.
BROKEN, SERVER_GONE = 99, 255

Mutant = dict[str, Any]


class Run(NamedTuple):
    """How a call of pytest ended: its exit code, None if it was stopped; what it said; seconds."""

    code: int | None
    said: str
    seconds: float


def load(files: list[Path]) -> list[Mutant]:
    """The mutants of some files.

    Raises:
        SystemExit: an entry lacks a field or has an unknown one.
    """
    mutants = []
    for file in files:
        for mutant in yaml.safe_load(file.read_text(encoding="utf-8")):
            if not NEEDED <= mutant.keys() <= NEEDED | OPTIONAL:
                sys.exit(f"{file}: a mutant must have {', '.join(sorted(NEEDED))}; got {mutant}")
            mutants.append(mutant)
    return mutants


def planted(text: str, mutant: Mutant) -> str:
    """The text of a file with a mutant in it.

    Raises:
        ValueError: the lines that the mutant changes stand there more than once or not at all, or it changes
            nothing.
        SyntaxError: with the mutant the file is no Python.
    """
    lines = text.splitlines()
    before = [line.strip() for line in mutant["before"].strip().splitlines()]
    found = [
        at
        for at in range(len(lines) - len(before) + 1)
        if [line.strip() for line in lines[at : at + len(before)]] == before
    ]
    if len(found) != 1:
        raise ValueError(f"these lines must stand there once; they stand there {len(found)} times")
    at = found[0]
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    after = textwrap.indent(textwrap.dedent(mutant["after"]).strip(), indent)
    changed = "\n".join([*lines[:at], after, *lines[at + len(before) :]]) + "\n"
    if changed == text:
        raise ValueError("it changes nothing")
    if mutant["file"].endswith(".py"):
        ast.parse(changed)
    return changed


class Tester:
    """Runs mutants and remembers which tests pass without one."""

    def __init__(self, margin: float, trust: bool) -> None:
        self.margin, self.trust = margin, trust
        self._alone: dict[str, Run] = {}  # by words for pytest
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)

    def verdict(self, mutant: Mutant) -> str:
        """caught, survived, or what is wrong with the mutant."""
        try:
            changed = planted((SOURCE / mutant["file"]).read_text(encoding="utf-8"), mutant)
        except (ValueError, SyntaxError, OSError) as error:
            return f"stale: {error}"
        words = mutant["tests"]
        with self._locks[words]:
            if self.trust:
                self._alone[words] = Run(0, "", LIMIT_S / SLOWER)
            elif words not in self._alone:
                self._alone[words] = run_tests(words, ROOT / "src", LIMIT_S)
        alone = self._alone[words]
        if alone.code != 0:
            return f"stale: its tests must pass without it; pytest ended with {alone.code}: {alone.said}"
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "src"
            shutil.copytree(ROOT / "src", copy)  # with its __pycache__, which stays valid
            (copy / "normbench" / mutant["file"]).write_text(changed, encoding="utf-8")
            done = run_tests(words, copy, self.margin + SLOWER * alone.seconds)
        if done.code == 0:
            return "survived"
        # 1: a test failed; 2: a module does not even import; None: it hangs; negative: the process died
        if done.code is None or done.code in (1, 2) or done.code < 0:
            return "caught"
        return f"stale: pytest ended with {done.code}: {done.said}"


def run_tests(words: str, source: Path, limit: float) -> Run:
    """Run tests on a source tree; stop them, and the processes that they started, after `limit` seconds."""
    while True:
        with suppress(EOFError, ConnectionError):
            done = _call(words, source, limit)
            if done.code != SERVER_GONE:
                return done
        time.sleep(1)  # somebody stopped the server; the next call starts another one


def _call(words: str, source: Path, limit: float) -> Run:
    slow = [] if " -m " in f" {words} " else ["-m", "not slow"]
    options = ["-x", "-q", "--durations=0", "--no-header", "--tb=line", "-p", "no:cacheprovider", *slow]
    began = time.monotonic()
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = SERVER.Process(
            target=_run_pytest, args=([*shlex.split(words), *options], str(source), output.name)
        )
        process.start()
        process.join(limit)
        code = process.exitcode
        assert process.pid
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what a test left behind
        process.join()
        output.seek(0)
        said = " ".join(output.read()[-300:].split())
    return Run(code, said, time.monotonic() - began)


class Status:
    """A plugin of pytest that remembers how the tests ended."""

    code = BROKEN

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.code = int(exitstatus)


def _run_pytest(words: list[str], source: str, output: str) -> None:
    """Run pytest in this process, a fork of one that has imported PRELOADED."""
    os.setsid()
    with Path(output).open("w", encoding="utf-8") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    os.chdir(ROOT)
    sys.path.insert(0, source)
    os.environ["PYTHONPATH"] = source  # for the processes of tests
    if source != str(ROOT / "src"):
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    status = Status()
    try:
        code = int(pytest.main(words, plugins=[status]))
    except BaseException:  # what a failed test left behind can raise after it
        traceback.print_exc()
        code = status.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # PERF: tidying up torch takes longer


def choose(mutants: list[Mutant], sample: int | None, only: str | None) -> list[Mutant]:
    """The mutants to run: those of files whose name holds `only`, and of these `sample`, always the same."""
    chosen = [mutant for mutant in mutants if only is None or only in mutant["file"]]
    if sample is None:
        return chosen
    marked = [mutant for mutant in chosen if mutant.get("ci")]
    if len(marked) >= sample:
        return marked[:sample]
    return chosen[:: max(1, len(chosen) // sample)][:sample]


def run(mutants: list[Mutant], args: argparse.Namespace) -> int:
    """Run mutants; the exit code."""
    caught = wrong = excused = 0
    began = time.monotonic()
    tester = Tester(args.margin, args.trust)
    first = SERVER.Process(target=int)  # starts the server, so that no test's time holds its imports
    first.start()
    first.join()
    with ThreadPoolExecutor(args.processes) as pool:
        for mutant, said in zip(mutants, pool.map(tester.verdict, mutants), strict=True):
            change = f"{mutant['file']}: {mutant['before'].strip()!r} → {mutant['after'].strip()!r}"
            if said == "caught" and "survives" not in mutant:
                caught += 1
                if args.verbose:
                    print(f"caught: {change}", flush=True)
            elif said == "survived" and "survives" in mutant:
                excused += 1
                print(f"survived, as expected: {change} ({mutant['survives']})", flush=True)
            else:
                wrong += 1
                kind, _, why = said.partition(": ")
                print(" ".join(filter(None, (kind.upper(), change, f"[{mutant['tests']}]", why))), flush=True)
    share = 100 * caught / max(len(mutants), 1)
    counts = f"{caught} caught ({share:.0f} %), {excused} survived with a reason, {wrong} wrong"
    print(f"{len(mutants)} mutants in {time.monotonic() - began:.0f} s: {counts}")
    return int(wrong > 0 or not mutants)


def sites(file: Path) -> Iterator[Mutant]:
    """Every mutant that the operators make of a file, on lines that stand there once; without `tests`."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    stripped = Counter(line.strip() for line in lines)
    tree = ast.parse(text)
    skipped = {
        number
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr) or _is_docstring(node)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for node in ast.walk(tree):
        number = getattr(node, "lineno", 0)
        if not number or number != getattr(node, "end_lineno", 0) or number in skipped:
            continue
        line = lines[number - 1]
        for after in _changes(node, line.encode()):
            if stripped[line.strip()] == 1 and after != line:
                place = file.relative_to(SOURCE).as_posix()
                yield {"file": place, "before": line.strip(), "after": after.strip()}


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _changes(node: ast.AST, line: bytes) -> Iterator[str]:
    """A line with what an operator makes of a node of the syntax tree that stands on it."""
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
        yield from _swapped(line, node.left, node.right, *SWAPS[type(node.op)])
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPS:
        yield from _swapped(line, node.left, node.comparators[0], *SWAPS[type(node.ops[0])])
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        other = not node.value if isinstance(node.value, bool) else node.value + 1
        yield (line[: node.col_offset] + repr(other).encode() + line[node.end_col_offset :]).decode()


def _swapped(line: bytes, left: ast.expr, right: ast.expr, old: str, new: str) -> Iterator[str]:
    """The line with another operator between two operands; nothing if it is not clear which one that is."""
    start, end = left.end_col_offset or 0, right.col_offset
    between = line[start:end].decode()  # may hold brackets
    if between.count(old) == 1:
        yield (line[:start] + between.replace(old, new).encode() + line[end:]).decode()


def tests_of(file: Path) -> str:
    """The tests that are to notice a change in a file of the package: words for pytest.

    They are the test files of its package that import it, of other packages if there are none, those that are
    called like it, or else all of its package. A method of norms, and what methods share, has besides the
    cases of these methods in the tests of all norms.
    """
    tests = ROOT / "tests"
    module = ".".join(("normbench", *file.with_suffix("").parts)).removesuffix(".__init__")
    package, _, name = module.rpartition(".")
    marks = (f"from {module} import", f"import {module}", f"from {package} import {name}")
    users = [each for each in sorted(tests.rglob("test_*.py")) if any(mark in _text(each) for mark in marks)]
    found = [each for each in users if each.is_relative_to(tests / file.parts[0])] or users
    if file.parts[0] == "norms" and "surgery" not in file.parts:
        return _norm_tests(file, [each for each in found if each.parent.name != "commands"] or found)
    if not found and "surgery" in file.parts:
        found = [*sorted(tests.glob("norms/test_conversion*.py")), *sorted(tests.glob("norms/test_fold*.py"))]
    named = sorted((tests / file.parts[0]).glob(f"test_{file.stem.partition('_')[0]}*.py"))
    return _words(found) or _words(named) or f"tests/{file.parts[0]}"


def _norm_tests(file: Path, found: list[Path]) -> str:
    tests = ROOT / "tests" / "norms"
    tree = ast.parse(_text(SOURCE / file))
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    methods = sorted((SOURCE / "norms" / "methods").glob("[a-z]*.py"))
    mark = f"from normbench.norms.{file.stem} import"
    keys = [each.stem for each in methods if each.stem == file.stem or mark in _text(each)]
    found += [
        each
        for each in sorted(tests.glob("test_*.py"))
        if f"_{file.stem}_" in each.name or any(f"norms.{name}(" in _text(each) for name in classes)
    ]
    if file.stem in keys:  # the file of its own is the one that names it most often
        own = [each for each in sorted(tests.glob("test_*_norm.py")) if f'"{file.stem}"' in _text(each)]
        found += sorted(own, key=lambda each: -_text(each).count(f'"{file.stem}"'))[:1]
    found = list(dict.fromkeys(found))
    every = [tests / f"test_norm_{name}.py" for name in ("oracle", "contract", "lanes")]
    if not keys or len(keys) > MANY_METHODS:
        return _words([*every, *found] if keys else found) or _words(every)
    cases = " or ".join(f"[{key}- or -{key}- or -{key}] or [{key}]" for key in keys)
    named = "".join(f" or {each.stem}" for each in found)
    return f"{_words([*every, *found])} -k '{cases}{named}'"


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _words(files: list[Path]) -> str:
    return " ".join(dict.fromkeys(each.relative_to(ROOT).as_posix() for each in files))


def sample(count: int, seed: int) -> int:
    """Print a random sample of mutants as YAML."""
    files = sorted(file for package in SAMPLED for file in (SOURCE / package).rglob("*.py"))
    found = [site for file in files for site in sites(file)]
    chosen = random.Random(seed).sample(found, count)
    chosen = [{**mutant, "tests": tests_of(Path(mutant["file"]))} for mutant in chosen]
    print(yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True, width=110), end="")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant bugs and see whether the tests catch them.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    runs = verbs.add_parser("run", help="run the mutants of some files")
    runs.add_argument("files", nargs="+", type=Path)
    runs.add_argument("--sample", type=int, help="so many of them, always the same ones")
    runs.add_argument("--only", metavar="TEXT", help="those of files whose name holds this text")
    runs.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    runs.add_argument(
        "--margin", type=float, default=MARGIN_S, metavar="S", help="seconds that all tests get"
    )
    runs.add_argument("--trust", action="store_true", help="the tests are known to pass without a mutant")
    runs.add_argument("--verbose", action="store_true", help="name those that are caught, too")
    samples = verbs.add_parser("sample", help="make mutants and print them")
    samples.add_argument("--count", type=int, default=60)
    samples.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.verb == "run":
        os.environ["OMP_NUM_THREADS"] = "1"
        SERVER.set_forkserver_preload(PRELOADED)
        return run(choose(load(args.files), args.sample, args.only), args)
    return sample(args.count, args.seed)


if __name__ == "__main__":
    sys.exit(main())
