"""`optim.train`: frozen parameters keep their bits and have no state; the others have the usual gradient."""

from __future__ import annotations

import pytest
import torch

from normbench import data, models, norms
from normbench.conditions import Condition
from normbench.data.shape import Shape
from normbench.engine.evaluate_again import evaluate_again
from normbench.engine.stack import Stack
from normbench.engine.train import Listener, train_stack
from normbench.errors import InputError
from normbench.norms import Norm

CPU = torch.device("cpu")
SMALL = [
    "data=synthetic", "data.train_size=64", "data.test_size=16", "data.channels=1", "data.size=32",
    "optim.lr_scaling=none", "engine.precision=fp64", "model=lenet5", "batch=4",
]  # fmt: skip
#: What a method needs at the sites of LeNet-5.
OWN = {"bin": ["placement.sites=conv*"], "dbn": ["placement.sites=conv*"],
       "bnet": ["placement.sites=conv*"], "in": ["placement.sites=conv*"],
       "mixture": ["placement.sites=conv*"], "ghost": ["norm.args.ghost_size=2"]}  # fmt: skip


def stack(make_spec, *words, seeds=(0,)):
    specs = [make_spec(*SMALL, *words, f"seed={seed}") for seed in seeds]
    return Stack(specs, data.load(specs[0].data), CPU)


def owners(network):
    """Parameter name → whether a norm layer owns it."""
    return {
        f"{prefix}.{name}": isinstance(module, Norm)
        for prefix, module in network.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }


def parameters(network):
    return {name: p.detach().clone() for name, p in network.named_parameters()}


@pytest.mark.parametrize("key", sorted(norms.catalogue()))
def test_norm_parameters_move_as_with_all_at_the_first_step_and_nothing_else_moves(make_spec, key):
    words = [f"norm={key}", *OWN.get(key, []), "optim.weight_decay=0.1"]
    whole = stack(make_spec, *words)
    if not any(owners(whole.network).values()):
        with pytest.raises(
            InputError, match=r"optim\.train=norm trains the parameters of norm layers, but this"
        ):
            stack(make_spec, *words, "optim.train=norm")
        return
    part = stack(make_spec, *words, "optim.train=norm")
    before = parameters(part.network)
    for each in (whole, part):
        each.step(0)
    moved = parameters(part.network)
    for name, theirs in whole.network.named_parameters():
        if owners(part.network)[name]:
            torch.testing.assert_close(moved[name], theirs.detach(), rtol=1e-10, atol=1e-12)
        else:
            assert torch.equal(moved[name], before[name])
            assert not torch.equal(theirs, before[name])


@pytest.mark.parametrize("train", ["norm", "norm+head"])
@pytest.mark.parametrize("model", ["mlp", "lenet5", "vgg11", "resnet20", "resnet50"])
def test_only_norms_and_the_head_have_gradients_and_optimiser_state(make_spec, model, train):
    words = [f"model={model}", "model.width=4", "model.hidden=[9,9]", f"optim.train={train}", "optim=adamw"]
    made = stack(make_spec, *words)
    names, owned = set(made.optimizer.names), owners(made.network)
    by_norm = {name for name, own in owned.items() if own}
    *_, last_weight, last_bias = owned
    assert names == by_norm | ({last_weight, last_bias} if train == "norm+head" else set())
    assert {name.partition("/")[2] for name in made.optimizer.state()} == names
    made.step(0)
    assert all(p.grad is None for p in made.network.parameters())


def test_gains_of_weight_maps_and_scalars_of_branches_are_frozen(make_spec):
    words = ["model=resnet20", "model.width=4", "weight=wn", "model.branch=skipinit", "optim.train=norm"]
    made = stack(make_spec, *words)
    before = parameters(made.network)
    made.step(0)
    kinds = {name: ("gain" in name, name.endswith("scale")) for name in before}
    assert any(gain for gain, _ in kinds.values())
    assert any(scale for _, scale in kinds.values())
    after = parameters(made.network)
    assert all(torch.equal(before[name], after[name]) for name, kind in kinds.items() if any(kind))


@pytest.mark.parametrize(
    "words", [["norm=none"], ["norm=bn", "norm.affine=false"], ["norm=none", "weight=wn"]]
)
def test_a_net_without_parameters_to_train_is_refused(make_spec, words):
    image = Shape(1, 32, 10, 64, 16)
    with pytest.raises(
        InputError, match=r"optim.train=norm .* this net has none; use a norm with norm.affine"
    ):
        models.check(make_spec(*SMALL, *words, "optim.train=norm"), image)
    models.check(make_spec(*SMALL, *words, "optim.train=norm+head"), image)


