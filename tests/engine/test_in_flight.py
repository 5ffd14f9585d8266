"""Evaluation takes as many images at a time as memory holds, and fewer if memory runs out."""

from __future__ import annotations

import os
from itertools import chain

import pytest
import torch

from normbench import data, memory, models
from normbench.data.shape import Shape
from normbench.engine import evaluate, free_memory, in_flight
from normbench.engine.in_flight import images_in_flight, in_pieces
from normbench.engine.stack import Stack

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
CIFAR = Shape(3, 32, 10, 50000, 10000)


@pytest.mark.parametrize("gibibytes", [1, 10, 70])
@pytest.mark.parametrize("model", ["mlp", "resnet50"])
@pytest.mark.parametrize("lanes", [1, 64])
def test_images_on_a_gpu_fit_into_its_free_memory(make_spec, monkeypatch, gibibytes, model, lanes):
    monkeypatch.setattr(in_flight, "free_bytes", lambda device: gibibytes * 2**30)
    spec = make_spec(f"model={model}", "data=cifar10", "batch=2")
    images = images_in_flight(spec, CIFAR, lanes, CUDA)
    taken = images * lanes * models.image_footprint(spec, CIFAR)
    assert taken <= gibibytes * 2**30 / 2 or images == 1
    assert images & (images - 1) == 0
    assert images * lanes <= 8192
    if model == "mlp":
        assert images * lanes == 8192


def test_images_on_a_cpu_stay_in_its_cache(make_spec):
    assert [images_in_flight(make_spec(), CIFAR, lanes, CPU) for lanes in (1, 32, 300)] == [256, 8, 1]


def work_with(memory: int, calls: list[int]):
    """A stand-in for a forward pass on a GPU that holds so many images at a time."""

    def work(some: slice) -> list[int]:
        calls.append(some.stop - some.start)
        if some.stop - some.start > memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(range(some.start, some.stop))

    return work


def test_a_piece_is_halved_if_memory_runs_out_and_no_image_is_lost():
    calls: list[int] = []
    pieces = list(in_pieces(30, 16, 2, work_with(5, calls)))
    assert list(chain(*pieces)) == list(range(30))
    assert calls == [16, 8, *[4] * 7, 2]


def test_pieces_hold_whole_units_and_one_unit_that_does_not_fit_is_an_error():
    calls: list[int] = []
    assert list(chain(*in_pieces(12, 12, 3, work_with(4, calls)))) == list(range(12))
    assert calls == [12, 6, 3, 3, 3, 3]
    with pytest.raises(torch.OutOfMemoryError):
        list(in_pieces(12, 6, 3, work_with(2, [])))


def test_evaluation_gives_the_same_metrics_if_memory_runs_out(make_spec, monkeypatch):
    words = ["model=mlp", "data=synthetic", "data.train_size=64", "data.test_size=50", "batch=4", "steps=1"]
    spec = make_spec(*words, "engine.precision=fp64")
    dataset = data.load(spec.data)
    stack = Stack([spec], dataset, CPU)
    whole = evaluate.evaluate(stack.network, dataset, spec)
    sizes, body = [], stack.network.body

    def scarce(module, inputs):
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 15:
            raise torch.OutOfMemoryError("CUDA out of memory")

    body.register_forward_pre_hook(scarce)
    monkeypatch.setattr(evaluate, "folded", lambda network, spec, images: network)
    assert evaluate.evaluate(stack.network, dataset, spec) == [
        [pytest.approx(lane, rel=1e-12) for lane in bank] for bank in whole
    ]
    assert max(sizes) > 15
    assert sum(size for size in sizes if size <= 15) == 50


def test_free_memory_is_known_on_systems_without_sysconf(monkeypatch):
    """Windows has neither /proc/meminfo nor os.sysconf."""
    monkeypatch.setattr(memory.Path, "read_text", lambda *args, **how: (_ for _ in ()).throw(OSError()))
    monkeypatch.delattr(os, "sysconf")
    assert free_memory.free_bytes(CPU) == memory.UNKNOWN_BYTES
