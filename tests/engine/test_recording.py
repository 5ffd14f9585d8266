"""A recorded function is repeated with the same operations on the same memory."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from normbench.engine.recording import record


class Names(TorchDispatchMode):
    """Lists the names of operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(function._schema.name.removeprefix("aten::"))
        return function(*args, **(kwargs or {}))


def repeated(function, *state: Tensor) -> None:
    """Call a function three times, then record it and repeat it twice: the states must be equal."""
    start = [t.detach().clone() for t in state]
    for _ in range(3):
        function()
    wanted = [t.detach().clone() for t in state]
    with torch.no_grad():
        for t, old in zip(state, start, strict=True):
            t.copy_(old)
    recording = record(function)
    assert recording.refusal == ""
    repeat = recording.function()
    with torch.inference_mode():
        repeat()
        repeat()
    assert all(torch.equal(a, b) for a, b in zip(state, wanted, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(state, start, strict=True)), "the function does nothing"


def test_views_in_place_operations_and_several_results_are_repeated():
    x, y, total = torch.rand(4, 6), torch.rand(6, 4), torch.zeros(2, 6)

    def step() -> None:
        largest, where = (x + y.t()).max(1)
        first, second = largest.split(2)
        first.mul_(second)  # an operation on a view changes the tensor it is a view of
        x[:, ::2].add_(largest.unsqueeze(1) * 0.1)
        x.view(2, 12)[1].sub_(where.to(x.dtype).repeat(3))
        torch.add(total, x[:2], out=total)
        torch._foreach_mul_([total, y], [0.5, 0.25])

    repeated(step, x, y, total)


def test_the_backward_pass_is_repeated():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    x, labels = torch.rand(5, 3, 6, 6), torch.arange(5)

    def step() -> None:
        loss = F.cross_entropy(net(x), labels)
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for p, g in zip(net.parameters(), gradients, strict=True):
                p.sub_(g, alpha=0.1)
            x.mul_(0.9)

    moved = [net[1].running_mean, net[1].running_var]
    repeated(step, *(p for p in net.parameters()), *moved, x)


def test_an_operation_whose_declaration_hides_what_it_changes_is_repeated():
    """torch declares that batch_norm returns tensors, not that it moves the running statistics."""
    x, mean, var = torch.rand(8, 3), torch.zeros(3), torch.ones(3)

    def step() -> None:
        F.batch_norm(x, mean, var, training=True, momentum=1.0)
        x.add_(mean / var)

    repeated(step, x, mean, var)


def test_random_numbers_are_drawn_anew_even_if_nobody_reads_them():
    x = torch.zeros(100)

    def step() -> None:
        torch.rand(7)
        x.add_(torch.rand(100))

    torch.manual_seed(3)
    for _ in range(3):
        step()
    wanted = x.clone()
    torch.manual_seed(3)
    x.zero_()
    repeat = record(step).function()
    repeat()
    repeat()
    assert torch.equal(x, wanted)


def test_a_view_of_a_tensor_from_outside_is_made_once():
    x = torch.rand(4, 6)

    def step() -> None:
        x.t()[1:].view(-1, 2, 2)[:, 0].mul_(2)

    repeat = record(step).function()
    with Names() as names:
        repeat()
    assert names.seen == ["mul_"]


def test_intermediate_tensors_are_freed_while_a_function_is_recorded_and_repeated():
    x, seen = torch.rand(1000), []

    def step() -> None:
        made = x * 2
        seen.append(StorageWeakRef(made.untyped_storage()))
        x.copy_((made + 1).sin())

    gc.disable()
    try:
        recording = record(step)
        assert [reference.expired() for reference in seen] == [True]
    finally:
        gc.enable()
    alive = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            alive.append(sum(not r.expired() for r in references))
            if isinstance(out, Tensor) and out is not x:
                references.append(StorageWeakRef(out.untyped_storage()))
            return out

    references: list[StorageWeakRef] = []
    with Watching():
        recording.function()()
    # mul, add, sin, copy_: of the tensors made before each, those that later operations read are alive
    assert alive == [0, 1, 1, 1]


def mask_of_values(x: Tensor) -> Tensor:
    return x[x > 0.5]


@pytest.mark.parametrize(
    "reads",
    [lambda x: x.sum().item(), lambda x: bool(x[0] > 0), mask_of_values, lambda x: x.clone().resize_(2)],
    ids=["item", "bool", "mask", "resize"],
)
def test_what_depends_on_values_or_moves_memory_is_refused(reads):
    x = torch.rand(5)
    assert "reads values or moves memory" in record(lambda: reads(x)).refusal


def test_a_tensor_without_memory_of_its_own_is_refused():
    assert "without memory" in record(lambda: torch.eye(3).to_sparse().sum()).refusal


def test_recordings_of_one_function_do_not_differ():
    x = torch.rand(5)
    first, second = (record(lambda: x.mul_(0.5).add_(1)) for _ in range(2))
    assert second.difference(first) == ""


def changing(what: str):
    """A function whose calls differ in one respect."""
    x, others, calls = torch.rand(4), [torch.rand(4) for _ in range(3)], []

    def step() -> None:
        n = len(calls)
        calls.append(n)
        if what == "number":
            x.mul_(1.0 + n)
        elif what == "memory":
            x.mul_(others[n])
        elif what == "new tensor":
            x.mul_(torch.tensor(2.0))
        elif what == "shape":
            x[: n + 1].mul_(2)
        elif what == "dtype":
            x.to(torch.float64 if n else torch.float16)
        elif what == "operation":
            (x.mul_ if n else x.add_)(2)
        elif what == "count":
            for _ in range(n):
                x.mul_(2)

    return step


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("number", "aten.mul_.Tensor has other arguments"), ("memory", "aten.mul_.Tensor has other"),
        ("new tensor", "has other arguments"), ("shape", "aten.mul_.Tensor has other arguments"),
        ("dtype", "aten._to_copy.default has other arguments"), ("operation", "has other arguments"),
        ("count", "a step has 1 operations, an earlier one 0"),
    ],
)  # fmt: skip
def test_the_first_difference_between_recordings_is_named(what, said):
    step = changing(what)
    first, second = record(step), record(step)
    assert said in second.difference(first)
