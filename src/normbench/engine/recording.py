"""Records the operations of a function, and makes a Python function that only calls these operations.

A training step is a few hundred operations of a few microseconds each. Around them are modules, views that
are made anew, and the nodes of autograd. In a small network these take longer than the operations. The
operations of the backward pass are recorded, too, so a repetition needs no autograd.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Graph, Node
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

#: Operations whose results depend on values, so that a repetition could not follow them.
_READS_VALUES = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
#: Operations that change which memory a tensor has.
_MOVES_MEMORY = ("aten::set_", "aten::resize_", "aten::resize_as_")
_aten = torch.ops.aten
#: PERF: a method of a tensor takes half the time of the operation that it calls.
_METHODS = {
    _aten.view.default: "view",
    _aten.transpose.int: "transpose",
    _aten.permute.default: "permute",
    _aten.squeeze.dim: "squeeze",
    _aten.unsqueeze.default: "unsqueeze",
}

Place = tuple[int, int, torch.Size, tuple[int, ...], torch.dtype]  # storage, offset, shape, strides, type


@dataclass(frozen=True)
class Made:
    """A tensor that the recorded function makes: a result of a call, both counted from 0."""

    call: int
    result: int


class Kept:
    """A tensor that exists before the recorded function is called. Equal to others at the same memory."""

    def __init__(self, tensor: Tensor, place: Place) -> None:
        self.tensor, self.place = tensor, place

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kept) and self.place == other.place

    def __hash__(self) -> int:
        return hash(self.place)


class Call(NamedTuple):
    """One operation. Tensors among the arguments are `Made` or `Kept`."""

    function: OpOverload
    args: Any
    kwargs: Any
    results: int | None  # their number if the operation returns several; None: it returns one or nothing


class Recording:
    """The operations of a function that was called once.

    Attributes:
        calls:   in their order.
        refusal: why they cannot be repeated; empty if they can.
    """

    def __init__(self, calls: Sequence[Call], refusal: str) -> None:
        self.calls, self.refusal = tuple(calls), refusal

    def difference(self, other: Recording) -> str:
        """The first operation that differs from another recording of the function; empty if none does."""
        if self.refusal or other.refusal:
            return self.refusal or other.refusal
        for mine, theirs in zip(self.calls, other.calls, strict=False):
            if mine != theirs:
                return f"{mine.function} has other arguments than in an earlier step"
        if len(self.calls) != len(other.calls):
            return f"a step has {len(self.calls)} operations, an earlier one {len(other.calls)}"
        return ""

    def function(self) -> Callable[[], None]:
        """A function that calls the operations. Each intermediate tensor is freed after its last use.

        Gradients must be off when it is called.
        """
        graph, kept = Graph(), list(dict.fromkeys(_leaves(self.calls, Kept)))
        nodes: dict[Made | Kept, Node] = {
            outside: graph.placeholder(f"kept_{number}") for number, outside in enumerate(kept)
        }
        used = set(_leaves(self.calls, Made))
        for number, call in enumerate(self.calls):
            args, kwargs = _mapped(call.args, nodes), _mapped(call.kwargs, nodes)
            if name := _METHODS.get(call.function):
                node = graph.call_method(name, args, kwargs)
            else:
                node = graph.call_function(call.function, args, kwargs)
            if call.results is None:
                nodes[Made(number, 0)] = node
            for result in map(partial(Made, number), range(call.results or 0)):
                if result in used:
                    nodes[result] = graph.call_function(operator.getitem, (node, result.result))
        graph.output(None)
        code = graph.python_code("self")
        namespace = dict(code.globals)
        exec(code.src, namespace)  # the source has the names of operations and numbers, nothing of a user's
        return partial(namespace["forward"], None, *(outside.tensor for outside in kept))


class _Recorder(TorchDispatchMode):
    """Lists the operations that torch carries out. It sees those below autograd."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.refusal = ""
        self._made: dict[Place, Made] = {}
        # held weakly: the memory is freed as in every step, but its number is not given to other memory
        self._storages: dict[int, StorageWeakRef] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # PERF: torch would import its compiler, which takes a second

    def __torch_dispatch__(
        self, function: OpOverload, types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        named = self._named(args), self._named(kwargs)
        name = function._schema.name
        if any(tag in function.tags for tag in _READS_VALUES) or name in _MOVES_MEMORY:
            self.refusal = self.refusal or f"{function} reads values or moves memory"
        out = function(*args, **kwargs)
        several = isinstance(out, tuple | list)
        made = partial(Made, len(self.calls))
        new = [
            self._see(tensor, made(number), named)
            for number, tensor in enumerate(out if several else (out,))
            if isinstance(tensor, Tensor)
        ]
        if any(new) or not function.is_view:
            self.calls.append(Call(function, *named, len(out) if several else None))
        return out

    def _see(self, tensor: Tensor, made: Made, given: Any) -> bool:
        """Note a result. Returns whether this call makes it anew in every repetition."""
        place = place_of(tensor)
        if place is None:
            self.refusal = self.refusal or "a step makes a tensor without memory of its own"
            return False
        if place in self._made:
            return False
        if place[0] not in self._storages:
            if any(kept.place[0] == place[0] for kept in _leaves(given, Kept)):
                return False  # a view of a tensor from outside is made once, not in every repetition
            self._storages[place[0]] = StorageWeakRef(tensor.untyped_storage())
        self._made[place] = made
        return True

    def _named(self, given: Any) -> Any:
        """Arguments with every tensor replaced."""
        if isinstance(given, Tensor):
            place = place_of(given)
            if place is None:
                self.refusal = self.refusal or "a step uses a tensor without memory of its own"
                return None
            if place in self._made:
                return self._made[place]
            if place[0] in self._storages:
                self.refusal = self.refusal or "a step uses a view whose making is not seen"
            return Kept(given, place)
        if isinstance(given, tuple | list):
            return [self._named(each) for each in given]
        if isinstance(given, dict):
            return {key: self._named(value) for key, value in given.items()}
        return given


def record(function: Callable[[], None]) -> Recording:
    """Call a function, and record its operations."""
    with _Recorder() as recorder:
        function()
    return Recording(recorder.calls, recorder.refusal)


def place_of(tensor: Tensor) -> Place | None:
    """The memory of a tensor and how it is read; None if it has no memory of its own, as a sparse one."""
    if tensor.layout != torch.strided:
        return None
    memory = tensor.untyped_storage()._cdata
    return memory, int(tensor.storage_offset()), tensor.shape, tensor.stride(), tensor.dtype


def _leaves(given: Any, kind: type) -> Iterator[Any]:
    """The arguments of a kind in nested lists, in order."""
    if isinstance(given, kind):
        yield given
    elif isinstance(given, dict):
        yield from _leaves(list(given.values()), kind)
    elif isinstance(given, tuple | list):
        for each in given:
            yield from _leaves(each, kind)


def _mapped(given: Any, nodes: Mapping[Any, Node]) -> Any:
    """Arguments with every tensor replaced by its node."""
    if isinstance(given, Made | Kept):
        return nodes[given]
    if isinstance(given, tuple | list):
        return tuple(_mapped(each, nodes) for each in given)
    if isinstance(given, dict):
        return {key: _mapped(value, nodes) for key, value in given.items()}
    return given
