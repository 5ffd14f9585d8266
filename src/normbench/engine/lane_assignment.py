"""Which lane of a stack trains a run, and which bank of the lane's statistics belongs to it.

Runs that differ only in a momentum that training never reads are one training. It has one lane, and its norms
keep one bank of running statistics per run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from normbench.labels import flatten
from normbench.models import Network
from normbench.norms.running import RunningNorm
from normbench.spec import LANE_FIELDS, RunSpec, trainings


class LaneAssignment:
    """Lane and bank of every run of a stack.

    Args:
        specs: the runs, equal outside `spec.LANE_FIELDS`.

    Attributes:
        lanes: one run per training, in the order of their first runs.
        of:    lane and bank of every run, in the order of specs.
        banks: the number that the lane with the most runs needs.

    Raises:
        ValueError: the runs cannot be one stack; the message names the fields in which they differ.
    """

    def __init__(self, specs: Sequence[RunSpec]) -> None:
        _check_equal(specs)
        self._runs = trainings(specs)
        places = {
            spec.signature: (lane, bank)
            for lane, runs in enumerate(self._runs)
            for bank, spec in enumerate(runs)
        }
        self.of = [places[spec.signature] for spec in specs]
        self.lanes = [runs[0] for runs in self._runs]
        self.banks = max(map(len, self._runs))

    def add_banks(self, network: Network) -> None:
        """Give the norms of a network with these lanes their further banks.

        A lane with fewer runs than another keeps the statistics of its first run in the banks that it does
        not need.
        """
        if self.banks == 1:
            return
        momenta = [
            [str(runs[bank if bank < len(runs) else 0].norm.momentum) for runs in self._runs]
            for bank in range(1, self.banks)
        ]
        for layer in running(network):
            layer.add_banks(momenta)


def _check_equal(specs: Sequence[RunSpec]) -> None:
    """Refuse runs that differ in more than lanes can; whoever planned the stack is not trusted."""
    first = specs[0]
    for spec in specs[1:]:
        if spec.stack_key() != first.stack_key():
            one, other = (flatten(s.model_dump(mode="json")) for s in (first, spec))
            differ = [k for k in one | other if one.get(k) != other.get(k) and k not in LANE_FIELDS]
            raise ValueError(f"runs of one stack must not differ in {', '.join(differ)}")


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
