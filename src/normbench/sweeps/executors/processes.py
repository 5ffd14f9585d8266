"""Processes of this machine as a queue, started by submitit. They live on without the command.

They ignore Ctrl-C and the end of the terminal, because both reach all processes of a terminal. SIGTERM ends
them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from normbench.errors import RunFailure
from normbench.executor_spec import ExecutorSpec
from normbench.processes import Process, has_ended, process
from normbench.sweeps.executors.job import PackJob
from normbench.sweeps.executors.ledger import Submission
from normbench.sweeps.executors.queues import RUNNING, States

#: Seconds in which a command that submits writes down which process it has started.
STARTING_S = 30.0
#: Lines of shell that part a job from the terminal: from its signals, and from a pipe that someone reads.
ON_ITS_OWN = ("trap '' INT HUP", "exec < /dev/null > /dev/null 2>&1")
#: Seconds before the end of its time at which a job writes checkpoints and goes on as another one.
NOTICE_S = 60


class ProcessQueue:
    """Jobs of submitit on this machine. Each is a controller with one process."""

    together = False

    def __init__(self, spec: ExecutorSpec) -> None:
        self._spec = spec
        self._started: list[object] = []  # Python warns of processes that run and that nobody knows

    def submit(self, submission: Submission, jobs: Sequence[PackJob], folder: Path) -> Submission:
        """See `Queue.submit`."""
        from submitit import LocalExecutor

        executor = LocalExecutor(folder=folder, max_num_timeout=1000)
        executor.update_parameters(
            timeout_min=self._spec.timeout,
            signal_delay_s=min(NOTICE_S, 15 * self._spec.timeout),
            gpus_per_node=self._spec.gpus,
            stderr_to_stdout=True,
            setup=[*ON_ITS_OWN, *self._spec.setup],
        )
        try:
            made = executor.submit_array(jobs)
        except OSError as error:
            raise RunFailure(f"no job can be started: {error.strerror or error}") from error
        self._started += made
        return replace(submission, processes=[process(int(job.job_id)) for job in made])

    def states(self, submissions: Sequence[Submission]) -> States:
        """See `Queue.states`."""
        found = {}
        for submission in submissions:
            for number in range(len(submission.packs)):
                if submission.processes:
                    ended = has_ended(Process(*submission.processes[number]))
                else:
                    ended = time.time() - submission.at > STARTING_S
                if not ended:
                    found[submission.name, number] = RUNNING
        return found

    def ending(self, submissions: Sequence[Submission], pids: Sequence[int]) -> list[str]:
        """See `Queue.ending`."""
        return ["kill", *map(str, pids)] if pids else []
