"""The protocol of schedulers: what tells Slurm and processes of this machine apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from normbench.sweeps.executors.job import PackJob
from normbench.sweeps.executors.ledger import Submission

#: States of a job. A job without a state has ended.
WAITING, RUNNING, CANCELLED = "waiting", "running", "cancelled"

#: Job → its state: the name of its submission and its number there.
States = Mapping[tuple[str, int], str]


class QueueFull(Exception):
    """The scheduler takes no more jobs of this user now."""


class Queue(Protocol):
    """Takes jobs, and says how they are.

    Attributes:
        together: whether it takes any number of jobs in one submission.
    """

    together: bool

    def submit(self, submission: Submission, jobs: Sequence[PackJob], folder: Path) -> Submission:
        """Submit jobs through submitit, whose files go to the folder. Return what the ledger must keep.

        Raises:
            QueueFull:  nothing was submitted, because of a limit.
            RunFailure: nothing was submitted; the message is that of the scheduler.
        """

    def states(self, submissions: Sequence[Submission]) -> States | None:
        """The states of all jobs that have not ended; None if the scheduler does not answer now."""

    def ending(self, submissions: Sequence[Submission], pids: Sequence[int]) -> list[str]:
        """The command that ends jobs, after a checkpoint; empty if there are none to end.

        Args:
            submissions: all of whose jobs are meant.
            pids:        of the processes of these jobs, as far as they have begun.
        """
