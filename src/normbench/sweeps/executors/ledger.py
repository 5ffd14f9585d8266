"""What commands have submitted, as files in the store: a command that was killed finds its jobs again.

`jobs/<name>/submission.json` is written before the jobs are submitted. The scheduler knows them by this name.
So no instant is left in which jobs exist and nobody can find them. Beside it lie the events of each job,
`<number>.jsonl`, and what submitit writes: the pickled job and its log. The folder is removed after the jobs.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from normbench.exclusive import exclusive
from normbench.files import write_atomically
from normbench.run_folder import writing

#: Seconds between two tries to get the lock.
RETRY_S = 0.5
#: Seconds for which the logs and events of ended jobs stay.
KEPT_S = 86_400.0
_SIGNATURE = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Submission:
    """Jobs that were submitted together.

    Attributes:
        name:     known to the scheduler; nb- and twelve hex digits.
        executor: name of the executor.
        task:     of all of them.
        packs:    signatures of the runs, per job.
        at:       time of submission, in seconds since 1970.
        job:      number of the array job of a cluster; empty until the command has written it down.
        processes: of each job, see `Process`, if processes are the jobs; empty while they are being started.
    """

    executor: str
    task: str
    packs: Sequence[Sequence[str]]
    name: str = field(default_factory=lambda: f"nb-{secrets.token_hex(6)}")
    at: float = field(default_factory=time.time)
    job: str = ""
    processes: Sequence[tuple[str, str, int, str]] = ()


class Ledger:
    """The submissions of a store.

    Args:
        root: the folder of the store.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root.resolve() / "jobs"

    def place(self, submission: Submission) -> Path:
        """The folder of a submission."""
        return self.folder / submission.name

    def events(self, submission: Submission, number: int) -> Path:
        """The file of the events of a job."""
        return self.place(submission) / f"{number}.jsonl"

    def write(self, submission: Submission) -> None:
        """Keep a submission, new or changed.

        Raises:
            StoreFailure: the store cannot be written.
        """
        with writing(self.folder):
            self.place(submission).mkdir(parents=True, exist_ok=True)
            write_atomically(self.place(submission) / "submission.json", json.dumps(asdict(submission)))

    def read(self) -> list[Submission]:
        """All submissions, the oldest one first. Those that cannot be read are left out."""
        found = []
        for file in self.folder.glob("nb-*/submission.json"):
            try:
                tree = json.loads(file.read_bytes())
                submission = Submission(**tree)
                signatures = [each for pack in submission.packs for each in pack]
                if submission.name == file.parent.name and all(map(_SIGNATURE.fullmatch, signatures)):
                    found.append(submission)
            except (OSError, ValueError, TypeError, LookupError, RecursionError):
                continue
        return sorted(found, key=lambda each: each.at)

    def forget(self, submission: Submission) -> None:
        """Remove a submission whose jobs have ended, if no command can still be reading their events."""
        try:
            newest = max(file.stat().st_mtime for file in self.place(submission).iterdir())
        except (OSError, ValueError):
            return
        if time.time() - newest > KEPT_S:
            self.remove(submission)

    def remove(self, submission: Submission) -> None:
        """Forget a submission whose jobs have ended."""
        shutil.rmtree(self.place(submission), ignore_errors=True)
        with suppress(OSError):
            self.folder.rmdir()  # if it was the last one

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else submits meanwhile. A process that has ended, on any machine, does not hold the lock.

        Raises:
            StoreFailure: the store cannot be written.
        """
        return exclusive(self.folder / "submitting.json", lambda: time.sleep(RETRY_S))
