"""The stacked optimisers equal torch's own classes, and every lane has its own settings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from normbench.engine import optim as optim_module
from normbench.engine.optim import Optimizer


@pytest.fixture(params=["as on a CPU", "as on a GPU"], autouse=True)
def path(request, monkeypatch) -> str:
    """Both ways to update lanes with different settings: in blocks, or together."""
    if request.param == "as on a GPU":
        monkeypatch.setattr(optim_module, "TOGETHER_ON", ("cpu", "cuda"))
    return request.param


def problem(lanes):
    torch.manual_seed(0)
    return {
        "conv": nn.Parameter(
            torch.randn(lanes * 4, 3, 2, 2, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
        ),
        "gamma": nn.Parameter(torch.randn(lanes * 4, dtype=torch.float64)),
    }


ROLES = {"conv": "weight", "gamma": "scale"}


@pytest.mark.parametrize(
    ("words", "reference"),
    [
        (["optim=sgd", "optim.nesterov=true"],
         lambda p, decay: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=decay)),
        (["optim=sgd", "optim.momentum=0"], lambda p, decay: torch.optim.SGD(p, lr=0.1, weight_decay=decay)),
        (["optim=adamw"], lambda p, decay: torch.optim.AdamW(p, lr=0.1, weight_decay=decay)),
        (["optim=adam"], lambda p, decay: torch.optim.Adam(p, lr=0.1, weight_decay=decay)),
        (["optim=adam", "optim.betas=[0.8,0.9]", "optim.eps=0.1"],
         lambda p, decay: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.9), eps=0.1, weight_decay=decay)),
        (["optim=rmsprop"], lambda p, decay: torch.optim.RMSprop(p, lr=0.1, weight_decay=decay)),
        (["optim=rmsprop", "optim.momentum=0.9", "optim.alpha=0.8", "optim.eps=0.1"],
         lambda p, decay:
         torch.optim.RMSprop(p, lr=0.1, alpha=0.8, eps=0.1, momentum=0.9, weight_decay=decay)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("decay", ["all", "weights"])
def test_a_step_equals_torchs_step_with_weight_decay_per_role(make_spec, words, reference, decay):
    spec = make_spec(
        *words, "optim.lr=0.1", "optim.lr_scaling=none", "optim.weight_decay=0.02", f"optim.decay={decay}"
    )
    ours, theirs = problem(1), problem(1)
    optimizer = Optimizer(ours, ROLES, [spec])
    check = [reference([theirs["conv"]], 0.02), reference([theirs["gamma"]], 0.02 if decay == "all" else 0.0)]
    optimizer.begin_step(0.5)
    for step in range(5):
        gradients = [torch.randn(p.shape, dtype=p.dtype) * (step + 1) for p in ours.values()]
        optimizer.step(gradients)
        for p, g, torchs in zip(theirs.values(), gradients, check, strict=True):
            p.grad = g.clone(memory_format=torch.preserve_format)
            for group in torchs.param_groups:
                group["lr"] = 0.05
            torchs.step()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("optim", ["sgd", "rmsprop"])
def test_every_lane_has_its_own_learning_rate_weight_decay_and_momentum(make_spec, optim):
    own = [
        ["optim.lr=0.1"],
        ["optim.lr=0.2"],
        ["optim.lr=0.1", "optim.weight_decay=0.3"],
        ["optim.lr=0.1", "optim.momentum=0.1"],
    ]
    specs = [make_spec(f"optim={optim}", "optim.lr_scaling=none", *words) for words in own]
    stack = problem(4)
    optimizer = Optimizer(stack, ROLES, specs)
    gradients = [[torch.randn(p.shape, dtype=p.dtype) for p in stack.values()] for _ in range(3)]
    before = {name: p.detach().clone() for name, p in stack.items()}
    for g in gradients:
        optimizer.step(g)
    for k, spec in enumerate(specs):
        lone = {n: nn.Parameter(p.unflatten(0, (4, -1))[k].clone()) for n, p in before.items()}
        alone = Optimizer(lone, ROLES, [spec])
        for g in gradients:
            alone.step([t.unflatten(0, (4, -1))[k] for t in g])
        for name in stack:
            torch.testing.assert_close(
                stack[name].unflatten(0, (4, -1))[k], lone[name], rtol=1e-12, atol=1e-12
            )


@pytest.mark.parametrize("optim", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("decay", ["all", "weights"])
def test_scalars_have_a_tenth_of_the_learning_rate_and_their_own_block(make_spec, optim, decay):
    words = [f"optim={optim}", "optim.lr_scaling=none", "optim.weight_decay=0.02", f"optim.decay={decay}"]
    torch.manual_seed(1)
    stack = {name: nn.Parameter(torch.randn(2, dtype=torch.float64)) for name in ("gamma", "alpha", "beta")}
    tenth = {"alpha": nn.Parameter(stack["alpha"].detach().clone())}
    roles = {"gamma": "scale", "alpha": "scalar", "beta": "scalar"}
    optimizer = Optimizer(stack, roles, [make_spec(*words, "optim.lr=0.2")] * 2)
    assert [block.indices for block in (optimizer.blocks or optimizer.lane_blocks)] == [[0], [1, 2]]
    slower = Optimizer(tenth, {"alpha": "scale"}, [make_spec(*words, "optim.lr=0.02")] * 2)
    for each in (optimizer, slower):
        each.begin_step(0.5)
    for _ in range(4):
        gradient = torch.randn(2, dtype=torch.float64)
        optimizer.step([gradient] * 3)
        slower.step([gradient])
    torch.testing.assert_close(stack["alpha"], tenth["alpha"], rtol=1e-12, atol=0)


def test_clipping_is_per_lane(make_spec):
    specs = [
        make_spec(
            "optim.clip=1.0",
            "optim.momentum=0",
            "optim.lr_scaling=none",
            "optim.weight_decay=0",
            "optim.lr=1.0",
        )
    ] * 2
    stack = {"w": nn.Parameter(torch.zeros(2, 3))}
    Optimizer(stack, {"w": "weight"}, specs).step([torch.tensor([[3.0, 4.0, 0.0], [0.3, 0.4, 0.0]])])
    torch.testing.assert_close(stack["w"].detach(), -torch.tensor([[0.6, 0.8, 0.0], [0.3, 0.4, 0.0]]))


@pytest.mark.parametrize("clip", ["none", "0.5"])
def test_gamma_l1_adds_the_sign_of_the_scales_of_norms_to_their_gradient_before_clipping(make_spec, clip):
    """liu2017. γ = 0 gets nothing; β and weights get nothing; lanes are clipped with it, each for itself."""
    words = ["optim.momentum=0", "optim.lr_scaling=none", "optim.weight_decay=0", "optim.lr=1.0"]
    specs = [make_spec(*words, f"optim.clip={clip}", "optim.gamma_l1=0.25")] * 2
    start = {
        "n.weight": [[2.0, -3.0, 0.0]] * 2,
        "n.bias": [[1.0, -1.0, 1.0]] * 2,
        "gain": [[1.0, 1.0, 1.0]] * 2,
    }
    stack = {name: nn.Parameter(torch.tensor(rows).flatten()) for name, rows in start.items()}
    roles = {"n.weight": "scale", "n.bias": "shift", "gain": "scale"}
    gradient = torch.tensor([0.5, 0.5, 0.5, 0.0, 0.0, 0.0])
    Optimizer(stack, roles, specs, gammas=["n.weight"]).step([gradient.clone() for _ in range(3)])
    wanted = {name: gradient.clone() for name in stack}
    wanted["n.weight"] += 0.25 * torch.tensor([1.0, -1.0, 0.0] * 2)
    for lane in (slice(0, 3), slice(3, 6)):
        size = torch.stack([g[lane].square().sum() for g in wanted.values()]).sum().sqrt()
        for g in wanted.values():
            g[lane] *= 1.0 if clip == "none" else min(1.0, 0.5 / (size.item() + 1e-6))
    for name, p in stack.items():
        moved = torch.tensor(start[name]).flatten() - p.detach()
        torch.testing.assert_close(moved, wanted[name])


def test_adamw_takes_the_betas_and_the_eps_of_the_run(make_spec):
    words = ["optim=adamw", "optim.lr=0.1", "optim.lr_scaling=none", "optim.weight_decay=0"]
    for own, settings in (
        (["optim.betas=[0.5,0.8]"], {"betas": (0.5, 0.8)}), (["optim.eps=0.3"], {"eps": 0.3}), ([], {}),
    ):  # fmt: skip
        ours, theirs = problem(1), problem(1)
        optimizer = Optimizer(ours, ROLES, [make_spec(*words, *own)])
        torchs = torch.optim.AdamW(theirs.values(), lr=0.1, weight_decay=0, **settings)
        for step in range(4):
            gradients = [torch.randn(p.shape, dtype=p.dtype) * (step + 1) for p in ours.values()]
            optimizer.step(gradients)
            for p, g in zip(theirs.values(), gradients, strict=True):
                p.grad = g.clone(memory_format=torch.preserve_format)
            torchs.step()
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("optim", ["sgd", "adam", "adamw", "rmsprop"])
def test_the_other_lanes_do_not_change_the_bits_of_a_lane(make_spec, monkeypatch, optim):
    monkeypatch.setattr(optim_module, "TOGETHER_ON", ("cpu",))
    rates = [0.1, 0.01, 0.037, 0.2]
    specs = [
        make_spec(f"optim={optim}", "optim.lr_scaling=none", "optim.weight_decay=0.1", f"optim.lr={rate}")
        for rate in rates
    ]
    stack = {name: nn.Parameter(p.detach().float()) for name, p in problem(4).items()}
    lanes = [{n: p.detach().unflatten(0, (4, -1))[k].clone() for n, p in stack.items()} for k in range(4)]
    lone = [{n: nn.Parameter(p) for n, p in lane.items()} for lane in lanes]
    optimizer = Optimizer(stack, ROLES, specs)
    assert optimizer.lane_blocks
    monkeypatch.setattr(Optimizer, "_differ", lambda self, settings: True)
    alone = [Optimizer(own, ROLES, [spec]) for own, spec in zip(lone, specs, strict=True)]
    fused = [{n: nn.Parameter(p.detach().clone()) for n, p in own.items()} for own in lone]
    monkeypatch.setattr(optim_module, "TOGETHER_ON", ())
    by_kernel = [Optimizer(own, ROLES, [spec]) for own, spec in zip(fused, specs, strict=True)]
    for number in range(4):
        gradients = [torch.randn(p.shape) for p in stack.values()]
        for each in (optimizer, *alone, *by_kernel):
            each.begin_step(1 / (1 + number))
        optimizer.step([g.clone() for g in gradients])
        for k in range(4):
            own = [g.unflatten(0, (4, -1))[k] for g in gradients]
            alone[k].step([g.clone() for g in own])
            by_kernel[k].step([g.clone() for g in own])
    for k in range(4):
        for name, p in stack.items():
            lane = p.detach().unflatten(0, (4, -1))[k]
            assert torch.equal(lane, lone[k][name].detach())
            torch.testing.assert_close(lane, fused[k][name].detach(), rtol=1e-5, atol=1e-6)


def test_learning_rates_of_fp64_runs_are_fp64_on_a_gpu(make_spec, path):
    stack = {"w": nn.Parameter(torch.zeros(1, 4, dtype=torch.float64))}
    words = ["optim.lr=0.1", "optim.lr_scaling=none", "optim.momentum=0", "optim.weight_decay=0"]
    optimizer = Optimizer(stack, {"w": "weight"}, [make_spec(*words, "engine.precision=fp64")])
    optimizer.begin_step(1 / 3)
    optimizer.step([torch.ones(1, 4, dtype=torch.float64)])
    assert stack["w"].detach().tolist() == [[-0.1 * (1 / 3)] * 4]


def test_factors_of_the_learning_rate_are_per_lane(make_spec, path):
    """`schedule=plateau` lowers the rate of a lane."""
    words = ["optim.lr=0.5", "optim.lr_scaling=none", "optim.momentum=0", "optim.weight_decay=0"]
    stack = {"w": nn.Parameter(torch.zeros(2, 1))}
    spec = make_spec(*words, "data.valid=0.1", "schedule=plateau")
    optimizer = Optimizer(stack, {"w": "weight"}, [spec] * 2)
    optimizer.scale_lanes([1.0, 0.25])
    optimizer.begin_step(1.0)
    optimizer.step([torch.ones(2, 1)])
    assert stack["w"].detach().tolist() == [[-0.5], [-0.125]]
