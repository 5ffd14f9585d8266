"""`optim.ema`: equal to torch's average; raw training does not change; statistics decide the result."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from normbench import data, models, norms
from normbench.conditions import Condition
from normbench.engine.evaluate import evaluate
from normbench.engine.evaluate_again import evaluate_again
from normbench.engine.lane_assignment import running_norms
from normbench.engine.stack import Stack
from normbench.engine.train import Listener, train_stack
from normbench.errors import InputError
from normbench.sources import parse_source

CPU = torch.device("cpu")
SMALL = [
    "model=mlp", "model.hidden=[12,9]", "data=synthetic", "data.train_size=64", "data.test_size=32",
    "data.channels=1", "data.size=8", "batch=8", "steps=12", "optim.lr=0.05", "optim.lr_scaling=none",
]  # fmt: skip
SOURCES = "eval.statistics=[running,precise,ema_copy,ema_average,ema_precise]"


#: A convolution that every norm can follow.
ONE_SITE = [
    "model=lenet5", "data=synthetic", "data.train_size=64", "data.test_size=32", "data.channels=1",
    "data.size=32", "batch=8", "steps=9", "optim.lr=0.02", "optim.lr_scaling=none", "placement.sites=[conv1]",
    "engine.precision=fp64",
]  # fmt: skip
GHOST = {"ghost": ["norm.args.ghost_size=4"]}


def specs_of(make_spec, *words, seeds=(5, 1, 9)):
    return [make_spec(*SMALL, *words, f"seed={seed}", f"optim.lr={0.01 * seed}") for seed in seeds]


@pytest.mark.parametrize("norm", ["bn", "gn", "brn", "none"])
def test_the_average_is_torchs_with_buffers(make_spec, norm):
    (spec,) = specs_of(make_spec, f"norm={norm}", "optim.ema=0.8", "engine.precision=fp64", seeds=(5,))
    stack = Stack([spec], data.load(spec.data), CPU)
    average, names = stack.network.average, stack.network.average.names
    raw = dict(stack.network.state_dict())

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.values = nn.ParameterList([nn.Parameter(raw[name].clone(), False) for name in names])

    holder = Holder()
    theirs = AveragedModel(holder, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    theirs.update_parameters(holder)  # the first call copies: it starts at the initial weights
    for step in range(6):
        stack.step(step)
        for value, name in zip(holder.values, names, strict=True):
            value.copy_(raw[name])
        theirs.update_parameters(holder)
    state = stack.network.state_dict()
    for name, wanted in zip(names, theirs.module.values, strict=True):
        torch.testing.assert_close(state[f"average.{name}"], wanted.data, rtol=1e-12, atol=1e-14)
    assert (norm == "bn") <= any(name.endswith("running_var") for name in average.statistics)


@pytest.mark.parametrize("key", norms.catalogue())
def test_every_norm_has_its_average_and_those_without_statistics_have_one_result(make_spec, key):
    """The average still follows the network's own tensors after steps and evaluations."""
    words = [*ONE_SITE, f"norm={key}", *GHOST.get(key, []), "optim.ema=0.8", SOURCES]
    spec = make_spec(*words)
    dataset = data.load(spec.data)
    stack = Stack([spec], dataset, CPU)
    network = stack.network
    state = network.state_dict()
    wanted = {name: state[name].clone() for name in network.average.names}
    found = {}
    for step in range(3):
        stack.step(step)
        for name, t in wanted.items():
            t.lerp_(network.state_dict()[name], 0.2)
        before = {name: t.clone() for name, t in network.state_dict().items()}
        ((found,),) = evaluate(network, dataset, spec, spec.eval.conditions)
        assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    for name, t in wanted.items():
        torch.testing.assert_close(network.state_dict()[f"average.{name}"], t, rtol=1e-12, atol=1e-14)
    losses = [found[f"test_loss@{source}"] for source in ("ema_copy", "ema_average", "ema_precise")]
    assert found["test_loss"] not in losses
    has_statistics = bool(running_norms(network))
    assert bool(network.average.statistics) == has_statistics
    assert len({*losses}) == (3 if has_statistics else 1)


