"""The process that calls wandb: it makes one object, and calls its methods as the parent asks."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

from normbench.tracking.wandb_core import end_wandb, kill_children


def main() -> None:
    """Read the object and calls from stdin, and write answers to stdout; never returns.

    Before anything else, file descriptors 0 and 1 are given to the null device and to the log, because
    wandb or wandb-core could read or write there.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when tracking ends
    calls = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    serve(calls, answers)
    end_wandb()
    _leave(0)


def serve(calls: BinaryIO, answers: BinaryIO) -> None:
    """Answer calls until the parent ends them. An answer is (notices, result, error)."""
    notices: list[str] = []
    waiting: SimpleQueue[Any] = SimpleQueue()
    make = pickle.load(calls)
    Thread(target=_read, args=(calls, waiting), daemon=True).start()
    target = make(notices.append)
    while (call := waiting.get()) is not None:
        method, arguments = call
        result, error = None, None
        try:
            result = getattr(target, method)(*arguments)
        except Exception as raised:
            error = portable(raised)
        pickle.dump((notices, result, error), answers)
        answers.flush()
        notices.clear()


def _read(calls: BinaryIO, waiting: SimpleQueue[Any]) -> None:
    """Pass calls on. If the parent is gone, leave at once, whatever wandb is doing."""
    try:
        while True:
            call = pickle.load(calls)
            waiting.put(call)
            if call is None:
                return
    except BaseException:  # the input ended, perhaps within a call
        kill_children()
        _leave(1)


def portable(error: Exception) -> Exception:
    """The error if it was raised on purpose, else its text: not every error can be sent to the parent."""
    from normbench.errors import NormbenchError, RunFailure
    from normbench.tracking.wandb_setup import cause

    return error if isinstance(error, NormbenchError) else RunFailure(cause(error))


def _leave(code: int) -> None:
    """End now: threads and exit hooks of wandb are not waited for."""
    with suppress(Exception):
        sys.stderr.flush()
    os._exit(code)
