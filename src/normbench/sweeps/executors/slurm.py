"""Slurm as a queue: submitit submits and requeues, squeue tells the states.

squeue and not submitit's sacct: a small cluster often keeps no accounts, and then sacct knows nothing.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from normbench.errors import RunFailure
from normbench.executor_spec import ExecutorSpec
from normbench.sweeps.executors.job import PackJob
from normbench.sweeps.executors.ledger import Submission
from normbench.sweeps.executors.queues import CANCELLED, RUNNING, WAITING, QueueFull, States

#: Seconds before the end of its time at which a job writes checkpoints and is requeued.
NOTICE_S = 90
#: How often submitit may requeue a job whose time is over. Its runs have an end of their own.
REQUEUES = 1000
#: Parts of Slurm's messages when a user has too many jobs.
_FULL = re.compile(r"submit limit|MaxSubmitJob|QOSMax|job limit", re.IGNORECASE)
_WAITING = (
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
)
_RUNNING = ("RUNNING", "SUSPENDED", "COMPLETING", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT")


class SlurmQueue:
    """Array jobs of a Slurm cluster."""

    together = True

    def __init__(self, spec: ExecutorSpec) -> None:
        self._spec = spec

    def submit(self, submission: Submission, jobs: Sequence[PackJob], folder: Path) -> Submission:
        """See `Queue.submit`."""
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        executor = SlurmExecutor(folder=folder, max_num_timeout=REQUEUES)
        try:
            executor.update_parameters(**options(self._spec, submission.name))
            first, *_ = executor.submit_array(jobs)
        except (FailedJobError, FailedSubmissionError) as error:
            message = _last_line(str(error))
            if _FULL.search(message):
                raise QueueFull(message) from None
            raise RunFailure(f"sbatch refused the jobs: {message}") from None
        return replace(submission, job=first.job_id.partition("_")[0])

    def states(self, submissions: Sequence[Submission]) -> States | None:
        """See `Queue.states`."""
        names = ",".join(submission.name for submission in submissions)
        command = ["squeue", "--noheader", "--array", "--states=all", f"--name={names}", "--format=%j|%K|%T"]
        try:
            done = subprocess.run(
                command, capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return read_states(done.stdout)

    def ending(self, submissions: Sequence[Submission], pids: Sequence[int]) -> list[str]:
        """See `Queue.ending`."""
        jobs = [submission.job for submission in submissions if submission.job]
        return ["scancel", *jobs] if jobs else []


def read_states(listing: str) -> dict[tuple[str, int], str]:
    """The states in the lines of squeue. A job that is no array has the number 0.

    >>> read_states("nb-0|2|PENDING\\nnb-0|1|COMPLETED\\nnb-1|N/A|CANCELLED\\n")
    {('nb-0', 2): 'waiting', ('nb-1', 0): 'cancelled'}
    """
    found = {}
    for row in listing.splitlines():
        name, _, rest = row.strip().partition("|")
        number, _, state = rest.partition("|")
        word = CANCELLED if state == "CANCELLED" else WAITING if state in _WAITING else RUNNING
        if state in (*_WAITING, *_RUNNING, "CANCELLED"):
            found[name, int(number) if number.isdigit() else 0] = word
    return found


def options(spec: ExecutorSpec, name: str) -> dict[str, Any]:
    """The options of sbatch in the words of submitit."""
    found: dict[str, Any] = {
        "job_name": name,
        "time": spec.timeout,
        "partition": spec.partition,
        "account": spec.account,
        "qos": spec.qos,
        "constraint": spec.constraint,
        "gpus_per_node": spec.gpus or None,
        "cpus_per_task": spec.cpus,
        "mem": None if spec.memory is None else f"{round(spec.memory * 1024)}MB",
        "setup": list(spec.setup) or None,
        "signal_delay_s": min(NOTICE_S, 15 * spec.timeout),
        "stderr_to_stdout": True,
        # since 22.05 srun does not take this over from sbatch
        "srun_args": None if spec.cpus is None else [f"--cpus-per-task={spec.cpus}"],
        "additional_parameters": {"requeue": True, **spec.sbatch},
    }
    return {option: value for option, value in found.items() if value is not None}


def _last_line(text: str) -> str:
    lines = [each.strip() for each in text.splitlines() if "error" in each.lower()] or text.splitlines()
    return lines[-1].strip() if lines else "no reason given"
