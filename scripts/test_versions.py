"""Run a short set of tests with the oldest torch that normbench supports and with the newest one.

    scripts/test_versions.py                     # both; makes build/versions/oldest and build/versions/newest
    scripts/test_versions.py oldest --folder DIR

Each has a virtual environment of its own, with the Python that runs this script. pip takes torch from where
it is set up to look. With PIP_EXTRA_INDEX_URL of PyTorch's builds for CPUs it takes those, which are smaller.
An environment that exists is used again.

The last lines are a table of versions with the numbers of tests that passed, failed and were skipped.
The exit code is 1 if a test failed or an environment could not be made.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
import venv
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
#: What can break with another version of torch, from the import to a table. Slow tests are left out.
TESTS = (
    "tests/api/test_runs.py",  # the import is light; runs, tables and frames from Python
    "tests/commands/test_doctor.py",
    "tests/norms/test_norm_oracle.py",  # every norm against its paper
    "tests/norms/test_conversion_models.py",  # models of torchvision
    "tests/engine/test_optim.py",
    "tests/engine/test_recording.py",
    "tests/engine/test_replay.py",  # the recorder depends on how torch dispatches
    "tests/engine/test_state.py",
    "tests/engine/test_train.py",
    "tests/engine/test_whole_runs.py",  # runs and stacks against plain loops
    "tests/sweeps/test_get_or_train.py",  # sweeps, failures, resuming
    "tests/sweeps/test_checkpoints.py",
    "tests/export",  # export and load
    "tests/plugins/test_own_norm.py",
    "tests/commands/test_own_tables.py",
    "tests/test_no_code.py",  # torch.load refuses code
)
PACKAGES = ("torch", "torchvision")


class Outcome(NamedTuple):
    """A line of the table."""

    which: str
    versions: str
    passed: int
    failed: int
    skipped: int
    failures: tuple[str, ...]


def wanted(which: str) -> list[str]:
    """The requirements on torch and torchvision for pip.

    The oldest are those that pyproject.toml names: torch>=2.6 becomes torch==2.6.*.
    """
    if which == "newest":
        return ["--upgrade", *PACKAGES]
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    found = dict(re.match(r"([\w-]+)>=([\d.]+)", need).groups() for need in needs if need.startswith("torch"))
    return [f"{name}=={found[name]}.*" for name in PACKAGES]


def environment(which: str, folder: Path) -> Path:
    """The Python of an environment; it is made if it is not there.

    Raises:
        subprocess.CalledProcessError: pip cannot install what is needed.
    """
    python = folder / which / "bin" / "python"
    ready = folder / which / ".ready"
    if not ready.exists():
        venv.create(folder / which, with_pip=True, clear=True)
        words = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        packages = ["--editable", f"{ROOT}[pandas,timm]", *wanted(which), "pytest>=8"]
        subprocess.run([*words, *packages], check=True)
        ready.touch()
    return python


def test(which: str, python: Path, folder: Path) -> Outcome:
    """Run the tests in an environment."""
    report = folder / f"{which}.xml"
    report.unlink(missing_ok=True)
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [python, "-m", "pytest", "-q", "-m", "not slow and not gpu", "-p", "no:cacheprovider",
         f"--junitxml={report}", *TESTS],
        cwd=ROOT, check=False, env={"OMP_NUM_THREADS": "1", **given, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    if not report.exists():
        return Outcome(which, versions(python), 0, 1, 0, ("pytest itself failed",))
    cases = list(ET.parse(report).getroot().iter("testcase"))
    broken = [case for case in cases if {child.tag for child in case} & {"failure", "error"}]
    skipped = sum(child.tag == "skipped" for case in cases for child in case)
    names = tuple(f"{case.get('classname')}::{case.get('name')}" for case in broken)
    return Outcome(which, versions(python), len(cases) - len(broken) - skipped, len(broken), skipped, names)


def versions(python: Path) -> str:
    """What an environment has."""
    code = (
        "import platform, numpy, torch, torchvision; print(f'Python {platform.python_version()}, torch "
        "{torch.__version__}, torchvision {torchvision.__version__}, numpy {numpy.__version__}')"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or f"not usable: {done.stderr.strip().splitlines()[-1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("which", nargs="*", help="oldest, newest (default: both)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "versions")
    args = parser.parse_args()
    which = args.which or ["oldest", "newest"]
    if unknown := {*which} - {"oldest", "newest"}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are oldest and newest")
    outcomes = []
    for each in which:
        try:
            python = environment(each, args.folder)
        except subprocess.CalledProcessError:
            outcomes.append(Outcome(each, "could not be installed, see above", 0, 1, 0, ()))
        else:
            outcomes.append(test(each, python, args.folder))
    print(f"\n{'':8}{'passed':>7}{'failed':>7}{'skipped':>8}  versions")
    for outcome in outcomes:
        numbers = f"{outcome.passed:>7}{outcome.failed:>7}{outcome.skipped:>8}"
        print(f"{outcome.which:8}{numbers}  {outcome.versions}")
        for name in outcome.failures:
            print(f"{'':8}failed  {name}")
    return int(any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
