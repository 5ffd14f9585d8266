"""Lane assignment: the lane of a stack that trains a run, and the bank of statistics that belongs to it.

Runs that differ only in a momentum that training never reads are one training. It has one lane. The norms of
the lane keep one bank of running statistics per run.
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
        lanes: the first run of every training, in the order of specs.
        of:    lane and bank of every run, in the order of specs.
        banks: number of banks per lane: the runs of the lane with the most runs.

    Raises:
        ValueError: the runs cannot be one stack. The message names the fields in which they differ.
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
        """Add the banks after the first to the norms of a network with these lanes.

        If a lane has fewer runs than banks, the other banks repeat the statistics of its first run.
        """
        if self.banks == 1:
            return
        momenta = [
            [str(runs[bank if bank < len(runs) else 0].norm.momentum) for runs in self._runs]
            for bank in range(1, self.banks)
        ]
        for layer in running_norms(network):
            layer.add_banks(momenta)


def _check_equal(specs: Sequence[RunSpec]) -> None:
    """Refuse runs that differ outside LANE_FIELDS. This guards against errors of any planner."""
    first = specs[0]
    for spec in specs[1:]:
        if spec.stack_key() != first.stack_key():
            one, other = (flatten(s.model_dump(mode="json")) for s in (first, spec))
            differ = [k for k in one | other if one.get(k) != other.get(k) and k not in LANE_FIELDS]
            raise ValueError(f"runs of one stack must not differ in {', '.join(differ)}")


def running_norms(network: Network) -> list[RunningNorm]:
    """The norms of a network that have running statistics."""
    return [layer for layer in network.norms().values() if isinstance(layer, RunningNorm)]


@contextmanager
def using_bank(network: Network, number: int) -> Iterator[None]:
    """Let all norms use the statistics of a bank. Bank 0 is their own statistics."""
    with ExitStack() as stack:
        for layer in running_norms(network):
            stack.enter_context(layer.using_bank(number))
        yield
