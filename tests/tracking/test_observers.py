"""Which observers a configuration asks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from normbench import tracking as package
from normbench.errors import InputError
from normbench.events import Notice
from normbench.spec import TrackingSpec
from normbench.tracking import observers
from normbench.tracking.plain import PlainView
from normbench.tracking.wandb_runs import WandbRuns

NONE = TrackingSpec(name="none", project=None, entity=None, mode=None, tags=())


def test_importing_the_package_loads_neither_wandb_nor_rich_nor_torch() -> None:
    program = (
        "import sys, normbench.tracking; print([m for m in ('wandb', 'rich', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_a_tracker_there_is_the_console_alone(tmp_path: Path) -> None:
    assert [type(o) for o in observers(NONE, tmp_path)] == [PlainView]
    assert observers(NONE, tmp_path, console=False) == []


def test_wandb_gets_events_and_is_closed_before_the_console(
    tmp_path: Path, tracking: TrackingSpec, no_credentials: None
) -> None:
    assert [type(o) for o in observers(tracking, tmp_path)] == [WandbRuns, PlainView]


def test_wandb_disabled_by_its_own_switch_is_left_out(tmp_path: Path, tracking: TrackingSpec) -> None:
    assert [type(o) for o in observers(tracking, tmp_path)] == [
        PlainView
    ]  # conftest sets WANDB_MODE=disabled


def test_a_variable_that_wandb_refuses_stops_the_command_before_training(
    tmp_path: Path, tracking: TrackingSpec, no_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_TAGS", "x" * 65)
    with pytest.raises(InputError):
        observers(tracking, tmp_path)
    assert [type(o) for o in observers(NONE, tmp_path)] == [PlainView]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert [type(o) for o in observers(tracking, tmp_path)] == [PlainView]


def test_what_wandb_says_goes_through_the_console(
    tmp_path: Path,
    tracking: TrackingSpec,
    make: SimpleNamespace,
    fake: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, view = observers(tracking, tmp_path)
    view.notify(Notice("from the console"))
    first.notify(make.started())
    first.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "from the console"
    assert "no API key" in lines[1]


def test_without_a_console_wandb_speaks_through_logging(
    tmp_path: Path,
    tracking: TrackingSpec,
    make: SimpleNamespace,
    fake: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (only,) = observers(tracking, tmp_path, console=False)
    only.notify(make.started())
    only.close()
    assert [record.name for record in caplog.records] == [package.__name__]
    assert "no API key" in caplog.text
