"""Memory: how much a stack takes, and how many lanes fit."""

from __future__ import annotations

from normbench import memory, models
from normbench.data.shape import Shape
from normbench.engine.device import find_device
from normbench.engine.free_memory import free_bytes
from normbench.engine.stack import Stack
from normbench.errors import InputError
from normbench.instruments import SavedBytes
from normbench.spec import RunSpec

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


def check_room(spec: RunSpec, image: Shape) -> None:
    """Refuse a run that cannot train alone in the memory that is free now.

    The estimate of activations is rough. So the memory must be less than the weights, their gradients and the
    optimiser's state need, or less than half of the whole estimate.

    Args:
        image: shape of the data as the model gets them.

    Raises:
        InputError: there is too little; the message has the numbers.
    """
    whole = models.footprint(spec, image)
    fixed = whole - models.image_footprint(spec, image) * spec.total
    free = free_bytes(find_device(spec.engine.device))
    if free < max(fixed, whole / 2):
        raise InputError(
            f"model={spec.model.name} with batch × workers = {spec.total} needs about {memory.size(whole)} "
            f"of memory in training, {memory.size(fixed)} of them for its weights; "
            f"{memory.size(free)} are free; give a smaller model or batch, or free some"
        )


def stack_bytes(stack: Stack) -> int:
    """Bytes that a stack on a CPU takes in training; takes its step 0.

    It counts what the step saves for the backward pass. It counts the parameters four times: weights,
    gradients and the two states of Adam.
    """
    with SavedBytes() as saved:
        stack.step(0)
    return saved.total + 4 * sum(p.nbytes for p in stack.network.parameters())
