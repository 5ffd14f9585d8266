"""Learning-rate schedules: their shapes, and milestones at the exact step."""

from __future__ import annotations

import math

import pytest

from normbench import models
from normbench.data.shape import Shape
from normbench.engine.schedule import first_step, multiplier
from normbench.errors import InputError
from normbench.momentum import parse_momentum
from normbench.sweeps.plan import stacks


def curve(spec, steps=100):
    return [multiplier(spec.schedule, step, steps) for step in range(steps)]


def test_the_constant_schedule_is_1(make_spec):
    assert curve(make_spec("schedule=constant")) == [1.0] * 100


def test_the_step_schedule_multiplies_by_gamma_at_its_milestones(make_spec):
    lr = curve(make_spec("schedule=step", "schedule.milestones=[0.5,0.75]", "schedule.gamma=0.1"))
    assert lr == pytest.approx([1.0] * 50 + [0.1] * 25 + [0.01] * 25)


def test_the_cosine_schedule_is_half_a_cosine(make_spec):
    wanted = [(1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)]
    assert curve(make_spec("schedule=cosine")) == pytest.approx(wanted)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_warm_up_rises_linearly_to_1_and_the_schedule_covers_the_rest(make_spec, schedule):
    words = ["schedule.milestones=[0.5,0.75]"] if schedule == "step" else []
    lr = curve(make_spec(f"schedule={schedule}", "schedule.warmup=0.2", *words))
    assert lr[:20] == pytest.approx([step / 20 for step in range(1, 21)])
    rest = {
        "constant": [1.0] * 80,
        "step": [1.0] * 30 + [0.1] * 25 + [0.01] * 25,
        "cosine": [(1 + math.cos(math.pi * step / 80)) / 2 for step in range(80)],
    }
    assert lr[20:] == pytest.approx(rest[schedule])


def test_every_milestone_takes_effect_at_its_exact_step(make_spec):
    """A share of p / 1000 takes effect at step ⌈p · steps / 1000⌉, computed with whole numbers."""
    lengths = [*range(1, 60), 100, 128, 200, 300, 391, 500, 625, 700, 1000, 1250, 3000, 64_000]
    for per_mille in range(1001):
        for steps in lengths:
            assert first_step(per_mille / 1000, steps) == -(-per_mille * steps // 1000), (per_mille, steps)


@pytest.mark.parametrize(
    ("share", "steps", "milestone"),
    [
        ("0.07", 100, 7),
        ("0.29", 100, 29),
        ("0.55", 100, 55),
        ("0.57", 100, 57),
        ("0.007", 1000, 7),
        ("0.6666666666666667", 300, 200),
        ("0.3333333333333333", 300, 100),
        ("0.1", 101, 11),
        ("0", 10, 0),
    ],
)
def test_the_learning_rate_falls_at_the_exact_step(make_spec, share, steps, milestone):
    spec = make_spec("schedule=step", f"schedule.milestones=[{share}]", "schedule.gamma=0.5")
    assert curve(spec, steps) == [1.0] * milestone + [0.5] * (steps - milestone)


@pytest.mark.parametrize("steps", [7, 50, 100, 128, 391, 1000, 1250])
def test_a_momentum_schedule_falls_at_the_exact_steps(steps):
    for percent in range(1, 100):
        momentum = parse_momentum(f"step:0.5:0.5:{percent / 100}")
        first = -(-percent * steps // 100)
        for step in (first - 1, first):
            passed = 100 * step // (percent * steps)
            assert momentum.at(step / steps) == 0.5 * 0.5**passed, (percent, steps)


def test_norms_change_their_phase_at_the_exact_step(make_spec):
    spec = make_spec("model=mlp", "model.hidden=[3]", "norm=frozen", "norm.args.after=0.5")
    network = models.build([spec], Shape(1, 2, 2, 1, 1), dry=True)
    (layer,) = network.norms().values()
    for percent in range(1, 100):
        layer.phase_change_at = percent / 100
        network.train()  # reads the change of phase again
        for steps in (50, 100, 128, 391, 1250):
            first = -(-percent * steps // 100)
            for step, phase in ((first - 1, 0), (first, 1)):
                network.begin_step(step, steps)
                assert layer.after_phase_change is bool(phase), (percent, steps)
                assert network.phase(step, steps) == phase, (percent, steps)


def test_an_unknown_schedule_is_refused(make_spec):
    schedule = make_spec().schedule.model_copy(update={"name": "cosin"})
    with pytest.raises(InputError, match="unknown schedule 'cosin'; nearest: cosine"):
        multiplier(schedule, 0, 10)


@pytest.mark.parametrize(
    "words",
    [
        ["schedule.warmup=0,0.1"],
        ["optim.label_smoothing=0,0.1"],
        ["schedule=constant,cosine"],
        ["schedule=step", "schedule.gamma=0.1,0.2"],
        ["schedule=step", "schedule.milestones=[0.5],[0.6]"],
    ],
    ids=lambda words: " ".join(words),
)
def test_runs_with_other_schedules_or_losses_are_never_one_stack(make_sweep, words):
    """The multiplier and the loss are those of the first run, so they must be the same in all lanes."""
    specs = [resolved.spec for resolved in make_sweep(*words, "seed=0,1")]
    packs = stacks(specs, capacity=lambda spec: 4)
    assert [len(pack.specs) for pack in packs] == [2, 2]
    for pack in packs:
        assert len({(spec.schedule, spec.optim.label_smoothing) for spec in pack.specs}) == 1
