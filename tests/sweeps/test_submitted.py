"""Jobs that live on without the command: submitted, followed, found again, tried again and given up."""

from __future__ import annotations

import signal
from itertools import pairwise

import pytest

from normbench import events
from normbench.errors import RunFailure, StoreFailure
from normbench.executor_spec import ExecutorSpec
from normbench.record import COMPLETE, Record
from normbench.store import Store
from normbench.sweeps.command import NOBODY
from normbench.sweeps.executors import submitted as module
from normbench.sweeps.executors.event_lines import BROKEN, DONE, FULL, STOPPED, Began, End, line
from normbench.sweeps.executors.ledger import Ledger
from normbench.sweeps.executors.protocol import TRAIN, Task
from normbench.sweeps.executors.queues import CANCELLED, RUNNING, WAITING, QueueFull
from normbench.sweeps.executors.submitted import Submitted
from normbench.sweeps.plan import Pack
from normbench.sweeps.stopping import ON_ERROR, STOP, Stopped

WORDS = ("model=mlp", "steps=2", "seed=range(5)", "eval.statistics=[running]")


class Scheduler:
    """Stands for a cluster. A test says in `plays` what jobs do, one entry per job in order of submission;
    the last entry holds for all further ones.

    submissions: runs per job, per submission.
    alive:       jobs that have not ended.
    most:        largest number of jobs that were alive at the same time.
    """

    together = True

    def __init__(self):
        self.plays, self.submissions, self.alive, self.most = [finish], [], {}, 0
        self.full, self.ended, self.started = 0, [], 0

    def submit(self, submission, jobs, folder):
        if self.full:
            self.full -= 1
            raise QueueFull("QOSMaxSubmitJobPerUserLimit")
        assert (folder / "submission.json").exists(), "the ledger must know of jobs before they exist"
        self.submissions.append([job.order.pack.signatures for job in jobs])
        for number, job in enumerate(jobs):
            self.alive[submission.name, number] = [WAITING, job]
        self.most = max(self.most, len(self.alive))
        return submission

    def states(self, submissions):
        names = {submission.name for submission in submissions}
        return {key: state for key, (state, _) in self.alive.items() if key[0] in names}

    def ending(self, submissions, pids):
        self.ended.append([submission.name for submission in submissions])
        return []

    def tick(self, seconds):
        """Time passes: the job that has waited longest does something."""
        for key, (state, job) in list(self.alive.items()):
            if state == WAITING:
                play = self.plays[min(self.started, len(self.plays) - 1)]
                self.started += 1
                self.alive[key][0] = play(job) or CANCELLED
                if self.alive[key][0] != RUNNING and play is not cancelled:
                    del self.alive[key]
                return


def say(job, *messages):
    with job.events.open("a") as stream:
        stream.writelines(map(line, messages))


def finish(job):
    say(job, Began("node", 7))
    for spec in job.order.pack.specs:
        record = Record(
            spec.signature, spec.model_dump(mode="json"), COMPLETE, {"test_error": 0.1}, {}, {}, {}
        )
        job.order.store.put(record)
        say(job, events.RunEnded(record))
    say(job, End(DONE))


def die(job):
    say(job, Began("node", 7))


def die_early(job):
    pass


def stop(job):
    say(job, Began("node", 7), events.StackPaused(job.order.pack.signatures, 40), End(STOPPED))


def break_down(job):
    say(job, Began("node", 7), End(BROKEN, "KeyError: 'x'"))


def fill_disk(job):
    say(job, End(FULL, "no space left"))


def cancelled(job):
    return CANCELLED


def go_on(job):
    say(job, Began("node", 7))
    return RUNNING


@pytest.fixture
def scheduler(monkeypatch):
    made = Scheduler()
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    monkeypatch.setattr(module.time, "sleep", made.tick)
    yield made
    STOP.signal, STOP.pulse.wanted = None, False


@pytest.fixture
def packs(make_sweep):
    return [Pack((each.spec,)) for each in make_sweep(*WORDS)]


@pytest.fixture
def work(scheduler, tmp_path):
    """A function that lets a new command work on packs; it returns the events."""

    def run(packs, **options):
        said = []
        task = Task(TRAIN, Store(tmp_path), NOBODY, None, None)
        spec = ExecutorSpec(name="slurm", **{"max_jobs": 100} | options)
        Submitted(spec, tmp_path, scheduler).work(packs, task, said.append)
        return said

    return run


def ended(said):
    return sorted(event.record.signature for event in said if isinstance(event, events.RunEnded))


def test_every_stack_is_one_job_of_one_submission_and_nothing_stays(work, scheduler, packs, tmp_path):
    assert ended(work(packs)) == sorted(s for pack in packs for s in pack.signatures)
    assert scheduler.submissions == [[pack.signatures for pack in packs]]
    assert not (tmp_path / "jobs").exists()


def test_no_more_jobs_than_max_jobs_are_alive_and_the_others_follow(work, scheduler, packs):
    assert len(ended(work(packs, max_jobs=2))) == 5
    assert scheduler.most == 2
    assert sum(map(len, scheduler.submissions)) == 5


def test_a_full_scheduler_is_asked_again(work, scheduler, packs):
    scheduler.full = 2
    said = work(packs)
    assert len(ended(said)) == 5
    assert [e.text for e in said if isinstance(e, events.Notice)] == [
        "the scheduler takes no more jobs now (QOSMaxSubmitJobPerUserLimit); trying again"
    ]


