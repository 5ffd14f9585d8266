"""A launcher that passes all jobs of a sweep to the task at once, so that they can train as stacks.

Every Hydra program in this environment imports this module at its start. So heavy imports stand inside
functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import (
    JobReturn,
    JobRuntime,
    JobStatus,
    configure_log,
    env_override,
    run_job,
    setup_globals,
)
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from normbench.errors import RunFailure

if TYPE_CHECKING:
    from normbench.config.compose import Composer

ConfigStore.instance().store(
    group="hydra/launcher",
    name="normbench",
    node={"_target_": f"{__name__}.NormbenchLauncher"},
    provider="normbench",
)


@runtime_checkable
class ManyTask(Protocol):
    """A task function that can take all jobs at once."""

    def many(self, configs: Sequence[Mapping[str, Any]]) -> Sequence[object]:
        """For each configuration, in order: its result, or the exception that ended it."""


class JobFailure(CompactHydraException, RunFailure):
    """A job that failed. Both Hydra and normbench show it as one line."""


class NormbenchLauncher(Launcher):
    """Passes a whole sweep to a task that is a ManyTask. Runs the jobs of any other task one by one."""

    config: DictConfig
    hydra_context: HydraContext
    task_function: TaskFunction
    composer: Composer | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    @property
    def composes_first(self) -> bool:
        """Whether all jobs are composed before the first one starts."""
        return isinstance(self.task_function, ManyTask)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; return one JobReturn each, in order. Hydra passes these arguments by name."""
        setup_globals()
        self._configure_log()
        numbered = list(enumerate(job_overrides, start=initial_job_idx))
        if isinstance(self.task_function, ManyTask):
            return self._run_all_at_once(numbered, self.task_function)
        return [self._run_one(*job) for job in numbered]

    def _run_one(self, number: int, words: Sequence[str]) -> JobReturn:
        result = run_job(
            task_function=self.task_function,
            config=self._full_config(number, words),
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=self.hydra_context,
        )
        self._configure_log()  # the job has replaced the handlers
        return result

    def _run_all_at_once(
        self, numbered: Sequence[tuple[int, Sequence[str]]], task: ManyTask
    ) -> list[JobReturn]:
        from normbench.config.compose import Composer, refuse_output_folders

        refuse_output_folders(self.config)
        composer = self.composer or Composer(self.hydra_context.config_loader, self.config)
        configs = [composer.plain(words) for _, words in numbered]
        with self._callbacks(numbered) as returns, env_override(dict(self.config.hydra.job.env_set)):
            outcomes = task.many(configs)
            for (_, words), outcome in zip(numbered, outcomes, strict=True):
                config = composer.job(words) if self._is_heard else None
                returns.append(_job_return(words, config, outcome))
        return returns

    @property
    def _is_heard(self) -> bool:
        """Whether Hydra has callbacks. Without them nobody reads the configurations of ended jobs."""
        callbacks: Any = self.hydra_context.callbacks
        return bool(callbacks.callbacks)

    @contextmanager
    def _callbacks(self, numbered: Sequence[tuple[int, Sequence[str]]]) -> Iterator[list[JobReturn]]:
        """Tell Hydra's callbacks that every job starts, and that it ends with the JobReturn in the list.

        A configuration with the node `hydra` takes 40 ms to compose. So they are composed only if there are
        callbacks.
        """
        callbacks: Any = self.hydra_context.callbacks
        heard = [self._full_config(*job) for job in numbered] if self._is_heard else []
        returns: list[JobReturn] = []
        before = HydraConfig.instance().cfg
        try:
            for config in heard:
                HydraConfig.instance().set_config(config)
                callbacks.on_job_start(config=config, task_function=self.task_function)
            yield returns
            for config, result in zip(heard, returns, strict=bool(heard)):
                HydraConfig.instance().set_config(config)
                result.hydra_cfg = DictConfig({"hydra": config.hydra})
                callbacks.on_job_end(config=config, job_return=result)
        finally:
            HydraConfig.instance().cfg = before

    def _full_config(self, number: int, words: Sequence[str]) -> DictConfig:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(words))
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        return config

    def _configure_log(self) -> None:
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)


def _job_return(words: Sequence[str], config: DictConfig | None, outcome: object) -> JobReturn:
    """The JobReturn of one job. Of an exception it keeps the text: a traceback would keep tensors alive."""
    failed = isinstance(outcome, Exception)
    result = JobReturn(
        overrides=list(words),
        cfg=config,
        working_dir=str(Path.cwd()),
        task_name=JobRuntime.instance().get("name"),
        status=JobStatus.FAILED if failed else JobStatus.COMPLETED,
    )
    result.return_value = JobFailure(f"{' '.join(words)}: {outcome}") if failed else outcome
    return result
