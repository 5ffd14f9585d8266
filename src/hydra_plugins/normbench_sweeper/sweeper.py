"""Hydra's basic sweeper, but it composes each job once and writes nothing before all jobs compose."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

ConfigStore.instance().store(
    group="hydra/sweeper",
    name="normbench",
    node={"_target_": f"{__name__}.NormbenchSweeper", "max_batch_size": None, "params": None},
    provider="normbench",
)


class NormbenchSweeper(BasicSweeper):
    """Expands comma lists, range(), choice(), glob() and `hydra.sweeper.params` into jobs.

    The last key changes fastest. A job that does not compose stops the sweep before any job starts. If the
    launcher promises that (`composes_first`), the jobs are not composed here too. `multirun.yaml` is written
    if `hydra.output_subdir` is not null.

    Args:
        max_batch_size: jobs passed to the launcher at once; None means all.
        params:         sweep words from a configuration file. The command line wins.
    """

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch all jobs; return the results of each batch.

        Raises:
            InputError: the sweep is empty or cannot be read.
            Exception:  the error of the first job that failed, after its batch has ended.
        """
        from hydra_plugins.normbench_launcher.launcher import ManyTask, NormbenchLauncher
        from normbench.config.compose import Composer

        assert self.config is not None and self.launcher is not None and self.hydra_context is not None
        composer = Composer(self.hydra_context.config_loader, self.config)
        jobs = composer.jobs()
        if isinstance(self.launcher, NormbenchLauncher) and self.launcher.composes_first:
            self.launcher.composer = composer  # PERF: what is composed by now is not composed again
        elif isinstance(getattr(self.launcher, "task_function", None), ManyTask):
            name = self.config.hydra.runtime.choices["hydra/launcher"]
            print(
                f"hydra/launcher={name}: each run trains alone, in a job of its own; without this word, runs "
                "train together as stacks",
                file=sys.stderr,
            )
        returns: list[Sequence[JobReturn]] = []
        launched = 0
        for batch in self.split_overrides_to_chunks(jobs, self.max_batch_size):
            if not getattr(self.launcher, "composes_first", False):
                self.validate_batch_is_legal(batch)
            results = self.launcher.launch(batch, initial_job_idx=launched)
            self._keep_multirun()
            for result in results:
                if result.status is JobStatus.FAILED:
                    raise result._return_value
            launched += len(batch)
            returns.append(results)
        return returns

    def _keep_multirun(self) -> None:
        assert self.config is not None
        if self.config.hydra.output_subdir is not None:
            folder = Path(self.config.hydra.sweep.dir)
            folder.mkdir(parents=True, exist_ok=True)
            OmegaConf.save(self.config, folder / "multirun.yaml")
