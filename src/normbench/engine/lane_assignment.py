"""Where the runs of a stack sit: which lane trains them, which bank of its statistics is theirs.

Runs that differ only in the momentum of statistics that training never reads are one training. It takes one
lane, and its norms keep a bank of running statistics for each of the runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from normbench.models import Network
from normbench.norms.running import RunningNorm
from normbench.spec import RunSpec, trainings


class LaneAssignment:
    """The assignment of the runs of a stack.

    Args:
        specs: the runs, equal but for lane fields.

    Attributes:
        lanes: one run for each training, in the order of their first ones.
        of:    lane and bank of every run.
        banks: how many the lane with the most runs needs.
    """

    def __init__(self, specs: Sequence[RunSpec]) -> None:
        self._runs = trainings(specs)
        assignment = {
            spec.signature: (lane, bank)
            for lane, runs in enumerate(self._runs)
            for bank, spec in enumerate(runs)
        }
        self.of = [assignment[spec.signature] for spec in specs]
        self.lanes = [runs[0] for runs in self._runs]
        self.banks = max(map(len, self._runs))

    def add_banks_of_runs(self, network: Network) -> None:
        """Give the norms of a network of the lanes their further banks.

        A lane with fewer runs than others has its first run's statistics in the banks that it does not need.
        """
        if self.banks == 1:
            return
        momenta = [
            [str(runs[bank if bank < len(runs) else 0].norm.momentum) for runs in self._runs]
            for bank in range(1, self.banks)
        ]
        for layer in running(network):
            layer.add_banks(momenta)


def running(network: Network) -> list[RunningNorm]:
    """The norms of a network that have running statistics."""
    return [layer for layer in network.norms().values() if isinstance(layer, RunningNorm)]


@contextmanager
def using_bank(network: Network, number: int) -> Iterator[None]:
    """Let all norms have the statistics of a bank in place of their own; 0 are their own."""
    with ExitStack() as stack:
        for layer in running(network):
            stack.enter_context(layer.using_bank(number))
        yield
