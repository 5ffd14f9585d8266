"""One optimiser step of a stack, from images to counted errors.

First, everything that depends on the number of the step is written into tensors. The rest is the same
operations on the same memory at every step. So a GPU can replay it as one CUDA graph, and a CPU as a list of
operations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from normbench.data.batches import Batches
from normbench.engine.device import casting
from normbench.engine.evaluate import lane_losses
from normbench.engine.graph import Graphs
from normbench.engine.meters import Meters, count_errors
from normbench.engine.optim import Optimizer
from normbench.engine.partners import Partners
from normbench.engine.replay import Replays
from normbench.engine.schedule import multiplier
from normbench.models import Network
from normbench.spec import RunSpec


class Step:
    """A call trains a stack by one step.

    Args:
        spec:      the settings that the lanes share, including `engine.compile` and `engine.graphs`.
        steps:     length of the runs.
        network:   K lanes, in training mode, on its device.
        optimizer: of the network's parameters.
        batches:   the images of every step.
        meters:    count losses and errors.
        partners:  the ranks that train the stack together; None: this process trains it alone.
    """

    def __init__(
        self,
        spec: RunSpec,
        steps: int,
        network: Network,
        optimizer: Optimizer,
        batches: Batches,
        meters: Meters,
        partners: Partners | None = None,
    ) -> None:
        self.spec, self.steps = spec, steps
        self.network, self.optimizer, self.batches, self.meters = network, optimizer, batches, meters
        self.device = optimizer.parameters[0].device
        self.partners = partners
        self._part = None if partners is None else partners.ranks.part(spec.total)
        self._forward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = Forward(spec, network, self.device)
        if spec.engine.compile:
            torch.compiler.reset()  # torch stops to compile silently after eight stacks in a process
            _graph_breaks().clear()
            self._forward = torch.compile(self._forward, dynamic=False)
        wanted = spec.engine.graphs == "auto" or spec.engine.graphs is True
        refusal = network.waits_for_host() or ("" if partners is None else partners.waits_for_host)
        required = spec.engine.graphs is True
        self._graphs: Graphs | Replays | None = None
        if wanted and self.device.type == "cuda":
            self._graphs = Graphs(self._perform, self.state, refusal=refusal, required=required)
        elif wanted and not spec.engine.compile:  # compiled code is not seen while a step is recorded
            self._graphs = Replays(self._perform, refusal=refusal, required=required)
        self._replayed: bool | str = self._graphs is not None

    def __call__(self, number: int) -> None:
        """Take step `number`, counted from 0."""
        self.network.begin_step(number, self.steps)
        self.batches.seek(number, self._part)
        self.optimizer.begin_step(multiplier(self.spec.schedule, number, self.steps))
        self.meters.steps += 1
        if self._graphs is None:
            self._perform()
            return
        phase = self.network.phase(number, self.steps)
        if isinstance(self._graphs, Replays):
            self._graphs(phase, last=number == self.steps - 1)
        else:
            self._graphs(phase)

    @property
    def graphs(self) -> bool | str:
        """Whether steps are replayed, or the reason why they cannot be."""
        return self._replayed if self._graphs is None else self._graphs.refusal or True

    @property
    def graph_breaks(self) -> int | None:
        """How often torch.compile has divided the forward pass; None if it is not compiled."""
        return sum(_graph_breaks().values()) if self.spec.engine.compile else None

    def close(self) -> None:
        """Free what is replayed and what was compiled. No step can follow."""
        if self._graphs is not None:
            self._replayed = self.graphs
            self._graphs.release()
            self._graphs = None  # it refers to this step
        if self.spec.engine.compile:
            torch.compiler.reset()

    def state(self) -> list[Tensor]:
        """Every tensor that a step changes."""
        own = [*self.optimizer.parameters, *self.network.buffers(), *self.optimizer.tensors()]
        return [*own, *self.meters.tensors()]

    def _perform(self) -> None:
        """Train by one step. Only tensors that were set before may depend on the number of the step."""
        x, y = self.batches.read()
        with self.network.moving_statistics(), self._holding():
            losses, logits = self._forward(x, y)
        scaled = losses if self.optimizer.scale is None else self.optimizer.scale(losses)
        if self.partners is not None:
            scaled = self.partners.share(scaled)
        # PERF: torch imports sympy to check the shapes of grad_outputs, which takes half a second
        gradients: Sequence[Tensor] = torch.autograd.grad(scaled.sum(), self.optimizer.parameters)
        with torch.no_grad():
            errors = count_errors(logits, y)
            if self.partners is not None:
                gradients, losses, errors = self.partners.combine(gradients, losses, errors)
            self.optimizer.step(gradients)
            if self.network.average is not None:
                self.network.average.update()
            self.meters.add(losses, errors)

    def _holding(self) -> AbstractContextManager[None]:
        """The context of a forward pass of this rank's part of a step."""
        return nullcontext() if self.partners is None else self.partners.holding()


def _graph_breaks() -> Counter[str]:
    """How often torch's compiler has divided a function, by reason."""
    from torch._dynamo.utils import counters  # PERF: it takes 2 s, so other runs never import it

    return counters["graph_break"]


class Forward:
    """The forward pass of a stack in training. Hooks of modules are not called.

    It does not refer to the step, so a step is freed without the collector.

    Args:
        spec:    the settings that the lanes share.
        network: K lanes.
        device:  of the network.
    """

    def __init__(self, spec: RunSpec, network: Network, device: torch.device) -> None:
        self.spec, self.network, self.device = spec, network, device
        self.layers = list(in_a_row(network.body))

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss of every lane, (K,), and the logits, (N, K, classes)."""
        with casting(self.spec.engine, self.device):
            for layer in self.layers:
                x = layer.forward(x)  # PERF: a call of a module takes three more calls
            logits = self.network.logits(x)
        return lane_losses(logits, y, self.spec.optim.label_smoothing).mean(0), logits


def in_a_row(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that a module calls one after the other; itself if it is no Sequential."""
    if type(module) is nn.Sequential:
        for child in module:
            yield from in_a_row(child)
    elif type(module) is not nn.Identity:
        yield module
