"""Training under torchrun: rank 0 runs the command, and the other ranks train its stacks with it.

A rank other than 0 reads no words, plans nothing, prints nothing and writes nothing. It gets the runs of each
stack from rank 0, loads their plugins and their data, and takes part in every step (`engine.partners`).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch

from normbench.autotune.cores import thread_count
from normbench.data.dataset import Dataset
from normbench.engine.device import find_device
from normbench.engine.stack_layout import StackLayout
from normbench.engine.state import LaneState
from normbench.engine.train import Listener, Result, train_stack
from normbench.plugins import loading
from normbench.ranks import Ranks, launched
from normbench.spec import RunSpec
from normbench.sweeps.meeting import TRAIN, Meeting
from normbench.sweeps.sweep_data import SweepData

#: Seconds that a rank lives on after SIGTERM, which torchrun sends to all, while rank 0 writes checkpoints.
GRACE_S = 15


def train_together(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    listener: Listener,
    states: Sequence[LaneState] | None,
    layout: StackLayout | None,
    cache: Path,
) -> list[Result]:
    """Train a stack as `train_stack` does; under torchrun, with all ranks.

    Args:
        dataset: its images fitted to the model, on any device.
        cache:   the folder of decoded data sets, for the other ranks.

    Raises:
        RanksParted: under torchrun, any failure.
        SystemExit:  another rank has failed, and said why.
    """
    device, together = find_device(specs[0].engine.device), launched()
    if together.count == 1:
        return train_stack(specs, dataset.to(device), device, listener, states, layout)
    meeting = _meeting(together)
    try:
        meeting.give_order(TRAIN)
        meeting.exchange_job((loading.loaded(), list(specs), states, layout, cache))
        return train_stack(specs, dataset.to(device), device, listener, states, layout, together)
    except Exception as error:
        raise meeting.explain(error) from error
    except BaseException:  # interrupted
        meeting.broken = True
        raise


def lead(command: Callable[[], int], together: Ranks) -> int:
    """Run a command as rank 0, and send the other ranks home at its end."""
    try:
        return command()
    finally:
        _meeting(together).leave()


def follow(together: Ranks) -> int:
    """Train as another rank than 0, until rank 0 has no more stacks; return the exit code.

    Raises:
        RanksParted: this rank failed, or lost another one; one line says so.
        SystemExit:  another rank has said why.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides when to stop
    meeting = _meeting(together)
    while meeting.next_order() == TRAIN:
        before = signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))
        try:
            plugins, specs, states, layout, folder = meeting.exchange_job()
            loading.again(plugins)
            device = find_device(specs[0].engine.device)
            torch.set_num_threads(thread_count(specs[0]))
            dataset = SweepData(folder).of(specs[0]).to(device)
            train_stack(specs, dataset, device, Listener(), states, layout, together)
        except Exception as error:
            raise meeting.explain(error) from error
        finally:
            signal.signal(signal.SIGTERM, before)
    meeting.leave()
    return 0


@cache
def _meeting(together: Ranks) -> Meeting:
    """The meeting of this process: there is one."""
    return Meeting(together)
