"""The knobs of a choice: null where it has none, a value everywhere else, one spelling for equal values."""

from __future__ import annotations

import pytest

from normbench import models
from normbench.config.choices import choices, declared
from normbench.config.compose import compose
from normbench.config.knobs import NULL_MEANS
from normbench.config.resolve import resolve
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.spec import RunSpec

GROUPS = ("model", "norm", "weight", "data", "optim", "schedule", "tracking")
#: Every knob and argument that some packaged choice has.
KNOBS = [
    (group, name, knob)
    for group in GROUPS
    for name in choices(group)
    for knob, default in [
        *declared(group, name).items(),
        *((f"args.{argument}", value) for argument, value in declared(group, name).get("args", {}).items()),
    ]
    if default is not None and knob not in ("name", "args", "numerics", "neutral", "banks")
    if not str(default).startswith("${")
]


def spec_of(*words: str) -> RunSpec:
    [config] = compose(words)
    return resolve(config).spec


@pytest.mark.parametrize(("group", "name", "knob"), KNOBS)
def test_null_is_refused_or_means_what_its_library_documents(group: str, name: str, knob: str) -> None:
    words = [f"{group}={name}", f"{group}.{knob}=null"]
    if name == "folder" and knob != "path":
        words.append("data.path=.")
    if f"{group}.{knob}" in NULL_MEANS:
        assert spec_of(*words) == spec_of(words[0], f"{group}.{knob}={NULL_MEANS[f'{group}.{knob}']}")
        return
    with pytest.raises(InputError, match=f"{group}.{knob}"):
        spec_of(*words)


def test_a_momentum_of_null_is_the_plain_average_as_in_torch() -> None:
    assert str(spec_of("norm.momentum=null").norm.momentum) == "cumulative"
    assert spec_of("norm.momentum=null").signature == spec_of("norm.momentum=cumulative").signature
    assert spec_of("norm=gn", "norm.momentum=null").norm.momentum is None
    assert spec_of("norm.args.track=false", "norm.momentum=null").norm.momentum is None


@pytest.mark.parametrize(
    ("norm", "words"),
    [
        ("brn", ["norm.args.r_max=3", "norm.args.r_max=3.0", "norm.args.r_max=3e0"]),
        ("brn", ["norm.args.renorm_momentum=keras:0.99", "norm.args.renorm_momentum=0.01"]),
        ("lrn", ["norm.args.size=5", "norm.args.size=5.0", "seed=0"]),
        ("gn", ["norm.args.group_size=2", "norm.args.group_size=2.0"]),
        ("lcn", ["norm.args.sigma=2", "norm.args.sigma=2.0"]),
        ("bn", ["norm.args={}", "norm.args={track:true}", "seed=0", "norm.args=null"]),
        ("bn", ["placement.sites=first", "placement.sites=[first]"]),
        ("bn", ["placement.sites=[conv1,conv2]", "placement.sites=[conv2,conv1,conv2]"]),
        ("bn", ["optim.weight_decay=0", "optim.weight_decay=0.0"]),
    ],
)
def test_equal_values_make_one_run_however_they_are_written(norm: str, words: list[str]) -> None:
    assert len({spec_of(f"norm={norm}", word).signature for word in words}) == 1


@pytest.mark.parametrize(
    ("norm", "word", "said"),
    [
        ("brn", "norm.args.r_max=true", "norm.args.r_max of norm=brn must be a number; got true"),
        ("noisy_bn", "norm.args.n_mu=false", "must be a number"),
        ("lrn", "norm.args.size=true", "must be a number"),
        ("lrn", "norm.args.size=2.5", "must be a whole number"),
        ("gn", "norm.args.group_size=true", "must be a number"),
        ("frozen", "norm.args.after=true", "must be a number"),
        ("frozen", "norm.args.after=half", "must be a number"),
        ("bn", "norm.args.track=1", "must be true or false"),
        ("bn", "batch=true", "batch"),
        ("bn", "optim.lr=true", "optim.lr"),
        ("bn", "norm.args=3", "norm.args must be written"),
    ],
)
def test_a_value_of_another_type_is_refused(norm: str, word: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        spec_of(f"norm={norm}", word)
    assert said in str(caught.value)


def test_a_file_of_ones_own_may_leave_arguments_out(tmp_path) -> None:
    (tmp_path / "norm").mkdir()
    text = "name: bn\nmomentum: 0.1\neps: 1.0e-5\naffine: true\nargs: {}\n"
    (tmp_path / "norm" / "mine.yaml").write_text(text)
    [config] = compose(["norm=mine"], str(tmp_path))
    assert resolve(config).spec.signature == spec_of("norm=bn").signature


@pytest.mark.parametrize("norm", ["bn", "bcn", "bnet", "ghost", "mixture", "sn", "sync"])
def test_without_running_statistics_their_variance_is_dropped(norm, make_sweep):
    words = (f"norm={norm}", "norm.args.track=false")
    (plain,), (biased,) = make_sweep(*words), make_sweep(*words, "norm.args.variance=biased")
    assert plain.spec.signature == biased.spec.signature
    assert (plain.unused, biased.unused) == ((), (f"norm.args.variance of {norm}",))


def test_a_variance_is_still_checked_without_running_statistics(make_spec):
    spec = make_spec("norm.args.track=false", "norm.args.variance=both", "data=digits", "model=mlp")
    with pytest.raises(InputError, match=r"norm\.args\.variance must be"):
        models.check(spec, Shape(1, 8, 10, 1000, 1000))


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(
    "words", ["norm=gn norm.args.num_groups", "norm=bnet norm.args.kernel", "norm.args.variance"]
)
def test_an_argument_that_json_cannot_hold_is_refused(words, value, make_spec):
    *others, argument = words.split()
    with pytest.raises(InputError, match=f"{argument} of .* must be finite; got {value}"):
        make_spec(*others, f"{argument}={value}")
