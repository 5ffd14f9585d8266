"""A command under `torchrun`: rank 0 runs it, and the other ranks train its stacks with it."""

from __future__ import annotations

from collections.abc import Callable

from normbench.ranks import Ranks
from normbench.sweeps.together import follow, lead


def run_on(together: Ranks, command: Callable[[], int]) -> int:
    """Run the command as rank 0, or follow rank 0; return the exit code.

    Raises:
        RunFailure: a rank failed, or was lost.
    """
    return follow(together) if together.number else lead(command, together)
