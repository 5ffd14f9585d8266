"""wandb-core, the process that wandb starts: how to end it within a limited time, even if it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

NAME = "wandb-core"
TEARDOWN_S = 4.0  # that wandb-core may take to end by itself


def end_wandb() -> None:
    """Tear wandb down, in TEARDOWN_S seconds at most. Its own teardown waits for wandb-core without end."""
    if (wandb := sys.modules.get("wandb")) is None:
        return

    def teardown() -> None:
        with suppress(Exception, SystemExit):  # it exits if its process has failed
            wandb.teardown()

    thread = Thread(target=teardown, daemon=True)
    thread.start()
    thread.join(TEARDOWN_S)
    if thread.is_alive():
        kill_children()
        thread.join(TEARDOWN_S)


def kill_children() -> None:
    """Kill every wandb-core that this process started."""
    for pid in descendants(os.getpid()):
        if NAME in command_of(pid):
            _kill(pid)


def kill_tree(pid: int) -> None:
    """Kill a process and all that it started. SIGKILL also ends a process that is stopped."""
    below = descendants(pid)
    for each in (pid, *below):
        _kill(each)


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    parents = _parents()
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def command_of(pid: int) -> str:
    """The name of the program of a process; empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return _ps("-o", "comm=", "-p", str(pid)).strip()


def _parents() -> dict[int, int]:
    """Process → its parent, of all processes that can be seen."""
    found: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            after_name = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
            found[int(entry.name)] = int(after_name.split()[1])
    if not found:  # no /proc, such as on macOS
        for line in _ps("-A", "-o", "pid=,ppid=").splitlines():
            with suppress(ValueError):
                child, parent = map(int, line.split())
                found[child] = parent
    return found


def _ps(*words: str) -> str:
    try:
        said = subprocess.run(["ps", *words], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.decode("utf-8", "replace")


def _kill(pid: int) -> None:
    with suppress(OSError):
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