@pytest.mark.parametrize("words", [["norm=none"], ["norm=bn", "norm.args.track=false"]])
def test_nets_without_running_statistics_have_one_result_of_averaged_weights(make_spec, words):
    specs = specs_of(make_spec, *words, "optim.ema=0.8", SOURCES)
    for result in train_stack(specs, data.load(specs[0].data), CPU):
        losses = {result.metrics[f"test_loss@ema_{kind}"] for kind in ("copy", "average", "precise")}
        assert len(losses) == 1
        assert result.metrics["test_loss"] not in losses


@pytest.mark.parametrize("norm", ["bn", "brn", "gn"])
def test_raw_weights_and_metrics_are_those_of_a_run_without_average(make_spec, norm):
    dataset = data.load(specs_of(make_spec)[0].data)
    plain = train_stack(specs_of(make_spec, f"norm={norm}"), dataset, CPU)
    averaged = train_stack(specs_of(make_spec, f"norm={norm}", "optim.ema=0.9", SOURCES), dataset, CPU)
    for without, own in zip(plain, averaged, strict=True):
        assert all(torch.equal(own.final_state[name], t) for name, t in without.final_state.items())
        assert own.metrics["test_loss"] == without.metrics["test_loss"]
        assert {n for n in own.final_state if n.startswith("average.")}


def test_what_is_frozen_has_no_average(make_spec):
    (spec,) = specs_of(make_spec, "norm=bn", "optim.ema=0.9", "optim.train=norm", seeds=(5,))
    stack = Stack([spec], data.load(spec.data), CPU)
    weights = set(stack.network.average.names) - set(stack.network.average.statistics)
    assert weights == set(stack.network.trained_parameters())


@pytest.mark.parametrize("norm", ["bn", "sn", "gn"])
def test_lanes_are_lone_runs_also_after_a_checkpoint(make_spec, norm):
    words = [f"norm={norm}", "optim.ema=0.8", SOURCES, "engine.precision=fp64", "eval.every=6"]
    specs, saved = specs_of(make_spec, *words), []
    dataset = data.load(specs[0].data)
    together = train_stack(specs, dataset, CPU, Listener(checkpoint=lambda states: saved.append(states())))
    again = train_stack(specs, dataset, CPU, resume=saved[0])
    for k, spec in enumerate(specs):
        (alone,) = train_stack([spec], dataset, CPU)
        assert alone.final_state.keys() == together[k].final_state.keys()
        for name, t in alone.final_state.items():
            torch.testing.assert_close(together[k].final_state[name].view(t.shape), t, rtol=1e-9, atol=1e-11)
            assert torch.equal(together[k].final_state[name], again[k].final_state[name])
        assert again[k].metrics == together[k].metrics
        for name, value in alone.metrics.items():
            assert together[k].metrics[name] == pytest.approx(value, rel=1e-9), name


def test_a_lane_that_diverges_does_not_change_the_averages_of_others(make_spec):
    words = ["norm=none", "optim.ema=0.8", "eval.statistics=[running,ema_copy]"]
    calm = specs_of(make_spec, *words, seeds=(5, 1, 9))
    wild = [*calm[:2], make_spec(*SMALL, *words, "seed=9", "optim.lr=1e30")]
    dataset = data.load(calm[0].data)
    one, other = train_stack(calm, dataset, CPU), train_stack(wild, dataset, CPU)
    assert other[2].diverged_at is not None
    for k in (0, 1):
        assert all(torch.equal(t, other[k].final_state[n]) for n, t in one[k].final_state.items())
        assert one[k].metrics == other[k].metrics


