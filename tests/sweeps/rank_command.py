"""One rank of test_together: `python rank_command.py FAULT RANK STEP WORD …` runs a command.

In rank RANK, step STEP raises an error (`raises`), or the process kills (`killed`) or stops (`stopped`)
itself there. Without a fault: `none`.
"""

from __future__ import annotations

import os
import signal
import sys

from normbench import cli
from normbench.engine.step import Step
from normbench.sweeps import meeting

SIGNALS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}


def plan_fault(fault: str, at: int) -> None:
    """Let a step of this process go wrong."""
    take = Step.__call__

    def step(self: Step, number: int) -> None:
        if number == at:
            if fault == "raises":
                raise ValueError("no luck")
            os.kill(os.getpid(), SIGNALS[fault])
        take(self, number)

    Step.__call__ = step


if __name__ == "__main__":
    fault, rank, step, *words = sys.argv[1:]
    meeting.WAIT_S = 5
    if fault != "none" and os.environ["RANK"] == rank:
        plan_fault(fault, int(step))
    sys.exit(cli.run(words))
