"""Memory that a step frees is not fetched anew from the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from normbench.engine.freed_memory import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
before = 0
for number in range(60):
    if number == 30:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    made = [torch.zeros(2**21 + 1000 * k) for k in range(12)]
    del made
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_step_does_not_get_its_memory_page_by_page():
    faults = {
        keep: int(subprocess.check_output([sys.executable, "-c", PROGRAM.format(keep=keep)], text=True))
        for keep in (False, True)
    }
    assert 10 * faults[True] < faults[False], faults
