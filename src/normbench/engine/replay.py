"""Replays of a step on a CPU: recorded once, then its operations are called without modules and autograd."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch

from normbench.engine.recording import Recording, record
from normbench.errors import RunFailure

#: Number of steps of a phase before the recording. They may create tensors for the later ones.
WARM_UP = 1
#: The number of the replay that is recorded again, to see that the operations are still the same. Then the
#: double of it, and so on.
FIRST_CHECK = 32


class Replays:
    """Records a function that always uses the same tensors, and repeats its operations. One phase at a time.

    The function is recorded twice, in two steps. If the recordings differ, it depends on something that is no
    tensor, and it is called in every step.

    Args:
        perform:  the function, without arguments and result.
        refusal:  reason why the function cannot be replayed, if it is known; then nothing is recorded.
        required: whether a function that cannot be replayed is an error.

    Attributes:
        refusal: reason why the function cannot be replayed; empty if it is replayed.

    Raises:
        RunFailure: the function cannot be replayed although it must be, or its operations have changed after
            it was recorded.
    """

    def __init__(self, perform: Callable[[], None], *, refusal: str = "", required: bool = False) -> None:
        self.perform, self.required = perform, required
        self.refusal = ""
        if refusal:
            self._refuse(refusal)
        self._phase: Hashable = None
        self._begin(None)

    def __call__(self, phase: Hashable, *, last: bool = False) -> None:
        """Perform once. All calls with the same phase are the same operations on the same memory.

        Args:
            last: no call follows, so this one is recorded again, too.
        """
        if self.refusal:
            self.perform()
            return
        if phase != self._phase:
            self._begin(phase)
        self._steps += 1
        if self._replay is None:
            if self._steps <= WARM_UP:
                self.perform()
            else:
                self._record()
        elif last or self._steps == self._check:
            self._check *= 2
            self._compare()
        else:
            with torch.inference_mode():  # PERF: an operation takes less time than under no_grad
                self._replay()

    def release(self) -> None:
        """Free the recording and the tensors that it holds."""
        self._begin(None)

    def _begin(self, phase: Hashable) -> None:
        self._phase, self._steps, self._check = phase, 0, FIRST_CHECK
        self._recording: Recording | None = None
        self._replay: Callable[[], None] | None = None

    def _record(self) -> None:
        recording = record(self.perform)
        why = recording.refusal if self._recording is None else recording.difference(self._recording)
        if why:
            self.release()
            self._refuse(why)
        elif self._recording is None:
            self._recording = recording
        else:
            self._replay = recording.function()

    def _compare(self) -> None:
        """Take a step that is not replayed, and refuse to go on if its operations have changed."""
        assert self._recording is not None
        if why := record(self.perform).difference(self._recording):
            raise RunFailure(
                f"the operations of a step have changed after they were recorded ({why}), so the steps "
                "before may be wrong; use engine.graphs=false"
            )

    def _refuse(self, why: str) -> None:
        if self.required:
            raise RunFailure(
                f"engine.graphs=true, but a step cannot be replayed: {why}; use engine.graphs=auto"
            )
        self.refusal = why
