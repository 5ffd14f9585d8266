"""The final state of a run as a file: weights and the run's own statistics.

The format is safetensors, which contains no code. Tensors have the names and shapes of a lone run, see
`engine.state`. The metadata contain the signature, the number of finished steps and the key of the norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from normbench import models
from normbench.data.shape import Shape
from normbench.engine.device import STORAGE
from normbench.engine.lane_assignment import LaneAssignment
from normbench.engine.state import fill, split
from normbench.models import Network
from normbench.spec import RunSpec


def final_states(network: Network, assignment: LaneAssignment) -> list[dict[str, Tensor]]:
    """The tensors that evaluation needs, by name, on the CPU: one dict per run, in the order of the runs."""
    return split(network.state_dict(), assignment)


def load_final_states(
    network: Network, assignment: LaneAssignment, states: Sequence[dict[str, Tensor]]
) -> None:
    """Copy the final states of runs into a network that was built for them.

    Raises:
        ValueError: a state belongs to another network.
    """
    fill(network.state_dict(), assignment, states)


def to_bytes(state: dict[str, Tensor], spec: RunSpec, steps: int) -> bytes:
    """The content of the file of a final state after so many steps of a run."""
    contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
    about = {"signature": spec.signature, "steps": str(steps), "norm": spec.norm.name}
    content: bytes = save(contiguous, about)
    return content


def read(file: Path, signature: str) -> dict[str, Tensor]:
    """Read the final state of a run.

    Raises:
        ValueError: the file cannot be read, or it belongs to another run.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            found = (opened.metadata() or {}).get("signature")
            if found != signature:
                raise ValueError(f"it is the final state of run {found}")
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file} cannot be read: {error}; remove it, and the run trains again") from None


def state_bytes(spec: RunSpec, image: Shape) -> int:
    """Bytes of the final state of one run.

    Raises:
        InputError: the run cannot be built.
    """
    key = spec.stack_key(), image
    if key not in _sizes:
        network = models.build([spec], image, dry=True)
        network.add_average(spec.optim.ema)
        width = STORAGE[spec.engine.precision]
        _sizes[key] = sum(
            t.numel() * (width.itemsize if t.is_floating_point() else t.itemsize)
            for t in network.state_dict().values()
        )
    return _sizes[key]


_sizes: dict[tuple[str, Shape], int] = {}  # PERF: many runs of a sweep share a stack key
