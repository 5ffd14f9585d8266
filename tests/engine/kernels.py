"""Counts the operations of a step that start a kernel on a GPU, on a CPU."""

from __future__ import annotations

from collections import Counter

from torch.utils._python_dispatch import TorchDispatchMode

#: Operations that only allocate memory or describe a tensor.
NO_KERNEL = (
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias",
    "is_same_size", "_unsafe_view", "_reshape_alias",
)  # fmt: skip


class Kernels(TorchDispatchMode):
    """Counts operations by name, except those that return a view or only allocate memory.

    An operation counts once, though some start several kernels. A call on a list of tensors counts once, too:
    torch has kernels for lists.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.removeprefix("aten::")
        if not (function.is_view or name in NO_KERNEL):
            self.calls[name] += 1
        return function(*args, **(kwargs or {}))
