"""How stacks are packed: how many lanes, how they lie in memory, how their convolutions are computed.

None of it changes a result beyond rounding. What pays depends on device, model and images per step; it is
measured by stacks of 1, 2, 4, … lanes until more of them pay no longer, which is not believed at once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from normbench.engine.device import layout
from normbench.models import Network
from normbench.models.convolution import ALGORITHMS
from normbench.models.layers import Conv2d
from normbench.spec import EngineSpec

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
#: What a step of a lane may cost more than in the best stack: fewer lanes that do as well are as good, and
#: beyond that more lanes do harm.
AS_GOOD, WORSE = 1.03, 1.05


@dataclass(frozen=True)
class Form:
    """How a stack lies in memory and computes its convolutions.

    layout:      a key of LAYOUTS.
    convolution: a key of `models.convolution.ALGORITHMS`, of all layers but the exceptions.
    exceptions:  another key by the name of a layer.
    """

    layout: str
    convolution: str = "grouped"
    exceptions: Mapping[str, str] = field(default_factory=dict)

    @property
    def memory_format(self) -> torch.memory_format:
        return LAYOUTS[self.layout]

    def shape(self, network: Network) -> None:
        """Let a network be of this form: its weights, and how its convolutions are computed."""
        network.to(memory_format=self.memory_format)
        for name, layer in convolutions(network).items():
            layer.algorithm = self.exceptions.get(name, self.convolution)


@dataclass(frozen=True)
class Trial:
    """Steps of a stack on this machine: seconds of one step by lane, and bytes of the whole stack."""

    lanes: int
    form: Form
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Packing:
    """How runs of a kind are packed.

    lanes:  the most of a stack.
    source: where that number comes from, in words.
    form:   of stacks where nothing was measured.
    trials: what was measured.
    """

    lanes: int
    source: str
    form: Form
    trials: tuple[Trial, ...] = ()

    def at(self, lanes: int) -> Form:
        """The form of a stack of so many lanes: that which was best with about as many."""
        nearest = min(self.trials, key=lambda t: abs(math.log(t.lanes / lanes)), default=None)
        return self.form if nearest is None else nearest.form

    def __str__(self) -> str:
        lanes = f"at most {self.lanes} lane{'s' * (self.lanes > 1)} a stack {self.source}"
        return f"{lanes}, {self.at(self.lanes).layout}"


def layouts(engine: EngineSpec) -> list[str]:
    """The layouts to choose from."""
    return list(LAYOUTS) if engine.layout == "auto" else [engine.layout]


def algorithms(engine: EngineSpec) -> list[str]:
    """The convolutions to choose from."""
    return list(ALGORITHMS) if engine.convolution == "auto" else [engine.convolution]


def usual(engine: EngineSpec, device: torch.device) -> Form:
    """The form where nothing was measured."""
    usual = next(name for name, order in LAYOUTS.items() if order == layout(device))
    return Form(usual if engine.layout == "auto" else engine.layout, algorithms(engine)[0])


def convolutions(network: Network) -> dict[str, Conv2d]:
    """The convolutions of a network by name."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, Conv2d)}


def computed(network: Network) -> str:
    """How the convolutions of a network are computed, with the numbers of layers where not all are alike.

    For example: grouped, or 17 grouped, 2 matmul; "" where there are none.
    """
    kinds = [layer.algorithm if layer.lanes > 1 else "ordinary" for layer in convolutions(network).values()]
    counts = Counter(kinds).most_common()
    return ", ".join(kind if count == len(kinds) else f"{count} {kind}" for kind, count in counts)


def climbed(trials: Mapping[int, Trial]) -> list[Trial]:
    """What is known of 1, 2, 4, … lanes, without a gap."""
    found: list[Trial] = []
    while (trial := trials.get(2 ** len(found))) is not None:
        found.append(trial)
    return found


def best(trials: Sequence[Trial]) -> int:
    """The fewest lanes whose steps are as good as the best."""
    least = min(trial.seconds for trial in trials)
    return min(trial.lanes for trial in trials if trial.seconds <= AS_GOOD * least)


def following(trials: Sequence[Trial], most: int, least: int = 1) -> int | None:
    """How many lanes to try after 1, 2, 4, …: twice as many, until there are `most` or, from `least` on, the
    steps were worse twice in a row, for once may be a neighbour's doing; None then.
    """
    if not trials:
        return 1
    last = trials[-1].lanes
    bound = WORSE * min(trial.seconds for trial in trials)
    worse = all(trial.seconds > bound for trial in trials[-2:])
    return None if last >= most or (worse and last >= least) else 2 * last
