"""ExecutorSpec: where the stacks of a command train. It belongs to the command and not to its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from normbench.errors import InputError, unknown
from normbench.groups import Count, Part

LOCAL, SLURM, SUBMITIT_LOCAL = "local", "slurm", "submitit_local"
#: A name of Slurm: of a partition, an account and so on.
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s'\"\\`$;]+$")]


class ExecutorSpec(Part):
    """Who trains.

    Attributes:
        name:     local: processes of this command. slurm, submitit_local: jobs that live on without it.
        gpus:     per job.
        cpus:     cores per job; None: what the cluster gives.
        memory:   of a job in GB; None: what the cluster gives.
        timeout:  minutes of a job. Then it goes on as another one.
        max_jobs: jobs that wait or run at the same time; auto: one per core of this machine.
        setup:    lines of shell that run in a job before Python.
        sbatch:   further options of sbatch by name, such as {reservation: mine}.
    """

    name: Literal["local", "slurm", "submitit_local"] = "local"
    partition: Name | None = None
    account: Name | None = None
    qos: Name | None = None
    constraint: Name | None = None
    gpus: Annotated[int, Field(ge=0, le=1024)] = 0
    cpus: Count | None = None
    memory: Annotated[float, Field(gt=0, le=10**6)] | None = None
    timeout: Annotated[int, Field(ge=2, le=525_600)] = 240
    max_jobs: Literal["auto"] | Count = "auto"
    setup: Annotated[tuple[str, ...], Field(strict=False)] = ()
    sbatch: dict[Name, str | int | bool] = Field(default_factory=dict)

    @property
    def elsewhere(self) -> bool:
        """Whether jobs may run on machines that differ from this one."""
        return self.name == SLURM

    @property
    def submits(self) -> bool:
        """Whether stacks train in jobs that live on without this command."""
        return self.name != LOCAL


#: The executor if nothing is said.
HERE = ExecutorSpec()


def parse_executor(values: object) -> ExecutorSpec:
    """The executor of a composed configuration; None: the local one.

    Raises:
        InputError: an unknown key, or a value of another type or out of range.
    """
    if values is None:
        return HERE
    if not isinstance(values, Mapping):
        raise InputError(f"executor must be local, slurm or submitit_local; got {values!r}")
    given = {key: value for key, value in values.items() if value is not None or key == "name"}
    try:
        return ExecutorSpec.model_validate(given)
    except ValidationError as error:
        raise _explained(error, given) from None


def _explained(error: ValidationError, given: Mapping[str, Any]) -> InputError:
    first = error.errors()[0]
    key = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return unknown("key", f"executor.{key}", [f"executor.{name}" for name in ExecutorSpec.model_fields])
    alike = dict.fromkeys(each["msg"] for each in error.errors() if each["loc"][0] == key)
    wanted = "; or ".join(message.removeprefix("Input ") for message in alike)
    return InputError(f"executor.{key} {wanted}; got {given.get(key)!r}")
