"""CUDA graphs of a step: captured once, then replayed with one call.

At small batches a step is hundreds of kernels of a few microseconds each. Launching them one by one takes
longer than running them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from normbench.errors import RunFailure

#: Number of steps before the capture. In them libraries choose kernels and allocate their workspaces.
WARM_UP = 3
#: What torch warns of if a capture has recorded nothing.
EMPTY = "The CUDA Graph is empty"


class Graphs:
    """Captures a function that always uses the same tensors and replays it. A graph holds one phase.

    Capturing does not change the state: changes of the warm-up, such as those of running statistics, are
    undone. If the function cannot be captured, it is called in every step. At most one graph exists at a
    time: the graph of the last phase is freed before the next phase is captured.

    Args:
        perform:  the function, without arguments and result.
        state:    returns every tensor that the function changes.
        refusal:  reason why the function cannot be captured, if it is known; then no capture is tried.
        required: whether a function that cannot be captured is an error.

    Attributes:
        refusal: reason why the function cannot be captured; empty if it is replayed.

    Raises:
        RunFailure: the function cannot be captured although it must be, or a capture has recorded nothing.
    """

    def __init__(
        self,
        perform: Callable[[], None],
        state: Callable[[], Sequence[Tensor]],
        *,
        refusal: str = "",
        required: bool = False,
    ) -> None:
        self.perform, self.state, self.required = perform, state, required
        self.refusal = ""
        if refusal:
            self._refuse(refusal)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._phase: Hashable = None

    def __call__(self, phase: Hashable) -> None:
        """Perform once. All calls with the same phase are the same operations on the same memory."""
        if not self.refusal and (self._graph is None or phase != self._phase):
            self._capture(phase)
        if self._graph is None:
            self.perform()
        else:
            self._graph.replay()

    def release(self) -> None:
        """Free the graph and its memory."""
        if self._graph is not None:
            self._graph.reset()
        self._graph = None

    def _refuse(self, why: str) -> None:
        if self.required:
            raise RunFailure(
                f"engine.graphs=true, but a step cannot be captured as a CUDA graph: {why}; "
                "use engine.graphs=auto"
            )
        self.refusal = why

    def _capture(self, phase: Hashable) -> None:
        self.release()
        before = [tensor.detach().clone() for tensor in self.state()]
        stream = _side_stream(torch.cuda.current_device())
        why = ""
        try:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP - 1):
                    self.perform()
                with _waiting_refused():
                    self.perform()
            torch.cuda.current_stream().wait_stream(stream)
            self._graph, self._phase = captured(self.perform, stream), phase
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:  # an operation that waits for the host, such as an eigendecomposition
            why = next(iter(str(error).strip().splitlines()), type(error).__name__)
            torch.cuda.synchronize()
        with torch.no_grad():
            for tensor, old in zip(self.state(), before, strict=True):
                tensor.copy_(old)
        if why:
            self._refuse(why)


def captured(perform: Callable[[], None], stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    """Capture a function on a stream, in a memory pool of its own.

    Before version 2.12, torch does not clean up after a failed capture: the capture's stream stays the
    current one, and the allocator serves the capture's pool until the process ends. Both are mended here.

    Raises:
        RunFailure: the function launched nothing on the stream, so a replay would do nothing.
        Exception:  what the function raised, otherwise what the end of the capture raised.
    """
    graph, pool, outer = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle(), torch.cuda.current_stream()
    first: list[Exception] = []
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=EMPTY)
            with torch.cuda.graph(graph, pool=pool, stream=stream):
                try:
                    perform()
                except Exception as error:  # the end of the capture raises, too, and would hide this one
                    first.append(error)
                    raise
    except Exception as error:
        torch.cuda.set_stream(outer)
        _end_allocation(pool)
        if isinstance(error, UserWarning) and not first:
            raise RunFailure(
                "the CUDA graph of a step is empty: its operations ran on another device or stream"
            ) from None
        raise (first or [error])[0] from None
    return graph


def _end_allocation(pool: tuple[int, int]) -> None:
    """Let the allocator stop serving the pool of a failed capture, and free the pool."""
    device, internal = torch.cuda.current_device(), cast(Any, torch._C)
    end = getattr(internal, "_cuda_endAllocateToPool", None)
    end = end or internal._cuda_endAllocateCurrentStreamToPool  # its name before torch 2.8
    try:
        end(device, pool)
    except RuntimeError:  # torch has done so itself
        return
    internal._cuda_releasePool(device, pool)


@cache  # torch has 32 streams, and the allocator keeps memory for each that was used
def _side_stream(device: int) -> torch.cuda.Stream:
    """The stream of a device on which steps are warmed up and captured."""
    return torch.cuda.Stream(device)


@contextmanager
def _waiting_refused() -> Iterator[None]:
    """Let operations that wait for the GPU raise a RuntimeError, as far as torch can see them."""
    before = torch.cuda.get_sync_debug_mode()
    _set_sync_debug_mode("error")
    try:
        yield
    finally:
        _set_sync_debug_mode(before)


def _set_sync_debug_mode(mode: int | str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that it does not see all of them
        torch.cuda.set_sync_debug_mode(mode)
