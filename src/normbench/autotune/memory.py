"""Memory: how much a stack takes, and how many lanes fit."""

from __future__ import annotations

from normbench.engine.stack import Stack
from normbench.instruments import SavedBytes

#: Stacks may take this share of the free memory. The rest is for data, evaluation and low estimates.
SHARE = 0.7


def lanes_that_fit(lane_bytes: int, stacks: int, free: int) -> int:
    """The most lanes per stack that fit into memory; at least 1.

    Args:
        lane_bytes: bytes that one lane takes.
        stacks:     stacks that train at the same time.
        free:       bytes that are free.
    """
    return max(1, int(SHARE * free / stacks / lane_bytes))


def stack_bytes(stack: Stack) -> int:
    """Bytes that a stack on a CPU takes in training; takes its step 0.

    It counts what the step saves for the backward pass. It counts the parameters four times: weights,
    gradients and the two states of Adam.
    """
    with SavedBytes() as saved:
        stack.step(0)
    return saved.total + 4 * sum(p.nbytes for p in stack.network.parameters())
