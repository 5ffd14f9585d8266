"""CUDA graphs of a step: captured once, then replayed with one call.

At small batches a step is hundreds of kernels of a few microseconds each. Launching them one by one takes
longer than running them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

#: Number of steps before the capture. In them libraries choose kernels and allocate their workspaces.
WARM_UP = 3


class Graphs:
    """Captures a function that always uses the same tensors and replays it, with one graph per phase.

    Capturing does not change the state: changes of the warm-up, such as those of running statistics, are
    undone. If the function cannot be captured, it is called in every step.

    Args:
        perform: the function, without arguments and result.
        state:   returns every tensor that the function changes.

    Attributes:
        refusal: reason why the function cannot be captured; empty if it is replayed.
    """

    def __init__(self, perform: Callable[[], None], state: Callable[[], Sequence[Tensor]]) -> None:
        self.perform, self.state = perform, state
        self.refusal = ""
        self._captured: dict[Hashable, torch.cuda.CUDAGraph] = {}

    def __call__(self, phase: Hashable) -> None:
        """Perform once. All calls with the same phase are the same operations on the same memory."""
        if not self.refusal and phase not in self._captured:
            self._capture(phase)
        if self.refusal:
            self.perform()
        else:
            self._captured[phase].replay()

    def _capture(self, phase: Hashable) -> None:
        before = [tensor.detach().clone() for tensor in self.state()]
        graph = torch.cuda.CUDAGraph()
        warm_up_stream = torch.cuda.Stream()
        warm_up_stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(warm_up_stream):
                for _ in range(WARM_UP):
                    self.perform()
            torch.cuda.current_stream().wait_stream(warm_up_stream)
            with torch.cuda.graph(graph):
                self.perform()
            self._captured[phase] = graph
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:  # an operation that waits for the host, such as an eigendecomposition
            self.refusal = str(error).strip().splitlines()[0]
            self._captured.clear()
            torch.cuda.synchronize()
        with torch.no_grad():
            for tensor, old in zip(self.state(), before, strict=True):
                tensor.copy_(old)
