"""Exponential moving average of the weights, and of the running statistics of norms.

    w̄ ← d w̄ + (1 − d) w     after every optimiser step, with d = `optim.ema`; w̄ starts at the initial weights

Training reads only the raw weights, so the average does not change it. Parameters that train are averaged,
and the running statistics of norms in the same way. Evaluation takes the statistics of the raw net or the
averaged ones, see `engine.evaluate`. The singular vectors of `weight=spectral` are those of the raw net.

State:  in the state of the network as `average.<name>`, lane-major as the tensor that it averages. So
        checkpoints and final states hold it.

Reference:  tarvainen2017 — Mean Teachers Are Better Role Models, NIPS 2017, arXiv:1703.01780, §2.
Deviations: the decay is constant; the paper's code raises it in the first steps. With fp16, a step that a
            lane skips also moves the average of this lane, towards the unchanged weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from normbench.norms import Norm


class WeightAverage(nn.Module):
    """The average of a network's weights and running statistics.

    It reads and writes the tensors that the network has now. So the network must not move to another device
    or layout afterwards.

    Args:
        network: on its device, in its layout, with all its banks.
        decay:   d, weight of the old average; 0 < d < 1.

    Attributes:
        names:      the averaged tensors, as the network's state names them: weights, then statistics.
        statistics: the names of the running statistics among them.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        state = network.state_dict()  # views of the network's own memory
        weights = [name for name, p in network.named_parameters() if p.requires_grad]
        in_norms = tuple(f"{name}." for name, m in network.named_modules() if isinstance(m, Norm))
        parameters = {name for name, _ in network.named_parameters()}
        self.statistics = [
            name
            for name, t in state.items()
            if name.startswith(in_norms) and name not in parameters and t.is_floating_point()
        ]
        self.names = [*weights, *self.statistics]
        self._raw = [state[name] for name in self.names]
        for name, t in zip(self.names, self._raw, strict=True):
            # the state has it under its own name, see _save_to_state_dict
            self.register_buffer(_key(name), t.clone(), persistent=False)

    def _averages(self) -> list[Tensor]:
        return [self.get_buffer(_key(name)) for name in self.names]

    @torch.no_grad()
    def restart(self) -> None:
        """Start again at the present weights and statistics."""
        torch._foreach_copy_(self._averages(), self._raw)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present weights and statistics."""
        torch._foreach_lerp_(self._averages(), self._raw, 1 - self.decay)

    @contextmanager
    def in_network(self, *, statistics: bool) -> Iterator[None]:
        """Copy the averaged weights into the network; restore its own at the end.

        Args:
            statistics: copy the averaged running statistics, too.
        """
        taken = [i for i, name in enumerate(self.names) if statistics or name not in self.statistics]
        averages, raw = ([tensors[i] for i in taken] for tensors in (self._averages(), self._raw))
        own = [t.clone() for t in raw]
        with torch.no_grad():
            torch._foreach_copy_(raw, averages)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(raw, own)

    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        for name, t in zip(self.names, self._averages(), strict=True):
            destination[prefix + name] = t if keep_vars else t.detach()


def _key(name: str) -> str:
    """A name without dots, which buffers cannot have."""
    return name.replace(".", "/")
