"""The specification: strict types, and a signature of the fields that change the result."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from normbench.config import resolve as resolution
from normbench.errors import InputError
from normbench.spec import ModelSpec, RunSpec, neutral_at

GOLDEN = Path(__file__).parent / "golden" / "signatures.json"


@pytest.mark.parametrize(("signature", "words"), list(json.loads(GOLDEN.read_text()).items()))
def test_signatures_do_not_change_between_versions(make_spec, signature, words):
    """If a default or a spelling changes, old records are not found. Change the file only on purpose."""
    assert make_spec(*words).signature == signature


@pytest.mark.parametrize(
    "word",
    [
        "engine.device=cpu",
        "engine.lanes=1",
        "engine.processes=1",
        "tracking=none",
        "data.root=/elsewhere",
        "total=32",
    ],
)
def test_device_stacks_and_data_folder_do_not_change_the_signature(make_spec, word):
    assert make_spec("data=mnist", word).signature == make_spec("data=mnist").signature


@pytest.mark.parametrize(
    "word",
    [
        "seed=1",
        "batch=16",
        "norm.eps=1e-3",
        "optim.lr=0.2",
        "model.dropout=0.1",
        "model.branch=fixup",
        "model.init=lsuv",
        "engine.precision=fp64",
    ],
)
def test_a_setting_that_changes_the_result_changes_the_signature(make_spec, word):
    assert make_spec(word).signature != make_spec().signature


class WiderModel(ModelSpec):
    """A model with a knob that was added later."""

    gloss: float = neutral_at(0.0)


class WiderRun(RunSpec):
    model: WiderModel


def test_a_new_knob_at_its_neutral_value_keeps_earlier_signatures(make_spec):
    """Declaring the field is enough. At its neutral value a run keeps its earlier signature."""
    earlier = make_spec()
    tree = earlier.model_dump(mode="json")
    assert WiderRun.model_validate(tree).signature == earlier.signature
    glossy = {**tree, "model": {**tree["model"], "gloss": 0.5}}
    assert WiderRun.model_validate(glossy).signature != earlier.signature


def test_a_new_argument_of_a_norm_at_its_neutral_value_keeps_earlier_signatures(make_spec, monkeypatch):
    earlier = make_spec("norm=gn").signature
    before = resolution.declared

    def with_a_new_argument(group, name):
        facts = before(group, name)
        return (
            {**facts, "neutral": {"args.shine": 1}, "args": {**facts["args"], "shine": 1}}
            if name == "gn"
            else facts
        )

    monkeypatch.setattr(resolution, "declared", with_a_new_argument)
    assert make_spec("norm=gn", "+norm.args.shine=1").signature == earlier
    assert make_spec("norm=gn").signature == earlier
    assert make_spec("norm=gn", "+norm.args.shine=2").signature != earlier


@pytest.mark.parametrize("group", ["model", "norm", "weight", "placement", "data", "optim", "schedule"])
def test_a_higher_numerics_version_changes_the_signature(make_spec, monkeypatch, group):
    before = resolution.declared
    earlier = make_spec()

    def raised(asked, name):
        return {**before(asked, name), "numerics": 2} if asked == group else before(asked, name)

    monkeypatch.setattr(resolution, "declared", raised)
    later = make_spec()
    assert later.numerics == {group: 2}
    assert later.signature != earlier.signature
    assert RunSpec.model_validate(later.model_dump(mode="json")).signature == later.signature


@pytest.mark.parametrize("word", ["+norm.numerics=2", "norm.banks=false", "+model.numerics=3"])
def test_numerics_and_banks_cannot_be_set_on_the_command_line(make_spec, word):
    with pytest.raises(InputError, match=r"is declared by .* and cannot be set"):
        make_spec(word)


def test_runs_with_other_branches_or_initial_weights_do_not_share_a_stack(make_spec):
    keys = {make_spec(word).stack_key() for word in ("model.branch=skipinit", "model.init=lsuv", "seed=1")}
    assert len(keys | {make_spec().stack_key()}) == 3


def test_workers_are_derived_from_total(make_spec):
    spec = make_spec("batch=2", "total=32")
    assert (spec.workers, spec.total) == (16, 32)
    assert spec.signature == make_spec("batch=2", "workers=16").signature


def test_a_total_that_contradicts_the_workers_is_refused(make_spec):
    assert make_spec("batch=8", "total=32", "workers=4").workers == 4
    with pytest.raises(InputError, match="total=32 and batch=8 make 4 workers; got workers=2"):
        make_spec("batch=8", "total=32", "workers=2")
    with pytest.raises(InputError, match="total must be a multiple of batch"):
        make_spec("batch=8", "total=30")


@pytest.mark.parametrize(
    "word", ["batch=16", "workers=2", "optim.lr=0.7", "norm.momentum=0.3", "norm=gn", "model.dropout=0.1"]
)
def test_runs_of_one_group_differ_in_their_seed_alone(make_spec, word):
    words = ["optim.lr_scaling=none"]  # else another batch is another learning rate, too
    group = make_spec(*words).group()
    assert make_spec(*words, "seed=7").group() == group
    assert make_spec(*words, "tracking=none", "engine.lanes=1").group() == group
    assert make_spec(*words, word).group() != group


def test_the_signature_uses_the_scaled_learning_rate(make_spec):
    assert make_spec("batch=32", "optim.lr=0.1").lr == pytest.approx(0.025)
    assert make_spec("batch=32", "optim.lr=0.1", "optim.lr_scaling=sqrt").lr == pytest.approx(0.05)
    same = make_spec("optim.lr=0.025", "optim.lr_scaling=none")
    assert same.lr == make_spec("optim.lr=0.1").lr
    assert same.signature == make_spec("optim.lr=0.1").signature


@pytest.mark.parametrize("spelled", ["0.01", "keras:0.99", "tf:0.99", "torch:0.01", "flax:0.99"])
def test_one_momentum_in_several_conventions_has_one_signature(make_spec, spelled):
    assert make_spec(f"norm.momentum='{spelled}'").signature == make_spec("norm.momentum=0.01").signature


def test_an_untracked_norm_has_no_momentum(make_spec):
    one, other = (make_spec("norm.args.track=false", f"norm.momentum={m}") for m in (0.1, 0.9))
    assert one.signature == other.signature


def test_steps_win_over_epochs(make_spec):
    assert make_spec("steps=7").length(1000) == 7
    assert make_spec("epochs=3", "batch=32").length(100) == 9
    assert make_spec("epochs=3", "batch=8", "workers=4").length(100) == 9  # a step takes all workers' images
    with pytest.raises(InputError, match=r"batch × workers = 64 images.*holds 50"):
        make_spec("batch=64").length(50)


def test_a_spec_cannot_be_changed(make_spec):
    with pytest.raises(ValidationError, match="frozen"):
        make_spec().batch = 3


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("batch=0", "batch should be greater than or equal to 1; got 0"),
        ("batch=-1", "batch should be greater than or equal to 1; got -1"),
        ("batch=two", "batch should be a valid integer; got 'two'"),
        ("total=33", "total must be a multiple of batch.*total=33, batch=32"),
        ("norm.momentum=1.5", r"norm.momentum must lie in \[0, 1\]; got '1.5'"),
        ("norm.momentum='kera:0.9'", "unknown momentum convention 'kera'; nearest: keras"),
        ("norm.momentum=fast", "norm.momentum must be a number"),
        ("norm.eps=0", "norm.eps should be greater than 0"),
        ("engine.device=tpu", "unknown engine.device=tpu; use auto, cpu"),
        ("model.dropout=1", "model.dropout should be less than 1"),
        ("model.branch=rezero", "model.branch should be 'plain', 'skipinit' or 'fixup'; got 'rezero'"),
        ("model.init=zeros", "model.init should be one of he, he:relu, xavier, normal:σ, .*; got 'zeros'"),
        ("model.init='he:2'", "model.init should be one of he, he:relu, xavier"),
        ("model.init=normal", "model.init should be normal:σ with .*such as normal:0.01; got 'normal'"),
        ("model.init='normal:0'", "model.init should be normal:σ with a finite standard deviation"),
        ("model.init='normal:inf'", "model.init should be normal:σ with a finite standard deviation"),
        ("model.init='normal:small'", "model.init should be normal:σ .*; got 'normal:small'"),
        ("optim.lr=-1", "optim.lr should be greater than 0"),
        ("schedule.warmup=2", "schedule.warmup should be less than 1"),
        ("epochs=null", "given by epochs or by steps; both are null"),
        ("seed=-1", "seed should be greater than or equal to 0"),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_with_its_field_and_its_value(make_spec, word, message):
    with pytest.raises(InputError, match=message):
        make_spec(word)


def test_cached_hashes_are_not_copied_and_do_not_affect_equality(make_spec):
    spec, fresh = make_spec("norm=bn", "seed=1"), make_spec("norm=bn", "seed=1")
    known = (spec.signature, spec.stack_key(), spec.training_key())
    other = make_spec("norm=gn", "batch=8", "seed=1")
    copied = spec.model_copy(update={"norm": other.norm, "batch": 8})
    assert (copied.signature, copied.stack_key(), copied.training_key()) == (
        other.signature, other.stack_key(), other.training_key(),
    )  # fmt: skip
    assert (spec.signature, spec.stack_key(), spec.training_key()) == known
    assert spec == fresh
    assert spec.model_dump() == fresh.model_dump()
    assert pickle.loads(pickle.dumps(spec)) == fresh


def test_a_copy_with_another_seed_has_the_hashes_of_the_run_with_that_seed(make_spec):
    spec = make_spec("norm=bn", "seed=1")
    copied, other = spec.model_copy(update={"seed": 2}), make_spec("norm=bn", "seed=2")
    assert copied == other
    assert (copied.signature, copied.training_key()) == (other.signature, other.training_key())
    assert copied.signature != spec.signature
    assert copied.training_key() != spec.training_key()
    assert copied.stack_key() == spec.stack_key() == other.stack_key()
    assert copied.tree() == other.model_dump(mode="json")
    assert list(copied.tree()) == list(other.model_dump())
    both = make_spec("norm=bn", "seed=2", "batch=4")
    for again in (
        copied.model_copy(update={"batch": 4}),
        spec.model_copy(update={"seed": 2, "batch": 4}),
    ):
        assert (again.signature, again.tree()) == (both.signature, both.model_dump(mode="json"))
    assert pickle.loads(pickle.dumps(copied)).signature == other.signature
