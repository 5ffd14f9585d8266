"""Checks of the machine: data, places to write, disk, memory, cores, shared memory, open files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from normbench.commands.doctor_check import FAIL, OK, WARN, check

#: Bytes below which disk, memory or shared memory is a warning.
_LITTLE_DISK, _NO_DISK = 2**30, 50 * 2**20
_LITTLE_MEMORY, _LITTLE_SHARED = 2**30, 256 * 2**20
#: Open files below which many workers may not start.
_FEW_FILES = 256


@check("data")
def data() -> tuple[str, ...]:
    """Data sets whose files are there. `digits` comes with scikit-learn."""
    from normbench.data import published
    from normbench.data.presence import missing

    given = os.environ.get("NORMBENCH_DATA")
    root = published.root(given)
    there = [name for name in published.FILES if not missing({"name": name, "root": given})]
    where = f"under {root}" + ("" if given else " (NORMBENCH_DATA is not set)")
    if there:
        return OK, f"digits, {', '.join(there)} {where}"
    if given and not root.is_dir():
        return (
            WARN,
            f"digits; NORMBENCH_DATA={given} is no folder",
            "set it to the folder that holds MNIST/raw",
        )
    return (
        WARN,
        f"digits; nothing else {where}",
        "set NORMBENCH_DATA to your data, or let data=mnist download them (data.download=true)",
    )


@check("results")
def results() -> tuple[str, ...]:
    from normbench.errors import InputError
    from normbench.store import Store

    store = Store.default()
    try:
        store.check_writable()
    except InputError as error:
        found, _, fix = str(error).rpartition("; ")
        return FAIL, found, fix
    count = sum(1 for _ in (store.root / "runs").glob("*/*/record.json"))
    return OK, f"{store.root.absolute()} can be written; {count:,} records"


@check("cache")
def cache() -> tuple[str, ...]:
    from normbench.files import try_writing
    from normbench.store import Store

    folder = Store.default().root / "cache"
    try:
        try_writing(folder)
    except OSError as error:
        return (
            FAIL,
            f"{folder} cannot be written: {error.strerror or error}",
            "make it writable, or remove it",
        )
    return OK, f"{folder} can be written"


@check("disk")
def disk() -> tuple[str, ...]:
    from normbench.phrases import sized
    from normbench.store import Store

    folder = Store.default().root.absolute()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(nearest).free
    fix = "free space, give another NORMBENCH_RESULTS, or keep no final states: keep_weights=false"
    if free < _LITTLE_DISK:
        return (FAIL if free < _NO_DISK else WARN), f"{sized(free)} free for results", fix
    return OK, f"{sized(free)} free for results"


@check("memory")
def memory() -> tuple[str, ...]:
    from normbench.memory import free_bytes
    from normbench.phrases import sized

    free = free_bytes()
    if free < _LITTLE_MEMORY:
        return WARN, f"{sized(free)} free", "use engine.processes=1, and close other programs"
    return OK, f"{sized(free)} free"


@check("cores")
def cores() -> tuple[str, ...]:
    from normbench.autotune.cores import cores as count
    from normbench.phrases import counted

    return OK, f"{counted(count(), 'core')} for this process"


@check("shared memory")
def shared_memory() -> tuple[str, ...]:
    """Worker processes read the data from it."""
    from normbench.phrases import sized

    place = Path("/dev/shm")
    if not place.is_dir():
        return OK, "no /dev/shm on this system"
    free = shutil.disk_usage(place).free
    if free < _LITTLE_SHARED:
        return WARN, f"{sized(free)} free in /dev/shm", "docker run --shm-size=2g, or engine.processes=1"
    return OK, f"{sized(free)} free in /dev/shm"


@check("open files")
def open_files() -> tuple[str, ...]:
    try:
        import resource
    except ImportError:
        return OK, "no limit on this system"
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < _FEW_FILES:
        return WARN, f"at most {most}", "ulimit -n 1024, or engine.processes=1"
    return OK, "no limit" if most == resource.RLIM_INFINITY else f"at most {most:,}"


MACHINE = (data, results, cache, disk, memory, cores, shared_memory, open_files)
