"""The last step that wandb has of a run that is tracked offline, kept on disk until the run ends.

A resumed run gets a second offline folder, and `wandb sync` joins both. Online the server says which steps it
has. Offline nobody does: without this file, points between checkpoint and interruption would stand twice.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


class OfflineSteps:
    """One small file per run, in `<root>/wandb/steps`. A disk that refuses costs repeated points, no more."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "wandb" / "steps"

    def last(self, run: str) -> int:
        """The last step of a run; -1 if none is known."""
        try:
            return int((self._folder / run).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return -1

    def keep(self, run: str, step: int) -> None:
        """Note that wandb has this step."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / run).write_text(str(step), encoding="ascii")

    def forget(self, run: str) -> None:
        """The run has ended."""
        with suppress(OSError):
            (self._folder / run).unlink()
