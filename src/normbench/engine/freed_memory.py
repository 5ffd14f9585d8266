"""How the memory that a step frees is kept for the next step, on a CPU."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

#: mallopt's settings in glibc: its number, then bytes. From 32 MiB on, a block has its own mapping. Up to 256
#: MiB of free memory at the end of the heap are kept. The heap grows by 64 MiB at a time.
_SETTINGS = {"M_MMAP_THRESHOLD": (-3, 2**25), "M_TRIM_THRESHOLD": (-1, 2**28), "M_TOP_PAD": (-2, 2**26)}


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep memory that is freed, as far as it is glibc. Returns whether it does.

    By default, glibc gives large blocks back to the system. Every step of a convolutional network then gets
    them anew, page by page.

    Reference: mallopt(3).
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*setting) == 1 for setting in _SETTINGS.values())
