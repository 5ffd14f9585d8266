"""Messages about a norm on the command line name the keys to set."""

from __future__ import annotations

import pytest

from normbench import models
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.models import keys
from normbench.norms import catalogue

MLP = ("model=mlp", "model.hidden=[6]", "data=synthetic")
NET = ("model=lenet5", "data=synthetic")

OUT = "leave this site out of placement.sites"
#: Words of a run that cannot exist → what the message says.
REFUSED = {
    "a divisor": (
        [*NET, "norm=gn", "norm.args.group_size=5"],
        "norm.args.group_size must divide the channels; got norm.args.group_size=5",
    ),
    "both": (
        [*NET, "norm=gn", "norm.args.group_size=2", "norm.args.num_groups=2"],
        "give norm.args.num_groups or norm.args.group_size, not both",
    ),
    "eps": (
        [*NET, "norm=gn", "norm.args.num_groups=0.5"],
        "norm.args.num_groups must be a whole number",
    ),
    "one value": (
        [*MLP, "norm=bn", "batch=1"],
        f"use batch ≥ 2, another norm, or {OUT}",
    ),
    "one image": (
        [*MLP, "norm=sync", "batch=1"],
        f"use batch ≥ 2, workers ≥ 2, another norm, or {OUT}",
    ),
    "a window": (
        [*MLP, "norm=lcn", "norm.args.size=1", "norm.args.per_channel=true"],
        f"use norm.args.size ≥ 3, norm.args.per_channel=false, or {OUT}",
    ),
    "an even window": (
        [*NET, "norm=lcn", "norm.args.size=4"],
        "lcn: norm.args.size must be odd",
    ),
    "a kernel": (
        [*MLP, "norm=bnet"],
        f"Set norm.args.kernel=1, which is bn, or {OUT}",
    ),
    "few values": (
        [*MLP, "norm=dbn", "batch=2", "norm.args.group_size=2"],
        "norm.args.group_size ≤ ",
    ),
    "a ghost": (
        [*NET, "norm=ghost", "batch=6", "norm.args.ghost_size=4"],
        "norm.args.ghost_size must divide batch",
    ),
    "no feeder": (
        [*NET, "norm=cbn", "placement=conv_act_norm"],
        f"Use placement=conv_norm_act, set norm.args.compensate=false, or {OUT}",
    ),
    "frn": (
        [*MLP, "norm=frn", "norm.args.learn_eps=false"],
        "use norm.args.learn_eps=auto, another norm",
    ),
    "a renorm momentum": (
        [*NET, "norm=brn", "norm.args.renorm_momentum=2"],
        "norm.args.renorm_momentum must lie in [0, 1]",
    ),
    "a share": (
        [*NET, "norm=frozen", "norm.args.after=2"],
        "norm.args.after must be a number in [0, 1]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_message_names_the_key_to_set(case, make_spec):
    words, message = REFUSED[case]
    with pytest.raises(InputError) as error:
        models.check(make_spec(*words), Shape(1, 32, 10, 1000, 1000))
    assert message in str(error.value)


def test_every_remedy_is_one_that_the_library_gives(pytestconfig):
    library = "".join(
        f.read_text("utf-8") for f in (pytestconfig.rootpath / "src/normbench/norms").rglob("*.py")
    )
    assert [remedy for remedy in keys.REMEDIES if remedy not in library] == []


def test_every_argument_of_every_norm_gets_its_key():
    for name, entry in catalogue().items():
        for argument in entry.arguments.keys() - {*keys.CONTEXT}:
            key = f"norm.{argument}" if argument in keys.KNOBS else f"norm.args.{argument}"
            said = keys.of_norm(ValueError(f"{name}: {argument} must be 1; got 2. Set {argument}=1"), name)
            assert said == f"{name}: {key} must be 1; got 2. Set {key}=1"


def test_a_word_that_is_no_argument_stays():
    said = keys.of_norm(ValueError("lcn: the size of a map is 1, and its input must be larger"), "lcn")
    assert said == "lcn: the size of a map is 1, and its input must be larger"


def test_maps_of_weights_are_named_by_their_key(make_spec):
    words = ("model=mlp", "model.hidden=[6]", "data=synthetic", "norm=none", "weight=ws")
    with pytest.raises(InputError, match="use weight=none or weight=wn"):
        models.check(make_spec(*words), Shape(1, 1, 10, 1000, 1000))
