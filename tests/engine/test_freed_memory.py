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
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for size in range(4, 31):  # MiB; by default glibc maps a block that is larger than all before anew
    torch.zeros(size * 2**18)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_step_does_not_get_its_memory_page_by_page():
    faults = {
        keep: int(subprocess.check_output([sys.executable, "-c", PROGRAM.format(keep=keep)], text=True))
        for keep in (False, True)
    }
    if faults[False] < 10_000:
        pytest.skip("this system gives memory in large pages")
    assert 3 * faults[True] < faults[False], faults
