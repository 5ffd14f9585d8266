"""K lanes equal K lone runs, in float64 on a CPU, over ten steps of the engine."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from normbench import data, models, norms
from normbench.data.batches import Batches
from normbench.engine.stack import Stack
from normbench.engine.state import save_lanes
from normbench.models import lsuv
from normbench.models.network import ARCHITECTURES

FAMILIES = {
    "mlp": ["model=mlp", "model.hidden=[12,9]"],
    "lenet5": ["model=lenet5"],
    "vgg11": ["model=vgg11", "model.width=4"],
    "alexnet": ["model=alexnet", "model.width=3", "model.dropout=0.2"],
    "nin": ["model=nin", "model.width=6", "model.dropout=0.2"],
    "resnet20": ["model=resnet20", "model.width=4"],
    "resnet50": ["model=resnet50", "model.width=4"],
}
#: Norms that need maps of several positions, which fully connected layers and late stages do not have.
ON_MAPS = ("in", "bin", "bnet", "dbn", "mixture")
SMALL = [
    "data=synthetic",
    "data.train_size=64",
    "data.test_size=16",
    "data.channels=1",
    "engine.precision=fp64",
    "optim.lr_scaling=none",
    "optim.label_smoothing=0.1",
    "data.flip=true",
    "data.crop=2",
    "schedule.warmup=0.2",
    "steps=10",
]


def train(specs, dataset, steps=10, poison=None):
    """The states of all lanes after some steps of the engine, the final logits, and the gradients of the last
    step.
    """
    stack = Stack(specs, dataset, torch.device("cpu"))
    if poison is not None:
        with torch.no_grad():
            stack.optimizer.parameters[0].unflatten(0, (len(specs), -1))[poison].fill_(float("nan"))
    seen = {}
    update, forward = stack.optimizer.step, stack.step._forward

    def updating(gradients):
        seen["gradients"] = [g.clone() for g in gradients]  # the optimiser may change them
        update(gradients)

    def passing(x, y):
        losses, seen["logits"] = forward(x, y)
        return losses, seen["logits"]

    stack.optimizer.step, stack.step._forward = updating, passing
    for step in range(steps):
        stack.step(step)
    states = save_lanes(
        stack.network, stack.optimizer, stack.meters, stack.assignment, steps, [[] for _ in specs]
    )
    by_lane = [
        {
            name: g.unflatten(0, (len(specs), -1))[k].flatten()
            for name, g in zip(stack.optimizer.names, seen["gradients"], strict=True)
        }
        for k in range(len(specs))
    ]
    return [state["tensors"] for state in states], seen["logits"].detach(), by_lane


def assert_same(one, other, tolerance=1e-9):
    """Assert equality relative to the norm of each tensor. Rounding differences grow from step to step."""
    assert one.keys() == other.keys()
    for name in one:
        a, b = one[name].double().flatten(), other[name].double().flatten()
        assert (a - b).norm() <= tolerance * (1 + b.norm()), name


#: Norms that `make test` tries in every placement of every family, and families in which it tries all norms.
THOROUGH, EVERY = ("bn", "gn", "ln_c", "none"), ("mlp", "lenet5", "resnet20")


def fitting(key: str, family: str) -> list[str]:
    """The settings that a norm needs in these small nets: the arguments of its oracle, and possible sites."""
    args = getattr(import_module(f"oracles.{key}"), "FITTING", {})
    words = [f"norm.args.{name}={value}" for name, value in args.items()]
    if key in ON_MAPS:
        sites = {"lenet5": "conv*", "vgg11": "[conv1*,conv2*]", "alexnet": "conv*", "nin": "conv*"}.get(
            family, "stage1*"
        )
        words.append(f"placement.sites={sites}")
    return words


def combinations():
    for family in FAMILIES:
        for placement in ARCHITECTURES[family].placements:
            for key in norms.catalogue():
                if key in ON_MAPS and family == "mlp":
                    continue
                brief = key in THOROUGH or (family in EVERY and placement == "conv_norm_act")
                for steps in (3, 10):
                    marks = () if brief and steps == 3 else (pytest.mark.slow,)
                    yield pytest.param(family, placement, key, steps, marks=marks)


@pytest.mark.parametrize(("family", "placement", "key", "steps"), list(combinations()))
def test_lanes_are_lone_runs(make_spec, family, placement, key, steps):
    words = [*FAMILIES[family], *SMALL, f"placement={placement}", f"norm={key}", "batch=4", "data.size=32"]
    words += fitting(key, family)
    # small enough that the nets without statistics do not explode, and rounding does not grow
    lr = {"resnet20": 1e-4, "resnet50": 1e-6}.get(family, 1e-3)
    tolerance = 1e-8 if family == "resnet50" else 1e-9  # power's rounding grows 5-fold a step there
    if family.startswith("resnet") and key in ("none", "affine", "lrn", "l2"):
        lr = 1e-7
    lanes = [
        ["seed=5", f"optim.lr={lr}"],
        ["seed=1", f"optim.lr={lr / 2}", "optim.weight_decay=0"],
        ["seed=9", f"optim.lr={lr}", "optim.momentum=0.5"],
    ]
    if make_spec(f"norm={key}").norm.momentum is not None:
        lanes[1].append("norm.momentum=cumulative")
        lanes[2].append("norm.momentum=debiased:0.3")
    if make_spec(f"norm={key}").norm.eps is not None:
        words.append("norm.eps=0.1")  # far from the kinks where rounding grows from step to step
        lanes[2].append("norm.eps=0.2")
    specs = [make_spec(*words, *own) for own in lanes]
    assert len({spec.stack_key() for spec in specs}) == 1
    dataset = data.load(specs[0].data)
    states, logits, gradients = train(specs, dataset, steps)
    for k, spec in enumerate(specs):
        lone, lone_logits, lone_gradients = train([spec], dataset, steps)
        assert_same(lone[0], states[k], tolerance)
        assert_same(lone_gradients[0], gradients[k], tolerance)
        assert_same({"logits": lone_logits[:, 0]}, {"logits": logits[:, k]}, tolerance)


@pytest.mark.parametrize("key", sorted(norms.catalogue()))
def test_a_lane_of_nans_leaves_the_other_lanes_bit_identical(make_spec, key):
    words = [*FAMILIES["lenet5"], *SMALL, f"norm={key}", "batch=4", "optim.clip=1.0", "model.dropout=0.2"]
    words += fitting(key, "lenet5")
    specs = [make_spec(*words, f"seed={seed}") for seed in range(3)]
    dataset = data.load(specs[0].data)
    clean, _, _ = train(specs, dataset)
    poisoned, _, _ = train(specs, dataset, poison=1)
    assert any(t.isnan().any() for t in poisoned[1].values())
    for k in (0, 2):
        assert all(torch.equal(clean[k][name], poisoned[k][name]) for name in clean[k])


@pytest.mark.parametrize("optim", ["sgd", "adam", "adamw", "rmsprop"])
def test_a_lanes_result_depends_neither_on_its_position_nor_on_other_lanes(make_spec, optim):
    words = [
        *FAMILIES["lenet5"],
        *SMALL,
        f"optim={optim}",
        "optim.lr=0.01",
        "batch=4",
        "model.dropout=0.5",
        "optim.clip=0.5",
    ]
    specs = {seed: make_spec(*words, f"seed={seed}") for seed in range(4)}
    dataset = data.load(specs[0].data)
    one, _, _ = train([specs[0], specs[1], specs[2]], dataset)
    other, _, _ = train([specs[3], specs[2], specs[1], specs[0]], dataset)
    assert_same(one[0], other[3])
    assert_same(one[1], other[2])


#: Weight maps and norm-free branches, with a norm that fits.
WEIGHTS_AND_BRANCHES = {
    "scaled_ws": ["norm=gn", "weight=scaled_ws"],
    "centered": ["norm=rms", "weight=centered"],
    "spectral": ["norm=bn", "weight=spectral"],
    "skipinit": ["norm=none", "model.branch=skipinit"],
    "skipinit with norms": ["norm=bn", "model.branch=skipinit"],
    "fixup": ["norm=none", "model.branch=fixup"],
    "fixup before": ["norm=none", "model.branch=fixup", "placement=norm_act_conv"],
}


def weights_and_branches():
    for kind, words in WEIGHTS_AND_BRANCHES.items():
        residual = any(word.startswith("model.branch") for word in words)
        for family in ("resnet20", "resnet50") if residual else ("lenet5", "resnet20", "resnet50"):
            marks = pytest.mark.slow if family == "resnet50" else ()
            yield pytest.param(family, kind, marks=marks)


@pytest.mark.parametrize("optim", [["optim=sgd", "optim.lr=1e-2"], ["optim=adamw", "optim.lr=1e-3"]])
@pytest.mark.parametrize(("family", "kind"), list(weights_and_branches()))
def test_lanes_with_weight_maps_and_branches_are_lone_runs(make_spec, family, kind, optim):
    words = [*FAMILIES[family], *SMALL, *WEIGHTS_AND_BRANCHES[kind], *optim, "batch=4"]
    if "norm=none" not in words:
        words.append("norm.eps=0.1")
    lanes = [["seed=5"], ["seed=1", "optim.lr=5e-4"], ["seed=9", "optim.weight_decay=0"]]
    specs = [make_spec(*words, *own) for own in lanes]
    dataset = data.load(specs[0].data)
    states, logits, gradients = train(specs, dataset, 4)
    for k, spec in enumerate(specs):
        lone, lone_logits, lone_gradients = train([spec], dataset, 4)
        assert_same(lone[0], states[k])
        assert_same(lone_gradients[0], gradients[k])
        assert_same({"logits": lone_logits[:, 0]}, {"logits": logits[:, k]})


@pytest.mark.parametrize("kind", ["spectral", "skipinit", "fixup"])
def test_a_lane_of_nans_does_not_change_the_branches_and_weight_maps_of_other_lanes(make_spec, kind):
    words = [*FAMILIES["resnet20"], *SMALL, *WEIGHTS_AND_BRANCHES[kind], "batch=4", "optim.lr=1e-3"]
    specs = [make_spec(*words, f"seed={seed}") for seed in range(3)]
    dataset = data.load(specs[0].data)
    clean, _, _ = train(specs, dataset, 3)
    poisoned, _, _ = train(specs, dataset, 3, poison=1)
    assert any(t.isnan().any() for t in poisoned[1].values())
    for k in (0, 2):
        assert all(torch.equal(clean[k][name], poisoned[k][name]) for name in clean[k])


@pytest.mark.parametrize("key", sorted(norms.catalogue()))
def test_lsuv_gives_lanes_the_weights_of_lone_runs_and_does_not_change_the_state_of_norms(make_spec, key):
    words = [*FAMILIES["lenet5"], *SMALL, f"norm={key}", "batch=4", "model.init=lsuv"]
    words += fitting(key, "lenet5")
    specs = [make_spec(*words, f"seed={seed}") for seed in (5, 1, 9)]
    dataset = data.load(specs[0].data)

    def scaled(specs):
        network = models.build(specs, dataset.shape).double()
        network.begin_step(0, 10)
        fresh = {name: buffer.clone() for name, buffer in network.named_buffers()}
        batches = Batches(dataset, [s.seed for s in specs], 16, dtype=torch.float64)
        lsuv.equalize(network, batches.at(0)[0], len(specs))
        assert all(torch.equal(buffer, fresh[name]) for name, buffer in network.named_buffers())
        return {name: p.detach().unflatten(0, (len(specs), -1)) for name, p in network.named_parameters()}

    stack = scaled(specs)
    for k, spec in enumerate(specs):
        lone = scaled([spec])
        assert_same({n: p[0] for n, p in lone.items()}, {n: p[k] for n, p in stack.items()})
