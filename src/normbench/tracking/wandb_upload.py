"""Sends ended runs to the server of wandb from our own records. It is made in a process of its own.

A run is sent whole, under the id that live tracking gives it. What the server has of it is replaced. So
sending twice, or after a broken transfer, leaves one run with one curve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from normbench.errors import InputError
from normbench.record import Metrics, Record
from normbench.tracking.parallel_wait import wait_for_all
from normbench.tracking.sweep_summary import SweepSummary
from normbench.tracking.wandb_core import end_wandb
from normbench.tracking.wandb_fields import results
from normbench.tracking.wandb_run import finish_run, log_layers, log_point, open_run
from normbench.tracking.wandb_server import Expected, Found, compare, set_tags, still_absent
from normbench.tracking.wandb_setup import ONLINE, cause, has_api_key, minimal_settings
from normbench.tracking.wandb_summary import log_summary

MOST_TRIES = 2  # runs that may fail to open before the others of a call are not tried
INCOMPLETE = "the server did not take all of it"


@dataclass(frozen=True)
class Upload:
    """A run to send.

    Attributes:
        record:   with its history and what diagnostics found by layer.
        identity: id, project, entity, name and group, as arguments of `wandb.init`.
        varying:  the fields in which the runs of the sweep differ.
        tags:     of the run.
    """

    record: Record
    identity: Mapping[str, Any]
    varying: Sequence[str]
    tags: Sequence[str]

    @property
    def id(self) -> str:
        return self.record.signature

    @property
    def points(self) -> list[Metrics]:
        """The curve in the order of its steps, one point per step."""
        by_step = {int(point["step"] or 0): point for point in self.record.history}
        return [by_step[step] for step in sorted(by_step)]

    @property
    def expected(self) -> Expected:
        """What the server shows after the run was sent."""
        layer_steps = {row["step"] for row in self.record.diagnostics}
        return Expected(results(self.record, self.record.history), len(self.points) + len(layer_steps))


class WandbUploads:
    """Asks the server what it has, and sends runs to it.

    Args:
        folder: for the files of wandb. Nobody needs them later.
        notice: not used: what happens to a run is an answer.
    """

    def __init__(self, folder: Path, notice: Callable[[str], None]) -> None:
        self._folder = folder
        self._wandb: Any = None

    def server(self) -> str:
        """The address of the server.

        Raises:
            InputError: there is no key for it. wandb never asks for one here.
        """
        settings = self._set_up().setup(settings=self._wandb.Settings(silent=True)).settings
        if not (settings.api_key or has_api_key(settings.base_url)):
            raise InputError(
                f"wandb has no API key for {settings.base_url}: wandb login, or set WANDB_API_KEY"
            )
        return str(settings.base_url)

    def compare(self, project: str, entity: str | None, expected: Mapping[str, Expected]) -> Found:
        """What the server has of the runs."""
        return compare(self._set_up(), project, entity, expected)

    def set_tags(self, project: str, entity: str | None, tags: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Replace the tags of runs that the server has.

        Returns:
            For each id why it failed; empty if it did not.
        """
        failed = dict.fromkeys(tags, "the server has no such run any more")
        try:
            for done in set_tags(self._set_up(), project, entity, tags):
                failed[done] = ""
        except Exception as error:
            failed |= {name: cause(error) for name, why in failed.items() if why}
        return failed

    def send(self, project: str, entity: str | None, uploads: Sequence[Upload]) -> dict[str, str]:
        """Send runs, all at the same time, and ask the server whether it has them.

        Returns:
            For each id why it failed; empty if it did not.
        """
        failed = {upload.id: "" for upload in uploads}

        def attempt(upload: Upload, action: Callable[[], Any]) -> Any:
            try:
                return action()
            except Exception as error:
                failed[upload.id] = failed[upload.id] or cause(error)
                return None

        opened: list[tuple[Upload, Any]] = []
        for upload in uploads:
            tries = [reason for reason in failed.values() if reason]
            if not opened and len(tries) >= MOST_TRIES:
                failed[upload.id] = tries[-1]
            elif (run := attempt(upload, partial(self._log, upload))) is not None:
                opened.append((upload, run))
        wait_for_all(
            [
                partial(attempt, upload, partial(finish_run, run, upload.record, upload.record.history))
                for upload, run in opened
            ]
        )
        sent = {upload.id: upload.expected for upload, _ in opened if not failed[upload.id]}
        try:
            lacking = dict.fromkeys(still_absent(self._set_up(), project, entity, sent), INCOMPLETE)
        except Exception as error:
            lacking = dict.fromkeys(sent, f"the server does not say whether it has it ({cause(error)})")
        failed |= lacking
        if any(failed.values()):
            self._tear_down()
        return failed

    def send_summary(self, identity: Mapping[str, Any], made: SweepSummary) -> None:
        """Send the summary run of a sweep.

        Raises:
            Exception: wandb failed.
        """
        wandb = self._set_up()
        run = wandb.init(
            **identity,
            dir=str(self._folder),
            mode=ONLINE,
            reinit="create_new",
            settings=minimal_settings(wandb),
        )
        log_summary(wandb, run, made)

    def _log(self, upload: Upload) -> Any:
        """Open a run and log its curve, then what diagnostics found by layer."""
        wandb, spec = self._set_up(), upload.record.spec
        run = open_run(
            wandb, upload.identity, spec, upload.varying, upload.tags, self._folder, ONLINE,
            resumed=False,
        )  # fmt: skip
        for point in upload.points:
            log_point(run, int(point["step"] or 0), point)
        log_layers(wandb, run, spec, upload.record.diagnostics)
        return run

    def _set_up(self) -> Any:
        if self._wandb is None:
            self._wandb = import_module("wandb")
            settings = self._wandb.setup(settings=self._wandb.Settings(silent=True)).settings
            settings.sweep_id = settings.resume = None  # what the environment says about one run
        return self._wandb

    def _tear_down(self) -> None:
        """After an error every further call could raise, and ids of failed starts count as in use."""
        end_wandb()
        self._wandb = None