def test_a_pack_whose_job_dies_is_halved_and_a_lone_run_is_given_up_after_a_second_death(
    work, scheduler, packs, tmp_path
):
    scheduler.plays = [die, finish, die, die]
    pair = Pack((packs[0].specs[0], packs[1].specs[0]))
    said = work([pair])
    assert [e.then for e in said if isinstance(e, events.StackSplit)] == [
        "its runs continue in smaller stacks", "it is tried again",
    ]  # fmt: skip
    assert [e.record.status for e in said if isinstance(e, events.RunEnded)] == ["complete", "failed"]
    failed = said[-1].record
    assert "its job ended without a word; see" in failed.provenance["error"]
    assert failed.provenance["attempts"] == 2


def test_a_job_that_breaks_says_why(work, scheduler, packs):
    scheduler.plays = [break_down, finish]
    said = work(packs[:1])
    assert [e.reason for e in said if isinstance(e, events.StackSplit)] == ["KeyError: 'x'"]
    assert len(ended(said)) == 1


def test_a_job_that_was_stopped_is_submitted_again_without_blame(work, scheduler, packs):
    scheduler.plays = [stop, stop, stop, finish]
    said = work(packs[:1])
    assert not [e for e in said if isinstance(e, (events.StackSplit, events.StackPaused))]
    assert said[0].text == "a job has stopped at step 40; its runs go on from there"
    assert len(ended(said)) == 1


def test_jobs_that_end_before_they_begin_end_the_command_and_blame_no_run(work, scheduler, packs, tmp_path):
    scheduler.plays = [die_early]
    with pytest.raises(RunFailure, match=r"no job can begin; the reason stands in the logs in .*jobs/nb-"):
        work(packs[:1])
    assert list(Store(tmp_path).records()) == []


def test_a_full_disk_ends_the_command(work, scheduler, packs):
    scheduler.plays = [fill_disk]
    with pytest.raises(StoreFailure, match="no space left"):
        work(packs[:1])


def test_cancelled_jobs_are_not_submitted_again_by_this_command(work, scheduler, packs):
    scheduler.plays = [cancelled, finish]
    with pytest.raises(RunFailure, match="1 run without a result: somebody has cancelled the jobs"):
        work(packs[:2])
    assert len(scheduler.submissions) == 1


def test_a_command_finds_the_jobs_of_a_killed_one_and_submits_only_what_is_missing(
    work, scheduler, packs, monkeypatch
):
    def killed(seconds):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module.time, "sleep", killed)
        work(packs[1:3])
    wide = Pack(tuple(pack.specs[0] for pack in packs))  # the next command packs in another way
    said = work([wide])
    assert said[0].text == "2 runs in jobs that an earlier command has submitted"
    jobs = [set(job) for submission in scheduler.submissions for job in submission]
    assert all(not one & other for one, other in pairwise(jobs))
    assert [len(job) for job in jobs] == [1, 1, 3]
    assert len(ended(said)) == 5


def test_a_result_whose_event_was_lost_is_found_in_the_store(work, scheduler, packs):
    def lose(job):
        finish(job)
        job.events.unlink()

    scheduler.plays = [lose]
    [event] = work(packs[:1])
    assert isinstance(event, events.RunEndedElsewhere)


def test_jobs_go_on_if_the_command_is_asked_to_stop_and_end_if_a_run_failed(work, scheduler, packs, tmp_path):
    for number, ends in ((signal.SIGTERM, False), (ON_ERROR, True)):
        scheduler.plays, scheduler.ended, scheduler.started = [go_on], [], 0
        ticks = []

        def tick(seconds, number=number, ticks=ticks):
            ticks.append(seconds)
            scheduler.tick(seconds)
            STOP.ask(number) if len(ticks) == 3 else None
            if len(ticks) == 6:
                scheduler.alive.clear()

        module.time.sleep = tick
        with pytest.raises(Stopped):
            work(packs[:2])
        assert (len(scheduler.ended) > 1) == ends
        assert (len(ticks) > 3) == ends, "a command that is stopped does not wait for its jobs"
        STOP.signal = None
        scheduler.alive.clear()
        for submission in Ledger(tmp_path).read():
            Ledger(tmp_path).remove(submission)


def test_the_lock_of_a_process_that_has_ended_holds_nobody_up(tmp_path):
    from normbench import leases, processes

    ledger = Ledger(tmp_path)
    gone = processes.this_process()._replace(pid=2**22 + 1)
    leases.take(ledger.folder / "submitting.json", leases.Lease(holder=gone))
    with ledger.locked():
        assert leases.read(ledger.folder / "submitting.json").lease.holder == processes.this_process()
    assert not (ledger.folder / "submitting.json").exists()


@pytest.mark.parametrize(
    ("name", "packs"), [("nb-3", "[]"), ("nb-2", '[["../../x"]]'), ("nb-2", "3"), ("nb-2", '[["a"]')]
)
def test_a_submission_that_cannot_be_read_or_lies_is_left_out(name, packs, tmp_path):
    folder = tmp_path / "jobs" / "nb-2"
    folder.mkdir(parents=True)
    good = '{"name": "nb-2", "executor": "slurm", "task": "train", "packs": [["0123456789abcdef"]]}'
    file = folder / "submission.json"
    file.write_text(good)
    assert len(Ledger(tmp_path).read()) == 1
    file.write_text(f'{{"name": "{name}", "executor": "slurm", "task": "train", "packs": {packs}}}')
    assert Ledger(tmp_path).read() == []