@pytest.mark.parametrize("optim", ["sgd", "adamw"])
def test_lanes_with_frozen_weights_are_lone_runs_and_resume(make_spec, optim):
    words = [
        "norm=bn",
        "optim.train=norm+head",
        f"optim={optim}",
        "steps=6",
        "eval.every=3",
        "optim.clip=1.0",
    ]
    specs = [make_spec(*SMALL, *words, f"seed={seed}", f"optim.lr={0.01 * seed}") for seed in (5, 1, 9)]
    dataset, saved = data.load(specs[0].data), []
    listener = Listener(checkpoint=lambda states: saved.append(states()))
    together = train_stack(specs, dataset, CPU, listener)
    again = train_stack(specs[::-1], dataset, CPU, resume=saved[0][::-1])[::-1]
    for k, spec in enumerate(specs):
        (alone,) = train_stack([spec], dataset, CPU)
        for name, t in alone.final_state.items():
            torch.testing.assert_close(together[k].final_state[name].view(t.shape), t, rtol=1e-9, atol=1e-11)
            assert torch.equal(together[k].final_state[name], again[k].final_state[name])


def test_a_final_state_of_frozen_weights_is_evaluated_again_to_the_same_bits(make_spec):
    specs = [make_spec(*SMALL, "norm=bn", "optim.train=norm", "steps=6", f"seed={seed}") for seed in (5, 1)]
    dataset = data.load(specs[0].data)
    results = train_stack(specs, dataset, CPU)
    found = evaluate_again(specs, [r.final_state for r in results], dataset, CPU, (Condition(),))
    assert [m["test_loss"] for m in found] == [r.metrics["test_loss"] for r in results]


@pytest.mark.parametrize(
    ("model", "most"),
    [
        (["model=mlp", "model.hidden=[200,200,200]", "batch=32", "steps=400"], 0.3),
        (["model=lenet5", "batch=32", "steps=200"], 0.6),
        pytest.param(["model=resnet20", "batch=64", "steps=240"], 0.5, marks=pytest.mark.slow),
    ],
)
def test_bn_alone_beats_chance_clearly_on_digits(make_spec, model, most):
    """frankle2021: weights stay random, only γ and β of batch norm train. Chance is an error of 0.9."""
    words = ["data=digits", "norm=bn", "optim.lr=0.1", "optim.lr_scaling=none", "optim.weight_decay=0"]
    specs = [make_spec(*words, *model, "optim.train=norm", f"seed={seed}") for seed in (1011, 1012, 1013)]
    dataset = data.load(specs[0].data, size=32 if specs[0].model.name == "lenet5" else None)
    errors = [r.metrics["test_error"] for r in train_stack(specs, dataset, CPU)]
    assert max(errors) < most, errors


@pytest.mark.parametrize(
    "words", [["norm=none"], ["norm=bn", "norm.affine=bias"], ["norm=none", "weight=wn"]]
)
def test_a_penalty_on_scales_that_the_net_lacks_is_refused(make_spec, words):
    with pytest.raises(
        InputError, match=r"optim\.gamma_l1=0\.001 is a penalty on the γ .* this net has none"
    ):
        models.check(make_spec(*SMALL, *words, "optim.gamma_l1=1e-3"), Shape(1, 32, 10, 64, 16))


def test_the_penalty_makes_the_scales_of_norms_small_and_leaves_other_factors_alone(make_spec):
    words = ["norm=bn", "weight=wn", "steps=40", "optim.weight_decay=0", "optim.lr=0.05"]

    def trained_with(penalty):
        specs = [make_spec(*SMALL, *words, f"optim.gamma_l1={penalty}", f"seed={seed}") for seed in (5, 1)]
        return [r.final_state for r in train_stack(specs, data.load(specs[0].data), CPU)]

    for without, penalized in zip(trained_with(0.0), trained_with(0.1), strict=True):
        scales = [n for n in without if without[n].dim() == 1 and n.endswith("weight")]
        gains = [n for n in without if n.endswith("gain")]
        assert len(scales) == 4
        assert len(gains) == 5
        small, usual = (
            [torch.cat([state[n].flatten().abs() for n in names]).mean() for names in (scales, gains)]
            for state in (penalized, without)
        )
        assert small[0] < 0.7 * usual[0]
        assert small[1] > 0.8 * usual[1]


def test_gradient_probes_read_only_what_trains(make_spec):
    words = ["norm=bn", "optim.train=norm", "steps=4", "diagnostics=[gradient_norm,smoothness]"]
    specs = [make_spec(*SMALL, *words, f"seed={seed}") for seed in (5, 1)]
    dataset = data.load(specs[0].data)
    plain = train_stack([make_spec(*SMALL, *words[:-1], f"seed={seed}") for seed in (5, 1)], dataset, CPU)
    for probed, without in zip(train_stack(specs, dataset, CPU), plain, strict=True):
        assert all(torch.equal(t, without.final_state[name]) for name, t in probed.final_state.items())
        assert any("gradient_norm" in name for name in probed.metrics)