def test_sources_are_the_swaps_that_they_say(make_spec):
    """copy, average and precise by hand: states with swapped tensors, evaluated as those of plain runs."""
    specs = specs_of(make_spec, "norm=bn", "optim.ema=0.8", SOURCES)
    plain = specs_of(make_spec, "norm=bn")
    dataset = data.load(specs[0].data)
    results = train_stack(specs, dataset, CPU)

    def swapped(state, statistics):
        own = {name: t for name, t in state.items() if not name.startswith("average.")}
        for name in own:
            if f"average.{name}" in state and (statistics or "running_" not in name):
                own[name] = state[f"average.{name}"]
        return own

    for source, statistics, asked in (
        ("ema_copy", False, "running"), ("ema_average", True, "running"), ("ema_precise", False, "precise"),
    ):  # fmt: skip
        states = [swapped(r.final_state, statistics) for r in results]
        found = evaluate_again(plain, states, dataset, CPU, [Condition(parse_source(asked))])
        name = "test_loss" if asked == "running" else "test_loss@precise"
        assert [m[name] for m in found] == [r.metrics[f"test_loss@{source}"] for r in results]


def test_runs_in_banks_have_their_own_averaged_statistics_and_are_evaluated_later_to_the_same_bits(make_spec):
    words = ["norm=bn", "optim.ema=0.8", SOURCES]
    specs = [make_spec(*SMALL, *words, f"norm.momentum={m}", f"seed={s}") for m in (0.1, 0.7) for s in (5, 1)]
    dataset = data.load(specs[0].data)
    results = train_stack(specs, dataset, CPU)
    for spec, result in zip(specs, results, strict=True):
        (alone,) = train_stack([spec], dataset, CPU)
        for source in ("ema_copy", "ema_average", "ema_precise"):
            name = f"test_loss@{source}"
            assert result.metrics[name] == pytest.approx(alone.metrics[name], rel=1e-5)
    assert len({r.metrics["test_loss@ema_average"] for r in results}) == 4
    assert len({r.metrics["test_loss@ema_precise"] for r in results}) == 2
    sources = ("ema_copy", "ema_average", "ema_precise")
    conditions = [Condition(parse_source(source)) for source in sources]
    found = evaluate_again(specs, [r.final_state for r in results], dataset, CPU, conditions)
    for metrics, result in zip(found, results, strict=True):
        assert metrics.items() <= result.metrics.items()
        assert metrics.keys() == {f"test_{kind}@{s}" for kind in ("loss", "error") for s in sources}


def test_the_average_begins_at_the_weights_of_lsuv(make_spec):
    words = [*SMALL, "norm=none", "optim.ema=0.999999", "optim.lr=1e-6"]
    spec = make_spec(*words, "model.init=lsuv")
    (result,) = train_stack([spec], data.load(spec.data), CPU)
    for name in ("body.1.0.weight", "body.5.weight"):
        raw = result.final_state[name]
        assert (result.final_state[f"average.{name}"] - raw).norm() < 1e-3 * raw.norm()


def test_averaged_weights_cannot_be_evaluated_without_an_average(make_spec):
    with pytest.raises(
        InputError, match=r"eval.statistics=ema_copy evaluates averaged weights, but optim.ema"
    ):
        make_spec("eval.statistics=[running,ema_copy]")
    with pytest.raises(InputError, match=r"optim\.ema should be less than 1"):
        make_spec("optim.ema=1")
    assert (
        make_spec("optim.ema=null").signature == make_spec().signature != make_spec("optim.ema=0.9").signature
    )


def test_averaged_weights_fail_with_the_statistics_of_the_raw_net_and_precise_repairs_them(make_spec):
    """Real digits. The average lags behind the raw weights, so their running statistics do not fit it."""
    words = [
        "model=lenet5", "norm=bn", "batch=32", "steps=60", "optim.lr=0.2", "optim.lr_scaling=none",
        "schedule=constant", "optim.ema=0.98", SOURCES,
    ]  # fmt: skip
    specs = [make_spec(*words, f"seed={seed}") for seed in (1001, 1002, 1003)]
    dataset = data.load(specs[0].data, size=models.fitted_size(specs[0]))
    for result in train_stack(specs, dataset, CPU):
        error = {name: value for name, value in result.metrics.items() if name.startswith("test_error")}
        assert error["test_error@ema_copy"] > 0.6, error  # chance is 0.9
        assert error["test_error@ema_precise"] < min(0.1, error["test_error"]), error
        assert error["test_error@ema_average"] < 0.3, error
