"""Synchronized batch norm: batch norm of all images, in one process and in two that talk over gloo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

from normbench import data, models, norms
from normbench.engine.evaluate import evaluate
from normbench.errors import InputError

PROCESS = Path(__file__).with_name("sync_process.py")
#: Constructor arguments, lanes, images of each process, spatial shape, dtype, an offset of the input.
CASES = {
    "equal shares": ({}, 1, (3, 3), (4, 3), torch.float64, 0.0),
    "unequal shares": ({"momentum": 0.3}, 1, (5, 1), (4, 3), torch.float64, 0.0),
    "no images in one": ({}, 1, (3, 0), (2, 2), torch.float64, 0.0),
    "one value each": ({}, 1, (1, 1), (1, 1), torch.float64, 0.0),
    "no spatial axes": ({"affine": False}, 1, (3, 2), (), torch.float64, 0.0),
    "lanes": ({"eps": [1e-5, 0.1, 1.0], "momentum": [0.1, "cumulative", "debiased:0.3"]}, 3, (2, 3), (3,),
              torch.float64, 0.0),
    "untracked": ({"track": False, "affine": "bias"}, 1, (2, 3), (3, 1, 2), torch.float64, 0.0),
    "fp32 far from centred": ({}, 1, (8, 24), (6, 6), torch.float32, 10_000.0),
    "fp64 far from centred": ({}, 1, (8, 24), (6, 6), torch.float64, 10_000.0),
}  # fmt: skip


def ask(folder: Path, cases: list[dict]) -> list[list]:
    """What two processes answer to the cases, by process."""
    torch.save(cases, folder / "cases.pt")
    running = [
        subprocess.Popen([sys.executable, PROCESS, str(rank), folder], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert not any(process.returncode for process in running), errors
    return [torch.load(folder / f"answers{rank}.pt") for rank in range(2)]


def batches(draw, lanes, images, spatial, dtype, shift, first=0):
    """Three batches, each as a list by process."""
    whole = [draw((sum(images), 6, *spatial), first + seed, lanes=lanes) + shift for seed in range(3)]
    return [list(x.to(dtype).split(images)) for x in whole]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Questions and answers of all cases: starting two processes takes seconds."""
    asked = {}

    def draw(shape, seed, lanes=1):
        generator = torch.Generator().manual_seed(seed)
        shape = (shape[0], lanes * shape[1], *shape[2:])
        return 0.7 + 1.8 * torch.randn(shape, generator=generator, dtype=torch.float64)

    for name, (args, lanes, images, spatial, dtype, shift) in CASES.items():
        layer = norms.build("bn", 6, lanes, **args).to(dtype)
        for index, parameter in enumerate(layer.parameters()):
            parameter.data = 0.5 + draw((6, 1), 50 + index, lanes=lanes)[:6].abs().view(-1)[: 6 * lanes].to(
                dtype
            )
        asked[name] = {
            "ask": "steps", "args": args, "lanes": lanes, "state": layer.state_dict(),
            "xs": batches(draw, lanes, images, spatial, dtype, shift),
            "gs": batches(draw, lanes, images, spatial, dtype, 0.0, first=10),
        }  # fmt: skip
    x, target = (list(draw((6, 6, 4, 3), seed).split(3)) for seed in (0, 1))
    asked["DDP"] = {
        "ask": "averaged",
        "state": norms.build("bn", 6).double().state_dict(),
        "x": x,
        "target": target,
    }
    found = ask(tmp_path_factory.mktemp("processes"), list(asked.values()))
    return {name: (asked[name], [by_rank[at] for by_rank in found]) for at, name in enumerate(asked)}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_batch_norm_of_all_their_images(answers, case):
    args, lanes, _, _, dtype, shift = CASES[case]
    asked, both = answers[case]
    bn = norms.build("bn", 6, lanes, **args).double()
    bn.load_state_dict({k: v.double() if v.is_floating_point() else v for k, v in asked["state"].items()})
    # far from centred, a mean's last digit weighs; a one-pass variance would be 0 or worse in fp32
    tolerance = {"rtol": 0, "atol": {torch.float32: 0.05, torch.float64: 1e-9 if shift else 1e-11}[dtype]}
    for step, (x, g) in enumerate(zip(asked["xs"], asked["gs"], strict=True)):
        whole = torch.cat(x).double().requires_grad_()
        y = bn(whole)
        dx, *parameters = torch.autograd.grad(y, [whole, *bn.parameters()], torch.cat(g).double())
        got = torch.cat([answer["outputs"][step] for answer in both])
        torch.testing.assert_close(got.double(), y, **tolerance)
        mine = torch.cat([answer["gradients"][step][0] for answer in both])
        torch.testing.assert_close(mine.double(), dx, **tolerance)
        for at, wanted in enumerate(parameters, 1):
            total = sum(answer["gradients"][step][at].double() for answer in both)
            torch.testing.assert_close(total / (1 + wanted.abs()), wanted / (1 + wanted.abs()), **tolerance)
    for name, buffer in bn.named_buffers():
        if name in bn.state_dict():
            ours, theirs = (answer["state"][name] for answer in both)
            assert torch.equal(ours, theirs)
            torch.testing.assert_close(
                ours.to(buffer.dtype), buffer, rtol=1e-6 if shift else 1e-10, atol=1e-10
            )


