"""A clock that waits for the GPU, and a counter of the bytes that autograd saves."""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def now(device: torch.device) -> float:
    """The time in seconds, read after all work on the device has ended. Only differences are meaningful."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class SavedBytes:
    """Counts the bytes that autograd saves for the backward pass while this context manager is entered.

    Tensors that share a storage count once, with the bytes of the whole storage. Keep the outputs of the
    forward pass alive until the end, because a new storage may get the address of a freed one.

    Args:
        without: tensors whose storages do not count, such as parameters.

    >>> x = torch.ones(4, requires_grad=True)
    >>> with SavedBytes() as saved:
    ...     y = x.exp()
    >>> saved.total
    16
    """

    def __init__(self, without: Iterable[Tensor] = ()) -> None:
        self._without = {tensor.untyped_storage().data_ptr() for tensor in without}
        self._bytes: dict[int, int] = {}  # by address of the storage
        self._hooks = saved_tensors_hooks(self._count, lambda tensor: tensor)

    @property
    def total(self) -> int:
        """Bytes counted so far."""
        return sum(self._bytes.values())

    def __enter__(self) -> SavedBytes:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._without:
            self._bytes[storage.data_ptr()] = storage.nbytes()
        return tensor
