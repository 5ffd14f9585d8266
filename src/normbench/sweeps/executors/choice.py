"""Which executor a command has, and what follows from it for the plan. Importing it does not import torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from normbench.errors import InputError
from normbench.executor_spec import SLURM, ExecutorSpec
from normbench.parts import trains_alone
from normbench.phrases import counted
from normbench.ranks import launched
from normbench.spec import EngineSpec, RunSpec
from normbench.sweeps.executors.protocol import Executor
from normbench.sweeps.executors.queues import Queue


@contextmanager
def opened(spec: ExecutorSpec, at_once: int, gpus: Sequence[str], root: Path) -> Iterator[Executor]:
    """The executor of a command. What belongs to it ends with it; submitted jobs live on.

    Args:
        at_once: stacks that train at the same time.
        gpus:    as in `gpus`.
        root:    the folder of the store.

    Raises:
        InputError: this machine cannot submit jobs.
    """
    if spec.submits:
        check_here(spec)
        from normbench.sweeps.executors.submitted import Submitted

        yield Submitted(spec, root, _queue(spec))
    elif at_once > 1 or gpus:
        from normbench.sweeps.executors.local_pool import local_pool

        with local_pool(at_once, gpus) as pool:
            yield pool
    else:
        from normbench.sweeps.executors.this_process import ThisProcess

        yield ThisProcess()


def _queue(spec: ExecutorSpec) -> Queue:
    """The scheduler that takes the jobs of an executor."""
    if spec.name == SLURM:
        from normbench.sweeps.executors.slurm import SlurmQueue

        return SlurmQueue(spec)
    from normbench.sweeps.executors.processes import ProcessQueue

    return ProcessQueue(spec)


def processes(spec: ExecutorSpec, engine: EngineSpec) -> int:
    """Stacks that may train at the same time. Jobs on other machines count as one, so that stacks stay wide.

    Raises:
        InputError: the executor or the engine's devices are not here.
    """
    from normbench.autotune.cores import cores, process_count

    check(spec, engine)
    if spec.elsewhere:
        return 1
    if spec.submits:
        return cores() if spec.max_jobs == "auto" else spec.max_jobs
    return process_count(engine)


def gpus(spec: ExecutorSpec, engine: EngineSpec) -> tuple[str, ...]:
    """The GPUs that train stacks side by side in processes of this command; empty if none were asked for."""
    from normbench.engine.devices import side_by_side

    return () if spec.submits else side_by_side(engine)


def width_elsewhere(spec: RunSpec, executor: ExecutorSpec) -> int:
    """The most lanes of a stack on a machine that nobody has measured."""
    from normbench.autotune.default_widths import default_width

    if trains_alone(spec.model.name):
        return 1
    if spec.engine.lanes != "auto":
        return spec.engine.lanes
    return default_width(spec, gpu=executor.gpus > 0 and spec.engine.device != "cpu")


def check(spec: ExecutorSpec, engine: EngineSpec) -> None:
    """Refuse an executor that contradicts other settings.

    Raises:
        InputError: it does.
    """
    if not spec.submits:
        return
    if launched().count > 1:
        raise InputError(
            f"executor={spec.name} submits jobs and cannot run under torchrun; use executor=local"
        )
    if engine.devices != "one":
        raise InputError(
            f"engine.devices divides stacks over the GPUs of one machine, with executor=local; with "
            f"executor={spec.name}, give executor.gpus"
        )


def check_here(spec: ExecutorSpec) -> None:
    """Refuse an executor that cannot submit jobs from this machine. A plan needs none of this.

    Raises:
        InputError: submitit or Slurm is missing.
    """
    if find_spec("submitit") is None:
        raise InputError(f"executor={spec.name} needs submitit; install it: pip install 'normbench[slurm]'")
    if spec.name == SLURM and not (shutil.which("sbatch") and shutil.which("squeue")):
        raise InputError(
            "executor=slurm needs the commands sbatch and squeue, and this machine lacks them; start the "
            "command on a login node, or use executor=local"
        )


def lines(spec: ExecutorSpec, stacks: int, gpus: Sequence[str]) -> list[str]:
    """Where the stacks of a plan train, as lines of the plan; none if this is as ever.

    >>> lines(ExecutorSpec(name="slurm", partition="gpu", gpus=1, max_jobs=8), 12, ())
    ['executor=slurm: 12 jobs, one per stack, at most 8 at a time; partition gpu, 1 GPU each, up to 240 min']
    >>> lines(ExecutorSpec(), 12, ("0", "1"))
    ['a process on each of 2 GPUs: 0, 1']
    """
    if gpus:
        return [f"a process on each of {counted(len(gpus), 'GPU')}: {', '.join(gpus)}"]
    if not spec.submits:
        return []
    most = (
        "" if spec.max_jobs == "auto" or spec.max_jobs >= stacks else f", at most {spec.max_jobs} at a time"
    )
    what = f"partition {spec.partition}, " if spec.partition else ""
    what += f"{counted(spec.gpus, 'GPU')} each, " if spec.gpus else ""
    return [
        f"executor={spec.name}: {counted(stacks, 'job')}, one per stack{most}; {what}up to {spec.timeout} min"
    ]
