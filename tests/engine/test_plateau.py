"""`schedule=plateau`: torch's rule per lane, in stacks as alone, and after a checkpoint as without one."""

from __future__ import annotations

import pytest
import torch

from normbench import data
from normbench.engine.lane_assignment import LaneAssignment
from normbench.engine.plateau import Plateau, check_steps
from normbench.engine.train import Listener, train_stack
from normbench.errors import InputError
from normbench.norms import catalogue

CPU = torch.device("cpu")
WORDS = ["model=mlp", "model.hidden=[24]", "batch=16", "data.valid=0.2", "schedule=plateau", "tracking=none"]
QUICK = [*WORDS, "steps=120", "schedule.every=6", "schedule.patience=1", "schedule.gamma=0.5"]
#: High rates, which make the validation loss rise again soon.
LANES = [["optim.lr=1.0", "seed=3"], ["optim.lr=0.05", "seed=1"], ["optim.lr=2.0", "seed=7"]]


def lrs(result):
    return [point["lr"] for point in result.history]


def schedule_of(make_spec, **knobs):
    return make_spec(*WORDS, *(f"schedule.{name}={value}" for name, value in knobs.items())).schedule


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("gamma", "patience", "minimum"), [(0.1, 0, 0.0), (0.5, 2, 0.0), (0.3, 1, 0.05)])
def test_decisions_are_those_of_torch(make_spec, gamma, patience, minimum, seed):
    """Losses that fall, stand still to within the threshold, rise, and are not finite numbers."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.rand(60, generator=generator, dtype=torch.float64)
    losses = (2 + 0.3 * steps.sub(0.55).cumsum(0)).clamp(min=0.1).tolist()
    losses[10:14] = [losses[9] * (1 - 5e-5)] * 4
    schedule = schedule_of(make_spec, gamma=gamma, patience=patience, minimum=minimum, every=5)
    plateau = Plateau(schedule, 1000, 1)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    rule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=gamma, patience=patience, min_lr=minimum, eps=0
    )
    for number, loss in enumerate(losses):
        lost = number in (20, 21)
        plateau.see([{"step": 5 * (number + 1), "valid_loss": None if lost else loss}])
        plateau.see([{"step": 5 * (number + 1) + 2, "valid_loss": -1.0}])  # no check: not looked at
        rule.step(float("nan") if lost else loss)
        assert plateau.factors == pytest.approx([optimizer.param_groups[0]["lr"]], rel=1e-12)
    assert plateau.factors[0] < 1


def test_checks_begin_after_warm_up_and_end_before_the_last_step(make_spec):
    schedule = schedule_of(make_spec, every=10, warmup=0.3)
    assert sorted(check_steps(schedule, 100)) == [40, 50, 60, 70, 80, 90]
    assert check_steps(make_spec("schedule=cosine").schedule, 100) == frozenset()


def test_the_rate_of_a_point_is_the_rate_that_its_last_step_had(make_spec):
    """The curve replayed by hand: the rate falls right after a check without a smaller loss."""
    spec = make_spec(*QUICK, *LANES[2])
    (result,) = train_stack([spec], data.load(spec.data), CPU)
    factor, best, waited, falls = 1.0, float("inf"), 0, 0
    for point in result.history:
        assert point["lr"] == spec.lr * factor
        if point["step"] % 6 or point["step"] == 120:
            continue
        if point["valid_loss"] < best * (1 - 1e-4):
            best, waited = point["valid_loss"], 0
        elif (waited := waited + 1) > 1:
            factor, waited, falls = factor * 0.5, 0, falls + 1
    assert falls >= 2


@pytest.mark.parametrize("norm", ["bn", "gn"])
@pytest.mark.parametrize("optim", ["sgd", "adamw"])
def test_lanes_decide_for_themselves_as_alone(make_spec, norm, optim):
    words = [*QUICK, f"norm={norm}", f"optim={optim}", "engine.precision=fp64"]
    rates = {"sgd": (1.0, 0.05, 2.0), "adamw": (0.02, 0.001, 0.1)}[optim]
    specs = [make_spec(*words, f"optim.lr={lr}", f"seed={seed}") for seed, lr in enumerate(rates)]
    dataset = data.load(specs[0].data)
    together = train_stack(specs, dataset, CPU)
    for spec, result in zip(specs, together, strict=True):
        (alone,) = train_stack([spec], dataset, CPU)
        assert lrs(result) == lrs(alone)
        assert result.metrics["valid_loss"] == pytest.approx(alone.metrics["valid_loss"], rel=1e-8)
    assert (
        len({tuple(rate / spec.lr for rate in lrs(r)) for spec, r in zip(specs, together, strict=True)}) > 1
    )


def test_the_factor_reaches_the_weights(make_spec):
    """After the first fall the weights are those of a run that took the smaller rate from there."""
    words = [*WORDS, "norm=none", "optim.momentum=0", "optim.weight_decay=0", "engine.precision=fp64"]
    words += ["schedule.every=1", "schedule.patience=0", "schedule.gamma=0.25", "optim.lr_scaling=none"]
    spec = make_spec(*words, "optim.lr=8.0", "steps=8", "seed=2")
    dataset, kept = data.load(spec.data), []
    (result,) = train_stack(
        [spec], dataset, CPU, Listener(checkpoint=lambda states: kept.append(states()[0]))
    )
    rates = lrs(result)
    assert rates[0] == 8.0
    assert min(rates) < 8.0
    fall = next(i for i, rate in enumerate(rates) if rate < 8.0)
    rest = [word for word in words if not word.startswith("schedule")]
    other = make_spec(*rest, "schedule=constant", "steps=8", "seed=2", "optim.lr=2.0")
    state = {**kept[fall - 1], "history": []}
    taken = []
    train_stack(
        [other], dataset, CPU, Listener(checkpoint=lambda states: taken.append(states()[0])), resume=[state]
    )
    after = next(each for each in taken if each["step"] == kept[fall]["step"])
    assert all(torch.equal(after["tensors"][name], t) for name, t in kept[fall]["tensors"].items())


@pytest.mark.parametrize("words", [["norm=bn"], ["norm=gn", "optim=adamw", "schedule.warmup=0.1"]])
def test_a_run_goes_on_from_any_checkpoint_in_the_same_bits(make_spec, words):
    lanes = [[*lane[1:], "optim.lr=0.1"] for lane in LANES] if "optim=adamw" in words else LANES
    specs = [make_spec(*QUICK, *words, *lane) for lane in lanes]
    dataset, kept = data.load(specs[0].data), []
    whole = train_stack(specs, dataset, CPU, Listener(checkpoint=lambda states: kept.append(states())))
    assert any(min(lrs(result)) < 0.6 * max(lrs(result)) for result in whole)
    for states in kept[5::9]:
        resumed = train_stack(specs, dataset, CPU, resume=states)
        assert [r.history for r in resumed] == [r.history for r in whole]
        assert [r.metrics for r in resumed] == [r.metrics for r in whole]


def test_a_lane_that_diverges_does_not_touch_the_rates_of_others(make_spec):
    words = [*QUICK, "norm=none", "optim.lr_scaling=none", "optim.momentum=0"]
    calm, wild, mild = (make_spec(*words, f"optim.lr={lr}", "seed=1") for lr in (0.3, 1e6, 0.2))
    dataset = data.load(calm.data)
    mixed, clean = train_stack([calm, wild], dataset, CPU), train_stack([calm, mild], dataset, CPU)
    assert mixed[1].diverged_at is not None
    assert mixed[0].history == clean[0].history


def test_a_denser_curve_does_not_change_the_decisions(make_spec):
    few, many = (make_spec(*QUICK, *LANES[0], f"eval.every={every}") for every in ("null", "4"))
    assert few.signature == many.signature
    dataset = data.load(few.data)
    (one,), (other,) = train_stack([few], dataset, CPU), train_stack([many], dataset, CPU)
    assert one.metrics == other.metrics
    rates = {point["step"]: point["lr"] for point in other.history}
    assert all(rates[point["step"]] == point["lr"] for point in one.history)


def test_checks_look_at_validation_images_alone(make_spec):
    """The test split decides nothing: with other test images the run is the same."""
    from dataclasses import replace

    spec = make_spec(*QUICK, *LANES[0])
    dataset = data.load(spec.data)
    other = replace(
        dataset, test_images=dataset.test_images.flip(0)[:100], test_labels=dataset.test_labels[:100]
    )
    (one,), (two,) = train_stack([spec], dataset, CPU), train_stack([spec], other, CPU)
    assert all(torch.equal(one.final_state[name], two.final_state[name]) for name in one.final_state)
    assert all("test_error" not in point for point in one.history[:-1])


def test_runs_that_differ_in_the_momentum_of_evaluation_are_lanes_of_their_own(make_spec):
    """Running statistics decide about the rate, so training reads them: no banks."""
    specs = [make_spec(*QUICK, *LANES[0], "norm=bn", f"norm.momentum={m}") for m in (0.1, 0.9)]
    assert specs[0].norm.banks
    assignment = LaneAssignment(specs)
    assert (len(assignment.lanes), assignment.banks) == (2, 1)
    assert specs[0].stack_key() == specs[1].stack_key()
    shared = [make_spec("norm=bn", "data.valid=0.2", f"norm.momentum={m}") for m in (0.1, 0.9)]
    assert len(LaneAssignment(shared).lanes) == 1
    assert "bn" in catalogue()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.valid=0"], "schedule=plateau decides by the validation loss, so data.valid must be above 0"),
        (["schedule.gamma=1.0"], "schedule.gamma of plateau must be below 1; got 1"),
        (["schedule.every=null"], "schedule.every must have a value"),
        (["schedule.every=0"], "schedule.every"),
        (["schedule.patience=-1"], "schedule.patience"),
        (["schedule.minimum=1.5"], "schedule.minimum"),
    ],
)
def test_a_plateau_that_cannot_be_followed_is_refused(make_spec, words, message):
    with pytest.raises(InputError, match=message):
        make_spec(*WORDS, *words)


def test_knobs_of_the_plateau_are_dropped_from_other_schedules(make_sweep):
    (resolved,) = make_sweep("schedule=cosine", "schedule.every=10", "schedule.patience=3")
    assert resolved.unused == ("schedule.every of cosine", "schedule.patience of cosine")
    assert resolved.spec.signature == make_sweep("schedule=cosine")[0].spec.signature


def test_the_cadence_and_the_patience_are_in_the_signature(make_spec):
    base = make_spec(*WORDS)
    for knob in ("every=50", "patience=1", "minimum=0.01", "gamma=0.3"):
        assert make_spec(*WORDS, f"schedule.{knob}").signature != base.signature
