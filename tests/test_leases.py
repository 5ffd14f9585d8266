"""Leases: one holder at a time, whatever the clocks say and whoever was stopped in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from normbench import leases
from normbench.leases import EXPIRES_S, SKEW_S, Lease, Watch
from normbench.leftovers import draft_beside, remove_leftovers
from normbench.processes import Process, has_ended, is_running, this_process

ELSEWHERE = Process("another", "00000000", 4711, "1")


class Clock:
    """Seconds that pass only if a test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def file(tmp_path):
    return tmp_path / "runs" / "ab" / "lease.json"


def held(file, holder=ELSEWHERE):
    """A lease of another process."""
    lease = Lease(holder=holder)
    assert leases.take(file, lease)
    return lease


def dead():
    """A process of this place that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return this_process()._replace(pid=done.pid, started="1")


def test_a_lease_is_taken_once_and_free_after_its_release(file):
    lease = held(file)
    assert not leases.take(file, Lease())
    assert leases.read(file).lease == lease
    leases.release(file, "another token")
    assert leases.holds(file, lease.token)
    leases.release(file, lease.token)
    assert list(file.parent.iterdir()) == []
    assert leases.take(file, Lease())


def test_a_renewal_shows_the_step_and_never_touches_the_lease_of_a_successor(file):
    old = held(file)
    assert leases.renew(file, replace(old, step=7, steps=100))
    assert leases.read(file).lease.step == 7
    leases.remove(file, leases.read(file))
    assert not leases.renew(file, old)
    new = held(file)
    assert not leases.renew(file, replace(old, step=8))
    assert leases.read(file).lease == new
    assert not leases.holds(file, old.token)


def test_a_lease_that_was_renewed_after_it_was_seen_is_not_removed(file):
    lease = held(file)
    seen = leases.read(file)
    leases.renew(file, replace(lease, step=1))
    assert not leases.remove(file, seen)
    assert leases.holds(file, lease.token)


def test_a_live_lease_that_was_moved_by_mistake_is_put_back(file, monkeypatch):
    """Another process removes an expired lease and takes a new one between our last look and our move."""
    held(file, dead())
    seen, rename = leases.read(file), type(file).rename

    def late(self, target):
        monkeypatch.setattr(type(file), "rename", rename)
        self.unlink()
        late.new = held(self)
        return rename(self, target)

    monkeypatch.setattr(type(file), "rename", late)
    assert not leases.remove(file, seen)
    assert leases.holds(file, late.new.token)
    assert [each.name for each in file.parent.iterdir()] == ["lease.json"]


def test_of_many_that_take_over_at_the_same_time_one_wins(file):
    for _ in range(20):
        held(file, dead_process)
        seen, barrier, winners = leases.read(file), threading.Barrier(6), []

        def take_over(seen=seen, barrier=barrier, winners=winners):
            mine = Lease()
            barrier.wait()
            leases.remove(file, seen)
            if leases.take(file, mine):
                winners.append(mine.token)

        threads = [threading.Thread(target=take_over) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        holders = [token for token in winners if leases.holds(file, token)]
        assert len(holders) == 1
        file.unlink()


dead_process = this_process()._replace(pid=2**22 + 1)


def test_the_lease_of_an_ended_process_of_this_machine_has_expired_at_once(file):
    held(file, dead())
    assert Watch().has_expired(file, leases.read(file))


def test_the_lease_of_a_running_process_of_this_machine_has_not(file):
    held(file, this_process())
    assert not Watch().has_expired(file, leases.read(file))


def test_a_number_that_another_process_has_got_since_is_not_the_holder():
    assert is_running(os.getpid())
    assert not has_ended(this_process())
    assert has_ended(this_process()._replace(started="1"))
    assert not has_ended(this_process()._replace(started="1", place="ffffffff"))


@pytest.mark.parametrize("skew", [-300, 0, 300])
def test_a_holder_elsewhere_that_renews_keeps_its_lease_whatever_its_clock_says(file, skew):
    lease, clock = held(file), Clock()
    watch = Watch(clock)
    for step in range(20):
        leases.renew(file, replace(lease, step=step, renewed=time.time() + skew))
        os.utime(file, (time.time() + skew + step, time.time() + skew + step))
        assert not watch.has_expired(file, leases.read(file))
        clock.now += EXPIRES_S - 1


@pytest.mark.parametrize("skew", [-300, 0, 300])
def test_a_holder_elsewhere_that_is_silent_loses_its_lease_by_the_clock_of_the_watcher(file, skew):
    held(file)
    os.utime(file, (time.time() + skew, time.time() + skew))
    clock = Clock()
    watch = Watch(clock)
    assert not watch.has_expired(file, leases.read(file))
    clock.now += EXPIRES_S - 1
    assert not watch.has_expired(file, leases.read(file))
    clock.now += 1
    assert watch.has_expired(file, leases.read(file))


def test_a_lease_that_is_old_beyond_any_skew_has_expired_at_the_first_look(file):
    held(file)
    long_ago = time.time() - EXPIRES_S - SKEW_S - 5
    os.utime(file, (long_ago, long_ago))
    assert Watch().has_expired(file, leases.read(file))
    assert [each.name for each in file.parent.iterdir()] == ["lease.json"]


def test_a_lease_that_cannot_be_read_is_held_until_it_expires(file):
    file.parent.mkdir(parents=True)
    file.write_bytes(b"{")
    clock = Clock()
    watch, seen = Watch(clock), leases.read(file)
    assert seen.lease is None
    assert not watch.has_expired(file, seen)
    clock.now += EXPIRES_S
    assert watch.has_expired(file, leases.read(file))


def test_all_states_of_a_lease_have_one_length():
    lease = Lease(holder=Process("h" * 64, "0" * 8, 2**31, "9" * 20))
    late = replace(lease, step=10**12, steps=10**12, first=10**12, stack=10**4)
    assert len(lease.content()) == len(late.content())
    assert json.loads(late.content())["step"] == 10**12


def test_temporary_files_of_ended_processes_are_removed_and_those_of_running_ones_stay(tmp_path):
    mine = draft_beside(tmp_path / "record.json")
    theirs = tmp_path / mine.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-")
    other = tmp_path / ".hidden"
    for each in (mine, theirs, other):
        each.write_bytes(b"")
    remove_leftovers(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([mine.name, other.name])
