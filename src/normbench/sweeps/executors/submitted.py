"""The executor of jobs that live on without the command: of a cluster, or of this machine.

Every stack is a job. The command submits as many as `executor.max_jobs` allows, and the others when some have
ended. It reads the events that jobs write into the store, so observers see what they see of local work. If it
ends, the jobs go on. The same command finds them again in the ledger and submits only what is missing. Which
process trains a run is decided by leases alone.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from normbench import events
from normbench.autotune.cores import cores
from normbench.errors import RunFailure, StoreFailure
from normbench.executor_spec import ExecutorSpec
from normbench.phrases import counted
from normbench.plugins import loading
from normbench.spec import RunSpec
from normbench.store import Store
from normbench.sweeps.checkpointer import STOPPING
from normbench.sweeps.executors.event_lines import BROKEN, DONE, FULL, STOPPED, EventFile
from normbench.sweeps.executors.followed import Followed
from normbench.sweeps.executors.job import PackJob
from normbench.sweeps.executors.ledger import Ledger, Submission
from normbench.sweeps.executors.protocol import TRAIN, Order, Task
from normbench.sweeps.executors.queues import CANCELLED, Queue, QueueFull, States
from normbench.sweeps.findings import ended_since
from normbench.sweeps.plan import Pack
from normbench.sweeps.pool import STILLBORN, try_again
from normbench.sweeps.stopping import ON_ERROR, STOP
from normbench.sweeps.worker_process import Emit

T = TypeVar("T")

#: Seconds between two readings of events, and between two looks at the queue.
POLL_S, LOOK_S = 1.0, 10.0
#: A job has ended without a word if so many looks in a row did not show it.
UNSEEN = 2


class Submitted:
    """Works through submitted jobs.

    Args:
        spec:  of the executor.
        root:  the folder of the store.
        queue: the scheduler.
    """

    def __init__(self, spec: ExecutorSpec, root: Path, queue: Queue) -> None:
        self._spec, self._queue = spec, queue
        self._ledger, self._root = Ledger(root), root.resolve()
        self._most = cores() if spec.max_jobs == "auto" else spec.max_jobs
        self._jobs: list[Followed] = []
        self._own: set[str] = set()  # names of the submissions of this command
        self._cancelled: dict[str, None] = {}
        self._over: set[tuple[str, int]] = set()  # jobs that have said that they are done
        self._room = True  # whether jobs may have ended since the last submission
        self._stillborn = 0
        self._looked, self._told = -LOOK_S, ""

    def run_on_all(self, job: Callable[[], T]) -> list[T]:
        """See `Executor.run_on_all`: jobs measure nothing, because others wait for their places."""
        return []

    def work(self, packs: Sequence[Pack], task: Task, emit: Emit) -> None:
        """See `Executor.work`. If this process is asked to stop, the jobs go on without it.

        Raises:
            RunFailure: the scheduler refuses the jobs, or a user has cancelled some.
        """
        todo, done = deque(packs), False
        with STOP.while_training():
            while not done and (STOP.signal is None or self._ends_jobs()):
                if todo and self._room and STOP.signal is None:
                    self._submit(todo, task, emit)
                for job in list(self._jobs):
                    self._hear(job, todo, task, emit)
                if time.monotonic() - self._looked >= LOOK_S:
                    self._look(todo, task, emit)
                done = not self._jobs and (not todo or STOP.signal is not None)
                if not done:
                    time.sleep(POLL_S)
        if STOP.signal is not None and self._jobs:
            emit(events.Notice(self._left_behind()))
        STOP.check()
        if self._cancelled:
            raise RunFailure(
                f"{counted(len(self._cancelled), 'run')} without a result: somebody has cancelled the jobs; "
                "the same command submits them again"
            )

    def _submit(self, todo: deque[Pack], task: Task, emit: Emit) -> None:
        """Follow jobs of earlier commands that have runs of ours. Submit other packs, as far as allowed."""
        self._room = False
        with self._ledger.locked():
            earlier = [each for each in self._ledger.read() if each.executor == self._spec.name]
            states = self._queue.states(earlier) if earlier else {}
            if states is None:
                self._say("the scheduler does not answer; trying again", emit)
                return
            self._adopt(earlier, states, todo, task, emit)
            busy = [job for job, state in states.items() if state != CANCELLED and job not in self._over]
            room = max(0, self._most - len(busy))
            while todo and room:
                count = min(room, len(todo)) if self._queue.together else 1
                batch = [todo.popleft() for _ in range(count)]
                room -= count
                try:
                    self._send(batch, task)
                except QueueFull as full:
                    todo.extendleft(reversed(batch))
                    self._say(f"the scheduler takes no more jobs now ({full}); trying again", emit)
                    return

    def _adopt(
        self,
        earlier: Sequence[Submission],
        states: States,
        todo: deque[Pack],
        task: Task,
        emit: Emit,
    ) -> None:
        """Follow the jobs that have runs of ours, and take these out of the packs. Forget what has ended."""
        wanted = {spec.signature: spec for pack in todo for spec in pack.specs}
        followed = {job.key for job in self._jobs}
        taken: dict[str, None] = {}
        for submission in earlier:
            numbers = range(len(submission.packs))
            alive = [n for n in numbers if states.get((submission.name, n), CANCELLED) != CANCELLED]
            if not alive and not any(job.submission.name == submission.name for job in self._jobs):
                self._ledger.forget(submission)
            for number in alive:
                ours = {s: wanted[s] for s in submission.packs[number] if s in wanted and s not in taken}
                if not ours or submission.task != task.name or (submission.name, number) in followed:
                    continue
                taken |= dict.fromkeys(ours)
                self._follow(submission, number, ours, task.store)
        if taken:
            emit(events.Notice(f"{counted(len(taken), 'run')} in jobs that an earlier command has submitted"))
            left = [replace(p, specs=tuple(s for s in p.specs if s.signature not in taken)) for p in todo]
            todo.clear()
            todo.extend(pack for pack in left if pack.specs)

    def _send(self, batch: Sequence[Pack], task: Task) -> None:
        """Submit packs as one submission. The ledger knows of it first."""
        submission = Submission(self._spec.name, task.name, [pack.signatures for pack in batch])
        self._ledger.write(submission)
        store, plugins = Store(self._root), tuple(loading.loaded())
        threads = 1 if self._most > 1 and not self._spec.elsewhere else None
        orders = [Order(task.name, pack, store, task.command.of(pack.signatures)) for pack in batch]
        jobs = [
            PackJob(order, self._ledger.events(submission, number), plugins, threads)
            for number, order in enumerate(orders)
        ]
        try:
            submitted = self._queue.submit(submission, jobs, self._ledger.place(submission))
        except (QueueFull, RunFailure):
            self._ledger.remove(submission)
            raise
        if submitted != submission:
            self._ledger.write(submitted)
        self._own.add(submission.name)
        for number, pack in enumerate(batch):
            specs = {spec.signature: spec for spec in pack.specs}
            self._follow(submitted, number, specs, task.store, pack.attempt)

    def _follow(
        self, submission: Submission, number: int, specs: dict[str, RunSpec], store: Store, attempt: int = 1
    ) -> None:
        file = EventFile(self._ledger.events(submission, number), store)
        self._jobs.append(Followed(submission, number, file, specs, attempt))

    def _hear(self, job: Followed, todo: deque[Pack], task: Task, emit: Emit) -> None:
        """Pass on the news of a job. If it has ended, decide about its open runs."""
        for event in job.news():
            self._stillborn = 0
            if isinstance(event, events.StackPaused):
                emit(events.Notice(f"a job has stopped at step {event.step:,}; its runs go on from there"))
            elif event != STOPPING:
                emit(event)
        if job.end is None or job.end.how == STOPPED:
            return  # a job that was stopped may have been requeued: the queue says it
        if job.end.how == FULL:
            raise StoreFailure(job.end.reason)
        self._drop(job)
        if job.open and job.end.how == BROKEN:
            try_again(job.rest, job.end.reason, todo, emit, task.give_up)
        elif job.open and job.end.how == DONE:
            todo.append(job.rest)

    def _look(self, todo: deque[Pack], task: Task, emit: Emit) -> None:
        """Ask the queue which jobs have ended without a word, or were stopped for good."""
        self._looked, self._room = time.monotonic(), True
        submissions = list({job.submission.name: job.submission for job in self._jobs}.values())
        states = self._queue.states(submissions) if submissions else {}
        if states is None:
            self._say("the scheduler does not answer; trying again", emit)
            return
        for job in list(self._jobs):
            state = states.get(job.key)
            job.unseen = 0 if state not in (None, CANCELLED) else job.unseen + 1
            if job.unseen < UNSEEN:
                continue
            self._drop(job)
            self._take_results(job, task, emit)
            if not job.open:
                continue
            if state == CANCELLED and STOP.signal is None:
                self._cancelled |= dict.fromkeys(job.open)
            elif job.end is not None:  # it was asked to stop, which is no failure of its runs
                todo.append(job.rest)
            elif job.began is None:
                self._bury_stillborn(job)
                todo.append(job.rest)
            else:
                place = self._ledger.place(job.submission)
                try_again(job.rest, f"its job ended without a word; see {place}", todo, emit, task.give_up)

    def _bury_stillborn(self, job: Followed) -> None:
        """Count a job that has ended before it began. Its runs are not blamed.

        Raises:
            RunFailure: too many in a row did.
        """
        self._stillborn += 1
        if self._stillborn >= STILLBORN:
            raise RunFailure(
                f"no job can begin; the reason stands in the logs in {self._ledger.place(job.submission)}"
            )

    def _take_results(self, job: Followed, task: Task, emit: Emit) -> None:
        """Announce runs of a job whose events were lost, if the store has their results."""
        for spec in list(job.open.values()) if task.name == TRAIN else ():
            if (record := ended_since(spec, task.store, task.command.failures)) is not None:
                del job.open[spec.signature]
                emit(events.RunEndedElsewhere(record))

    def _drop(self, job: Followed) -> None:
        """Follow a job no more. After its last one, remove a submission of this command, unless one broke."""
        self._jobs.remove(job)
        self._over.add(job.key)
        self._room = True
        name = job.submission.name
        if job.end is None or job.end.how != DONE:
            self._own.discard(name)  # its log stays for a day
        if name in self._own and not any(each.submission.name == name for each in self._jobs):
            self._ledger.remove(job.submission)

    def _ends_jobs(self) -> bool:
        """Whether the command ends its jobs, because a run failed. It does so here, and waits for them."""
        if STOP.signal != ON_ERROR:
            return False
        own = [job for job in self._jobs if job.submission.name in self._own]
        if command := self._ending(own):
            subprocess.run(command, capture_output=True, timeout=60, check=False)
        return bool(own)

    def _left_behind(self) -> str:
        """What a user must know of jobs that go on."""
        count = counted(len(self._jobs), "job")
        goes = "goes" if count == "1 job" else "go"
        command = self._ending(self._jobs)
        ends = f"; to end {'it' if count == '1 job' else 'them'}: {shlex.join(command)}" if command else ""
        return f"{count} {goes} on without this command, and the same command follows again{ends}"

    def _ending(self, jobs: Sequence[Followed]) -> list[str]:
        submissions = list({job.submission.name: job.submission for job in jobs}.values())
        return self._queue.ending(submissions, [job.began.pid for job in jobs if job.began is not None])

    def _say(self, text: str, emit: Emit) -> None:
        """Announce something once in a row."""
        if text != self._told:
            self._told = text
            emit(events.Notice(text))
