"""An object for a `WandbProcess` that does what wandb does on a bad day. The process imports this module."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


class Patient:
    """Answers, prints, raises, hangs, dies, or starts a false wandb-core.

    Args:
        folder: for the program of the false wandb-core.
        notice: called with one line for the user.
    """

    def __init__(self, folder: Path, notice: Callable[[str], None]) -> None:
        self._folder, self._notice = folder, notice

    def echo(self, word: str) -> tuple[str, int]:
        self._notice(f"heard {word}")
        return word, os.getpid()

    def shout(self) -> None:
        print("panic on stdout", flush=True)
        os.write(2, b"panic on stderr\n")

    def fail(self) -> None:
        raise ConnectionResetError("Connection lost\nand more")

    def hang(self) -> None:
        time.sleep(600)

    def die(self) -> None:
        os._exit(7)

    def start_core(self, stopped: bool = True) -> int:
        """Start a false wandb-core in a session of its own. Its teardown waits for it without end."""
        program = self._folder / "wandb-core"
        shutil.copy(str(shutil.which("sleep")), program)
        core = subprocess.Popen([str(program), "600"], start_new_session=True)
        if stopped:
            core.send_signal(signal.SIGSTOP)
        wandb = ModuleType("wandb")
        wandb.teardown = core.wait  # type: ignore[attr-defined]
        sys.modules["wandb"] = wandb
        return core.pid
