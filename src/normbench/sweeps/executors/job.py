"""The work of a submitted job: one pack. submitit calls it, and pickles it again if it is preempted.

A signal asks training to stop. Training writes a checkpoint after the present step. Then the job is
requeued, and goes on from the checkpoint, if the signal was that of submitit (SIGUSR2, before the time is
over), or if it was SIGTERM and Slurm says that it preempts the job. Otherwise somebody has cancelled the job,
and it ends.
"""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from normbench.errors import NormbenchError, StoreFailure, reason
from normbench.events import Event
from normbench.parts import Plugin
from normbench.plugins import loading
from normbench.sweeps.executors.event_lines import BROKEN, DONE, FULL, STOPPED, Began, End, line
from normbench.sweeps.executors.protocol import Order
from normbench.sweeps.stopping import STOP, Stopped

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

#: Seconds to wait for the signal that requeues, after SIGTERM: Slurm may send SIGTERM first.
SECOND_SIGNAL_S = 2.0


@dataclass(frozen=True)
class PackJob:
    """The work on one pack as a job.

    Attributes:
        order:   the work; it loads its own data.
        events:  the file that gets the events.
        plugins: that the work needs.
        threads: of the stack; None: as many as it can use of the cores of the job.
    """

    order: Order
    events: Path
    plugins: Sequence[Plugin] = ()
    threads: int | None = None

    def __call__(self) -> None:
        """Do the work, and write down how it ended."""
        requeue, heard = _listen()
        log = _Log(self.events)
        log(Began(platform.node() or "localhost", os.getpid()))
        try:
            with STOP.while_training():
                loading.again(self.plugins)
                self._set_threads()
                self.order(log)
        except Stopped:
            log(End(STOPPED))
            _wait_for(requeue_signal(), heard)
            if requeue is not None and (requeue_signal() in heard or is_preempted()):
                requeue(requeue_signal(), None)  # submitit calls `checkpoint`, requeues, and exits
            sys.exit(128 + (STOP.signal or 0))
        except StoreFailure as failure:
            log(End(FULL, str(failure)))
            raise
        except Exception as error:
            log(End(BROKEN, reason(error)))
            if isinstance(error, NormbenchError):
                sys.exit(error.exit_code)
            raise
        log(End(DONE))

    def _set_threads(self) -> None:
        import torch

        from normbench.autotune.cores import thread_count

        usable = thread_count(self.order.pack.specs[0])
        given = int(os.environ.get("SLURM_CPUS_ON_NODE", usable))
        torch.set_num_threads(max(1, min(usable, given)) if self.threads is None else self.threads)

    def checkpoint(self) -> DelayedSubmission:
        """What submitit requeues: the same job. Its runs have checkpoints in the store."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class _Log:
    """Appends events to a file; each is one write, so that no reader sees two halves in disorder."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def __call__(self, message: Event | Began | End) -> None:
        try:
            os.write(self._descriptor, line(message).encode())
        except OSError as error:  # an error of reporting is none of the run: the record is in the store
            print(f"events are lost: {error}", file=sys.stderr)


def requeue_signal() -> int:
    """The signal by which submitit requeues a job."""
    return int(getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"))


def is_preempted() -> bool:
    """Whether Slurm wants the place of this job for another one. It does not requeue jobs that just end."""
    number = os.environ.get("SLURM_JOB_ID", "")
    command = ["scontrol", "show", "job", number]
    try:
        said = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(number) and re.search(r"\bPreemptTime=(?!None\b)\S", said) is not None


def _listen() -> tuple[Callable[[int, Any], None] | None, set[int]]:
    """Let signals ask training to stop. Return submitit's handler, and the set that collects the signals."""
    heard: set[int] = set()

    def hear(number: int, frame: FrameType | None) -> None:
        heard.add(number)
        STOP.ask(number)

    STOP.signal = None
    before = signal.getsignal(requeue_signal())
    for number in (signal.SIGTERM, requeue_signal()):
        signal.signal(number, hear)
    return before if callable(before) else None, heard


def _wait_for(number: int, heard: set[int]) -> None:
    end = time.monotonic() + SECOND_SIGNAL_S
    while number not in heard and time.monotonic() < end:
        time.sleep(0.1)
