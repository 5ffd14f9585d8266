"""The planted bugs fit the code, reach every package, and `scripts/mutants.py` judges them as it says."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LISTS = sorted((ROOT / "tests" / "mutants").glob("*.yaml"))
SCRIPT = ROOT / "scripts" / "mutants.py"


@pytest.fixture(scope="module")
def script():
    spec = spec_from_file_location("mutants", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def mutants(script):
    return script.load(LISTS)


def test_every_mutant_can_be_planted(script, mutants):
    stale = []
    for mutant in mutants:
        try:
            script.planted((script.SOURCE / mutant["file"]).read_text(encoding="utf-8"), mutant)
        except (ValueError, SyntaxError, OSError) as error:
            stale.append(f"{mutant['file']}: {mutant['before'].strip()}: {error}")
    assert not stale


def test_the_tests_of_every_mutant_exist(mutants):
    words = {word for mutant in mutants for word in shlex.split(mutant["tests"]) if word.startswith("tests/")}
    assert not [word for word in words if not (ROOT / word.partition("::")[0]).exists()]


def test_every_package_has_planted_bugs():
    planted = yaml.safe_load((ROOT / "tests" / "mutants" / "planted.yaml").read_text(encoding="utf-8"))
    files = {mutant["file"] for mutant in planted}
    packages = {
        "autotune", "commands", "config", "data", "engine", "models", "norms", "norms/methods",
        "norms/surgery", "papers", "report", "sweeps", "tracking", "weight_norms/methods",
    }  # fmt: skip
    assert packages <= {str(Path(file).parent) for file in files}
    assert {"cli.py", "momentum.py", "record.py", "rng.py", "spec.py", "store.py"} <= files
    assert sum(file.startswith("../hydra_plugins") for file in files) >= 2
    assert len(planted) >= 66
    assert sum(bool(mutant.get("ci")) for mutant in planted) >= 6


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("x = 1", "x = 3", "stand there 2 times"), ("y = 1", "y = 3", "stand there 0 times"),
        ("z = 2", "z = 2", "changes nothing"), ("z = 2", "z = = 2", "invalid syntax"),
    ],
)  # fmt: skip
def test_a_mutant_that_does_not_fit_is_refused(script, before, after, message):
    mutant = {"file": "a.py", "before": before, "after": after, "tests": "tests"}
    with pytest.raises((ValueError, SyntaxError), match=message):
        script.planted("x = 1\nif x:\n    x = 1\nz = 2\n", mutant)


def test_a_mutant_keeps_the_indentation_of_the_lines_that_it_replaces(script):
    mutant = {"file": "a.py", "before": "b = 2\nc = 3\n", "after": "if b:\n    c = 4\n", "tests": "tests"}
    text = "def f(b):\n    b = 2\n    c = 3\n    return c\n"
    assert script.planted(text, mutant) == "def f(b):\n    if b:\n        c = 4\n    return c\n"


def test_operators_change_one_place_of_code_and_keep_brackets(script, tmp_path, monkeypatch):
    file = tmp_path / "a.py"
    file.write_text(
        '"""1 + 1"""\ny = (a - b) * 2 if a < 0.5 else -c\nraise ValueError(1 + 1)\n', encoding="utf-8"
    )
    monkeypatch.setattr(script, "SOURCE", tmp_path)
    assert {mutant["after"] for mutant in script.sites(file)} == {
        "y = (a - b) / 2 if a < 0.5 else -c", "y = (a + b) * 2 if a < 0.5 else -c",
        "y = (a - b) * 3 if a < 0.5 else -c", "y = (a - b) * 2 if a <= 0.5 else -c",
        "y = (a - b) * 2 if a < 1.5 else -c",
    }  # fmt: skip


CODE = """def add(a, b):
    total = a + b
    unused = 0
    return total


def count(most):
    number = 0
    while number < most:
        number = number + 1
    return number
"""
TESTS = """from normbench.sums import add, count


def test_add():
    assert add(1, 2) == 3


def test_count():
    assert count(3) == 3
"""


@pytest.fixture
def verdicts(tmp_path):
    """A function from mutants of a small project to the exit code of the script and what it prints."""
    for file, text in {
        "src/normbench/__init__.py": "", "src/normbench/sums.py": CODE, "tests/test_sums.py": TESTS,
        "tests/test_broken.py": "def test_broken():\n    assert False\n",
    }.items():  # fmt: skip
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")

    def verdicts(*mutants):
        tests = "tests/test_sums.py"
        listed = [{"file": "sums.py", "tests": tests, **mutant} for mutant in mutants]
        (tmp_path / "list.yaml").write_text(yaml.safe_dump(listed), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "scripts/mutants.py", "run", "list.yaml", "--processes", "2", "--margin", "3"],
            cwd=tmp_path, capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return verdicts


ADD = {"before": "total = a + b", "after": "total = a - b"}
UNUSED = {"before": "unused = 0", "after": "unused = 1"}


def test_caught_mutants_and_excused_survivors_are_fine(verdicts):
    hanging = {"before": "number = number + 1", "after": "number = number + 0"}
    code, said = verdicts(ADD, hanging, {**UNUSED, "survives": "nobody reads it"})
    assert code == 0, said
    assert "survived, as expected: sums.py: 'unused = 0' → 'unused = 1' (nobody reads it)" in said
    assert "2 caught (67 %), 1 survived with a reason, 0 wrong" in said


def test_everything_else_is_named_and_fails(verdicts):
    code, said = verdicts(
        UNUSED, {**ADD, "survives": "wrongly"}, {"before": "gone = 1", "after": "gone = 2"},
        {**ADD, "tests": "tests/test_broken.py"}, {**ADD, "tests": "tests/test_absent.py"},
    )  # fmt: skip
    assert code == 1, said
    assert "SURVIVED sums.py: 'unused = 0'" in said
    assert "CAUGHT sums.py: 'total = a + b'" in said
    assert (
        "STALE sums.py: 'gone = 1' → 'gone = 2' [tests/test_sums.py] these lines must stand there once"
        in said
    )
    assert said.count("its tests must pass without it") == 2
    assert "0 caught (0 %), 0 survived with a reason, 5 wrong" in said
