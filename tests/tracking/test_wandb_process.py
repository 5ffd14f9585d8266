"""The process that calls wandb: whatever happens there, the command goes on and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from normbench.errors import NormbenchError
from normbench.tracking.wandb_core import command_of, descendants
from normbench.tracking.wandb_process import LOG, ProcessGone, WandbProcess
from wandb_patient import Patient


class Clinic:
    """A process with a patient, and the notices that arrived."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.said: list[str] = []
        self.process = WandbProcess(partial(Patient, folder), root, self.said.append)
        self.call, self.end, self.kill = self.process.call, self.process.end, self.process.kill


@pytest.fixture
def clinic(tmp_path: Path):
    made = Clinic(tmp_path / "results", tmp_path)
    yield made
    made.kill()
    made.end()


def gone(pid: int, within_s: float = 10) -> bool:
    """Whether a process ends in this time. A process that nobody has waited for counts as ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_calls_are_answered_in_another_process_and_notices_arrive(clinic: Clinic) -> None:
    word, pid = clinic.call("echo", "hello")
    assert word == "hello"
    assert pid != os.getpid()
    assert clinic.said == ["heard hello"]
    clinic.end()
    assert gone(pid)


def test_what_is_printed_there_goes_to_a_log_and_an_error_is_one_line(
    clinic: Clinic, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clinic.call("shout")
    with pytest.raises(NormbenchError) as error:
        clinic.call("fail")
    assert str(error.value) == "ConnectionResetError: Connection lost"
    assert clinic.call("echo", "still here")[0] == "still here"
    clinic.end()
    assert (tmp_path / "results" / "wandb" / LOG).read_text() == "panic on stdout\npanic on stderr\n"
    assert capfd.readouterr() == ("", "")


def test_a_process_that_hangs_is_killed_with_its_stopped_core(clinic: Clinic) -> None:
    core = clinic.call("start_core")
    begin = time.monotonic()
    with pytest.raises(ProcessGone, match="did not answer in time"):
        clinic.call("hang", limit_s=0.1)
    assert time.monotonic() - begin < 10
    assert gone(core)
    with pytest.raises(ProcessGone):
        clinic.call("echo", "again")


def test_a_process_that_dies_is_said_with_its_exit_code(clinic: Clinic) -> None:
    with pytest.raises(ProcessGone, match=rf"died \(exit code 7\); see .*{LOG}"):
        clinic.call("die")


def test_without_a_place_for_the_log_the_process_works(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_text("in the way")
    clinic = Clinic(root, tmp_path)
    assert clinic.call("echo", "hello")[0] == "hello"
    clinic.end()


def test_an_end_does_not_wait_for_a_stopped_core(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normbench.tracking.wandb_process.END_S", 0.5)
    core = clinic.call("start_core")
    deadline = time.monotonic() + 10
    while command_of(core) != "wandb-core" and time.monotonic() < deadline:
        time.sleep(0.01)  # the process exists a moment before its program does
    assert command_of(core) == "wandb-core"
    assert core in descendants(os.getpid())
    begin = time.monotonic()
    clinic.end()
    assert time.monotonic() - begin < 10
    assert gone(core)


@pytest.mark.slow
def test_the_process_itself_ends_a_core_that_does_not_end(clinic: Clinic) -> None:
    core = clinic.call("start_core")
    _, pid = clinic.call("echo", "")
    clinic.end()
    assert gone(core)
    assert gone(pid)
    assert clinic.process._process.returncode == 0  # it was not killed


def test_neither_outlives_a_command_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import os, signal, sys
from functools import partial
from pathlib import Path
sys.path[:] = {sys.path!r}
from normbench.tracking.wandb_process import WandbProcess
from wandb_patient import Patient
process = WandbProcess(partial(Patient, Path({str(tmp_path)!r})), Path({str(tmp_path)!r}), print)
print(process.call("echo", "")[1], process.call("start_core"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    child, core = map(
        int, done.stdout.split()[1:] if done.stdout.startswith("heard") else done.stdout.split()
    )
    assert gone(child)
    assert gone(core)
