"""The real wandb on a bad day: tracking ends in time, says one line, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from normbench.events import SweepStarted
from normbench.spec import TrackingSpec
from normbench.tracking.wandb_core import command_of, descendants
from normbench.tracking.wandb_runs import CLOSE_TIMEOUT_S, WandbRuns
from wandb_loopback import Server

pytestmark = pytest.mark.slow
LIMIT_S = CLOSE_TIMEOUT_S + 15  # the rest: ending processes, on a busy machine


class Sweep:
    """Two runs that are tracked from start to end, and what was said."""

    def __init__(self, tracking: TrackingSpec, root: Path, make: SimpleNamespace) -> None:
        self.said: list[str] = []
        self.make, self.observer = make, WandbRuns(tracking, root, self.said.append)

    def start(self) -> None:
        self.observer.notify(SweepStarted(2, 0, 1, 200))
        self.observer.notify(self.make.started())
        self.observer.notify(self.make.logged(step=10))

    def end(self) -> None:
        self.observer.notify(self.make.logged(step=20))
        for name in "ab":
            self.observer.notify(self.make.ended(name, test_error=0.5))

    def close(self) -> float:
        """Seconds that closing takes."""
        begin = time.monotonic()
        self.observer.close()
        return time.monotonic() - begin


@pytest.fixture
def sweep(
    distant_server: Server, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Sweep]:  # fmt: skip
    """A sweep in which nothing of wandb reaches the console, and no process is left."""
    yield Sweep(tracking, tmp_path, make)
    assert cores() == []
    assert capfd.readouterr() == ("", "")


def cores() -> list[int]:
    """Every wandb-core below this process."""
    return [pid for pid in descendants(os.getpid()) if command_of(pid) == "wandb-core"]


def wait_until(ready, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not ready():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_process_of_its_own_tracks_as_the_process_of_the_command(
    sweep: Sweep, distant_server: Server
) -> None:
    sweep.start()
    sweep.end()
    assert sweep.close() < LIMIT_S
    assert sweep.said == []
    assert {name: distant_server.steps(name) for name in "ab"} == {"a": [10, 20], "b": [10, 20]}
    assert distant_server.exits["a"] == 0


@pytest.mark.parametrize("status", [401, 403, 500, 0])
def test_a_server_that_refuses_fails_or_stalls_is_said_once(
    status: int, sweep: Sweep, distant_server: Server
) -> None:
    distant_server.broken, distant_server.status = "all", status
    sweep.start()
    sweep.end()
    assert sweep.close() < LIMIT_S
    (said,) = sweep.said
    assert "To upload: normbench sync" in said


@pytest.mark.parametrize("status", [403, 500, 0])
def test_a_server_that_takes_no_points_half_way_is_said_once(
    status: int, sweep: Sweep, distant_server: Server
) -> None:
    distant_server.broken, distant_server.status, distant_server.streams = "stream", status, 2
    sweep.start()
    wait_until(lambda: "a" in distant_server.runs)
    sweep.end()
    assert sweep.close() < LIMIT_S
    (said,) = sweep.said
    assert "To upload: normbench sync" in said


def test_a_server_that_vanishes_is_said_once(sweep: Sweep, distant_server: Server) -> None:
    sweep.start()
    wait_until(lambda: {"a", "b"} <= distant_server.runs.keys())
    distant_server.shutdown()
    distant_server.socket.close()
    sweep.end()
    assert sweep.close() < LIMIT_S
    (said,) = sweep.said
    assert "To upload: normbench sync" in said


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("name", ["SIGSTOP", "SIGKILL"])
def test_a_core_that_is_stopped_or_killed_ends_with_the_command(
    name: str, ended: bool, sweep: Sweep, distant_server: Server
) -> None:
    sweep.start()
    wait_until(lambda: {"a", "b"} <= distant_server.runs.keys())
    if ended:
        sweep.end()
        wait_until(lambda: {"a", "b"} <= distant_server.exits.keys())
        time.sleep(1)  # finish returns
    for core in cores():
        os.kill(core, getattr(signal, name))
    if not ended:
        sweep.end()
    assert sweep.close() < LIMIT_S
    assert all("To upload: normbench sync" in said for said in sweep.said)
    assert len(sweep.said) == (0 if ended else 1)
