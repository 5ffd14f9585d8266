"""A small sample of the crash suite, always the same: `make test-crash` kills 200 times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "crash.py"


@pytest.mark.parametrize(
    "kills", [pytest.param(5, id="sample"), pytest.param(60, id="more", marks=pytest.mark.slow)]
)
def test_nothing_is_lost_torn_double_or_orphaned_if_processes_are_killed(kills):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(kills)], capture_output=True, text=True, check=False
    )
    assert "0 lost, 0 torn, 0 double, 0 orphaned" in done.stdout, done.stdout + done.stderr
    assert f"{kills} kills in " in done.stdout
    assert done.returncode == 0