def test_evaluation_in_a_process_group_is_a_processs_own(answers):
    asked, both = answers["equal shares"]
    bn = norms.build("bn", 6).double()
    bn.load_state_dict(asked["state"])
    torch.testing.assert_close(
        both[0]["evaluated"], bn(torch.cat([x[0] for x in asked["xs"]])), rtol=0, atol=1e-12
    )


def test_after_ddps_averaging_gradients_are_those_of_the_mean_loss(answers):
    asked, both = answers["DDP"]
    bn = norms.build("bn", 6).double()
    bn.load_state_dict(asked["state"])
    loss = torch.nn.functional.mse_loss(bn(torch.cat(asked["x"])), torch.cat(asked["target"]))
    for (name, _), wanted in zip(
        bn.named_parameters(), torch.autograd.grad(loss, list(bn.parameters())), strict=True
    ):
        for answer in both:
            torch.testing.assert_close(answer[name], wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("total", [None, 2, 4])
def test_in_one_process_it_is_batch_norm_of_all_of_x(make, draw, images, total):
    sync, bn = make("sync", total=total), make("bn")
    for seed in range(3):
        assert torch.equal(sync(draw(images, seed)), bn(draw(images, seed)))
    for name, tensor in bn.state_dict().items():
        assert torch.equal(sync.state_dict()[name], tensor)


def test_evaluation_with_batch_statistics_takes_the_images_of_a_step(make, draw, images):
    sync, bn = make("sync", total=2).eval(), make("bn", batch=2).eval()
    sync.source = bn.source = "batch"
    assert torch.equal(sync(draw(images)), bn(draw(images)))


def test_a_process_group_of_one_changes_nothing(make, draw, images, tmp_path):
    wanted = make("sync")(draw(images))
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        assert torch.equal(make("sync")(draw(images)), wanted)
    finally:
        distributed.destroy_process_group()


def test_workers_are_one_batch_in_training_and_in_evaluation_by_batch(make_spec):
    words = ["model=mlp", "model.hidden=[9]", "data=synthetic", "data.train_size=64", "data.test_size=24",
             "data.channels=1", "data.size=8", "eval.statistics=[running,batch]"]  # fmt: skip
    spread = make_spec(*words, "norm=sync", "batch=2", "workers=4")
    whole = make_spec(*words, "norm=bn", "batch=8")
    dataset = data.load(spread.data)
    results = []
    for spec in (spread, whole):
        network = models.build([spec], dataset.shape)
        images = torch.linspace(-1, 1, 8 * 64).sin().view(8, 1, 8, 8)
        results.append((network(images), evaluate(network, dataset, spec, spec.eval.conditions)))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_without_running_statistics_the_test_split_must_hold_a_step(make_spec):
    small = ["data=synthetic", "data.channels=1", "data.size=8", "data.test_size=12", "data.train_size=64"]
    spec = make_spec("model=mlp", "norm=sync", "norm.args.track=false", "batch=2", "workers=8", *small)
    with pytest.raises(InputError, match="evaluated on batches of 16, but the test split"):
        models.check(spec, data.load(spec.data).shape)


def test_a_single_value_over_all_workers_is_refused():
    norms.build("sync", 6).check((2, 6, 1, 1))
    with pytest.raises(
        norms.NormError, match="1 image of all workers on a map of 1 position gives 1; use more images"
    ):
        norms.build("sync", 6).check((1, 6, 1, 1))
    with pytest.raises(norms.NormError, match="sync: total must be a whole number ≥ 1; got 0"):
        norms.build("sync", 6, total=0)
