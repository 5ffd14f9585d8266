"""CUDA graphs of a step: captured once, replayed with one call from then on.

At micro-batches a step is hundreds of kernels of a few microseconds each; launching them one by one takes
longer than running them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

#: Runs of a step before it is captured: libraries choose kernels and allocate their workspaces.
WARM_UP = 3


class Graphs:
    """Replays a function that works on the same tensors every time, one graph for each of its phases.

    Capturing leaves the state as it was: what the warm-up changed, batch norm's statistics among it, is put
    back. A function that cannot be captured is called instead.

    Args:
        perform: the function; it takes and returns nothing.
        state:   every tensor that it changes.

    Attributes:
        refusal: why it is called and not replayed; "" while it is replayed.
    """

    def __init__(self, perform: Callable[[], None], state: Callable[[], Sequence[Tensor]]) -> None:
        self.perform, self.state = perform, state
        self.refusal = ""
        self._captured: dict[Hashable, torch.cuda.CUDAGraph] = {}

    def __call__(self, phase: Hashable) -> None:
        """Perform once. In one phase all calls are the same operations on the same memory."""
        if not self.refusal and phase not in self._captured:
            self._capture(phase)
        if self.refusal:
            self.perform()
        else:
            self._captured[phase].replay()

    def _capture(self, phase: Hashable) -> None:
        before = [tensor.detach().clone() for tensor in self.state()]
        graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    self.perform()
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(graph):
                self.perform()
            self._captured[phase] = graph
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:  # a kernel that waits for the host, such as an eigendecomposition
            self.refusal = str(error).strip().splitlines()[0]
            self._captured.clear()
            torch.cuda.synchronize()
        with torch.no_grad():
            for tensor, old in zip(self.state(), before, strict=True):
                tensor.copy_(old)
