"""The cost model: exact seconds from measurements, from runs that have ended, and from shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from normbench.autotune import cost
from normbench.autotune.cost import CostModel, evaluated_images
from normbench.autotune.tuning import Measurement
from normbench.autotune.workload import Workload
from normbench.data.shape import Shape
from normbench.engine.device import device_name
from normbench.engine.stack_layout import StackLayout
from normbench.record import COMPLETE, DIVERGED, FAILED, Record

CPU = torch.device("cpu")
LAYOUT = StackLayout("contiguous")
WORDS = ["model=mlp", "steps=100", "batch=4", "engine.device=cpu", "eval.statistics=[running]"]
SHAPE = Shape(1, 8, 10, 1000, 200)


def workload(**fields) -> Workload:
    """A workload whose steps take 10 s per lane if OVERHEAD_S is 0 and BYTE_S is 1."""
    given = {"lane_bytes": 10, "image_bytes": 0} | fields
    return Workload({}, Path(), SHAPE, CPU, **given)


def record(spec, stack_s, lanes=1, steps=100, runs=None) -> Record:
    """A run that has ended, in a stack of that many lanes that took stack_s seconds for its steps."""
    train_s = stack_s / (runs or lanes)
    return Record(
        signature=spec.signature,
        spec=spec.model_dump(mode="json"),
        status=COMPLETE,
        metrics={},
        timing={"stack_s": stack_s, "train_s": train_s, "steps_per_s": steps / train_s},
        environment={"device": device_name(CPU)},
        provenance={"stack_size": lanes},
    )


def seeds(spec, count):
    return [spec.model_copy(update={"seed": 100 + number}) for number in range(count)]


def seconds(specs, ended=(), **fields):
    return CostModel(lambda: ended).cost(specs, workload(**fields)).seconds


@pytest.fixture(autouse=True)
def simple(monkeypatch):
    """One second per byte, no overhead."""
    monkeypatch.setitem(cost.OVERHEAD_S, "cpu", 0.0)
    monkeypatch.setitem(cost.BYTE_S, "cpu", 1.0)


@pytest.fixture
def spec(make_spec):
    return make_spec(*WORDS)


def test_a_guess_grows_with_lanes_steps_and_bytes(make_spec, spec):
    assert seconds([spec]) == 10 * 100
    assert seconds(seeds(spec, 3)) == 3 * 10 * 100
    assert seconds([make_spec(*WORDS, "steps=7")]) == 10 * 7
    assert seconds([spec], lane_bytes=20) == 20 * 100


def test_a_guess_has_a_factor_and_other_sources_have_none(spec):
    guess = CostModel().cost([spec], workload())
    known = CostModel(lambda: [record(spec, 1.0)]).cost([spec], workload())
    assert (guess.source, guess.factor) == ("guess", cost.GUESS_FACTOR["cpu"])
    assert (known.source, known.factor) == ("ended", 1.0)


def test_lanes_share_the_overhead_of_a_step(spec, monkeypatch):
    monkeypatch.setitem(cost.OVERHEAD_S, "cpu", 5.0)
    assert seconds([spec]) == (5 + 10) * 100
    assert seconds(seeds(spec, 4)) == (5 + 4 * 10) * 100


def test_evaluated_images_cost_their_bytes(make_spec):
    spec = make_spec(*WORDS, "eval.every=40")  # after 40, 80 and 100 steps
    assert seconds([spec], image_bytes=2) == 10 * 100 + 3 * 200 * 2


@pytest.mark.parametrize(
    ("every", "statistics", "images"),
    [
        ("null", "running", 200),
        ("50", "running", 400),
        ("33", "running", 800),
        ("1000", "running", 200),
        ("null", "running,batch", 400),
        ("null", "running,adapt", 600),
        ("null", "running,precise", 1400),
        ("50", "running,batch,precise", 1800),
    ],
)
def test_evaluated_images_are_counted_by_statistics_source(make_spec, every, statistics, images):
    spec = make_spec(*WORDS[:-1], f"eval.every={every}", f"eval.statistics=[{statistics}]")
    assert evaluated_images(spec.eval, 100, workload()) == images
    assert evaluated_images(spec.eval, 100, workload(), banks=2) == 2 * images


def test_precise_statistics_read_at_most_ten_thousand_training_images(make_spec):
    spec, large = make_spec(*WORDS[:-1], "eval.statistics=[precise]"), workload()
    large.shape = Shape(1, 8, 10, 60_000, 200)
    assert evaluated_images(spec.eval, 100, large) == 2 * 200 + 10_000


@pytest.mark.parametrize(("lanes", "wanted"), [(1, 1), (2, 1), (4, 3), (16, 3)])
def test_a_measurement_counts_at_the_nearest_width(spec, lanes, wanted):
    measured = {width: Measurement(width, LAYOUT, float(s), 1) for width, s in ((1, 1), (8, 3))}
    made = CostModel(pytest.fail).cost(seeds(spec, lanes), workload(measurements=measured))
    assert made.seconds == pytest.approx(lanes * 100 * wanted)
    assert (made.source, made.factor) == ("measured", 1.0)


def test_a_measurement_also_corrects_the_cost_of_evaluation(spec):
    measured = {1: Measurement(1, LAYOUT, 30.0, 1)}  # three times the formula
    assert seconds([spec], image_bytes=2, measurements=measured) == pytest.approx(3 * (1000 + 400))


def test_a_run_like_one_that_has_ended_takes_as_long(spec):
    assert seconds([spec], [record(spec, 42.0)]) == pytest.approx(42)


@pytest.mark.parametrize("lanes", [1, 2, 8])
@pytest.mark.parametrize("width", [1, 4])
def test_the_time_of_an_ended_stack_is_divided_by_its_lanes(spec, lanes, width):
    assert seconds(seeds(spec, lanes), [record(spec, 8.0 * width, width)]) == pytest.approx(8 * lanes)


def test_the_time_of_an_ended_stack_is_divided_by_its_steps(make_spec, spec):
    assert seconds([make_spec(*WORDS, "steps=300")], [record(spec, 8.0)]) == pytest.approx(24)
    short = record(make_spec(*WORDS, "steps=20"), 8.0, steps=20)
    assert seconds([spec], [short]) == pytest.approx(40)


def test_evaluation_of_a_short_ended_run_does_not_inflate_a_long_one(make_spec):
    short, long = make_spec(*WORDS, "steps=10"), make_spec(*WORDS, "steps=1000")
    took = 10 * 10 + 50 * 200  # seconds of 10 steps and of one evaluation
    assert seconds([long], [record(short, took, steps=10)], image_bytes=50) == pytest.approx(
        1000 * 10 + 50 * 200
    )


def test_banks_of_statistics_share_a_lane(make_spec):
    momenta = [make_spec(*WORDS, f"norm.momentum={momentum}") for momentum in (0.1, 0.2, 0.3)]
    assert seconds(momenta) == 10 * 100
    assert seconds(momenta, image_bytes=2) == 10 * 100 + 3 * 200 * 2
    ended = record(momenta[0], 1000 + 1200, lanes=1, runs=3)
    assert seconds(momenta[:1], [ended], image_bytes=2) == pytest.approx(1000 + 400)


@pytest.mark.parametrize(("lanes", "runs"), [(1, 1), (4, 4), (2, 6), (1, 3)])
def test_the_evaluation_of_an_ended_stack_is_divided_by_its_lanes_and_banks(spec, lanes, runs):
    took = lanes * 1000 + runs * 200 * 2  # seconds of 100 steps per lane and of one evaluation per run
    ended = record(spec, took, lanes, runs=runs)
    assert seconds([spec], [ended], image_bytes=2) == pytest.approx(1000 + 400)


def test_the_median_of_the_ended_runs_at_the_nearest_width_counts(spec):
    ended = [record(spec, s, width) for s, width in ((1.0, 1), (16.0, 8), (24.0, 8), (80.0, 8))]
    assert seconds(seeds(spec, 4), ended) == pytest.approx(4 * 3)
    assert seconds([spec], ended) == pytest.approx(1)


def test_a_closer_likeness_wins(make_spec, spec):
    gn = record(make_spec(*WORDS, "norm=gn"), 5.0)
    assert seconds([spec], [gn]) == pytest.approx(5)
    assert seconds([spec], [gn, record(spec, 7.0)]) == pytest.approx(7)


@pytest.mark.parametrize("word", ["norm.momentum=0.7", "norm.eps=0.01", "optim.lr=3.0", "seed=9"])
def test_a_field_that_costs_nothing_makes_runs_no_less_alike(make_spec, spec, word):
    gn = record(make_spec(*WORDS, "norm=gn"), 5.0)
    assert seconds([spec], [gn, record(make_spec(*WORDS, word), 7.0)]) == pytest.approx(7)


@pytest.mark.parametrize(
    "word", ["model=lenet5", "batch=8", "workers=2", "data=mnist", "engine.precision=fp64"]
)
def test_other_models_batches_data_and_precisions_tell_nothing(make_spec, spec, word):
    assert (
        CostModel(lambda: [record(make_spec(*WORDS, word), 5.0)]).cost([spec], workload()).source == "guess"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"environment": {"device": "another"}},
        {"environment": {}},
        {"status": DIVERGED},
        {"status": FAILED},
        {"timing": {}},
        {"timing": {"stack_s": [1.0], "train_s": 1.0, "steps_per_s": 1.0}},
        {"timing": {"stack_s": float("nan"), "train_s": 1.0, "steps_per_s": 1.0}},
        {"timing": {"stack_s": 1.0, "train_s": 0.0, "steps_per_s": 1.0}},
        {"timing": {"stack_s": 1.0, "train_s": 1.0, "steps_per_s": 0.0}},
        {"provenance": {}},
        {"provenance": {"stack_size": 0}},
        {"provenance": {"stack_size": 1, "ranks": 2}},
        {"spec": {}},
        {"spec": {"model": None}},
    ],
    ids=str,
)
def test_a_record_of_another_device_or_without_sound_numbers_is_ignored(spec, fields):
    ended = replace(record(spec, 5.0), **fields)
    assert CostModel(lambda: [ended]).cost([spec], workload()).source == "guess"


def test_ended_runs_are_read_once_and_only_if_needed(spec):
    calls = []
    model = CostModel(lambda: calls.append(1) or [])
    model.cost([spec], workload(measurements={1: Measurement(1, LAYOUT, 1.0, 1)}))
    assert not calls
    model.cost([spec], workload())
    model.cost(seeds(spec, 2), workload())
    assert calls == [1]
