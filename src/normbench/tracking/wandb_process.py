"""A process of our own for all that calls wandb. Whatever wandb does there cannot hurt the command.

The process has its own session, so that no Ctrl-C of a terminal reaches it. What wandb, wandb-core and their
libraries print goes to `<root>/wandb/normbench.log`. The process ends with the command, also if the command
is killed: its input closes then.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock, Timer
from typing import Any, BinaryIO, cast

from normbench.errors import NormbenchError
from normbench.tracking.wandb_core import kill_tree

#: Gets a function that says one line to the user; returns the object whose methods are called.
Make = Callable[[Callable[[str], None]], Any]

LOG = "normbench.log"
END_S = 5.0  # that the process may take to end wandb-core
_START = "import sys; sys.path[:] = {path!r}; from normbench.tracking.wandb_child import main; main()"


class ProcessGone(NormbenchError):
    """The process died, or was ended because it did not answer in time."""


class WandbProcess:
    """An object in a process of its own. It starts with the first call.

    Args:
        make:   makes the object there; it is pickled.
        root:   the results folder.
        notice: called with each line that the object says to the user, on the thread of the call.
    """

    def __init__(self, make: Make, root: Path, notice: Callable[[str], None]) -> None:
        self._make, self._root, self._notice = make, root, notice
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()  # guards start and kill
        self._killed = False

    def call(self, method: str, *arguments: Any, limit_s: float | None = None) -> Any:
        """Call a method of the object and return its result.

        Args:
            limit_s: seconds; a process that takes longer is killed.

        Raises:
            ProcessGone: the process died, was killed, or cannot start.
            Exception: what the method raised.
        """
        message = pickle.dumps((method, arguments))
        process = self._started()
        watch = None if limit_s is None else Timer(limit_s, self.kill)
        if watch is not None:
            watch.daemon = True
            watch.start()
        try:
            _send(process, message)
            notices, result, error = _receive(process)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            raise ProcessGone(self._why(process)) from None
        finally:
            if watch is not None:
                watch.cancel()
        for text in notices:
            self._notice(text)
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """End the process, and wandb-core with it. Takes about END_S seconds at most."""
        process = self._process
        if process is None:
            return
        if not self._killed:
            with suppress(OSError, ValueError):
                _send(process, pickle.dumps(None))
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.kill()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):  # what was not sent
                cast(BinaryIO, stream).close()

    def kill(self) -> None:
        """Kill the process and wandb-core at once, also if they are stopped."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                kill_tree(self._process.pid)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(END_S)

    def _started(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._killed:
                raise ProcessGone("the process for wandb was ended")
            if self._process is None:
                try:
                    self._process = self._start()
                except OSError as error:
                    raise ProcessGone(f"no process for wandb can start: {error.strerror or error}") from None
            return self._process

    def _start(self) -> subprocess.Popen[bytes]:
        make = pickle.dumps(self._make)
        with self._open_log() as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _START.format(path=[str(place) for place in sys.path])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        with suppress(OSError):  # the first answer says it
            _send(process, make)
        return process

    def _open_log(self) -> BinaryIO:
        folder = self._root / "wandb"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return (folder / LOG).open("ab")
        except OSError:  # the disk is full, or read-only
            return Path(os.devnull).open("wb")

    def _why(self, process: subprocess.Popen[bytes]) -> str:
        if self._killed:
            return "wandb did not answer in time"
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        self.kill()  # wandb-core may be left
        log = self._root / "wandb" / LOG
        return f"the process for wandb died (exit code {process.returncode}); see {log}"


def _send(process: subprocess.Popen[bytes], message: bytes) -> None:
    stream = cast(BinaryIO, process.stdin)
    stream.write(message)
    stream.flush()


def _receive(process: subprocess.Popen[bytes]) -> Any:
    return pickle.load(cast(BinaryIO, process.stdout))
