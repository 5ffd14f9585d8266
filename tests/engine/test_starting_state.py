"""model.weights: a run starts from a stored state, matched by name and shape, alone and in a stack."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from normbench import data, stored_state
from normbench.commands.rerun import words as rerun_words
from normbench.engine import starting_state
from normbench.engine.final_state import final_states
from normbench.engine.initial_state import initial_network
from normbench.engine.stack import Stack
from normbench.engine.train import Listener, train_stack
from normbench.errors import InputError
from normbench.labels import varying
from normbench.store import Store
from normbench.sweeps.get_or_train import train

CPU = torch.device("cpu")
WORDS = (
    "model=mlp", "model.hidden=[6,5]", "data=synthetic", "data.train_size=64", "data.test_size=32",
    "data.size=8", "batch=8", "optim.lr=0.1", "engine.precision=fp64", "tracking=none",
)  # fmt: skip
SHORT = (*WORDS, "steps=6")


@pytest.fixture
def trained(make_sweep):
    """Signatures of runs that have ended, by the words that are theirs alone."""

    def run(*words):
        (record,) = train(make_sweep(*SHORT, *words), Store.default())
        return record.signature

    return run


def stored(signature):
    return load_file(Store.default().weights_file(signature))


def started(specs):
    """The tensors of each run before its first step."""
    stack = Stack(specs, data.load(specs[0].data), CPU)
    starting_state.load(stack.network, stack.assignment)
    return final_states(stack.network, stack.assignment)


def test_a_run_starts_at_every_tensor_of_the_state(make_spec, trained):
    signature = trained("norm=bn")
    spec = make_spec(*SHORT, "seed=7", f"model.weights={signature[:8]}")
    assert spec.model.weights == signature  # one spelling
    (start,) = started([spec])
    state = stored(signature)
    assert start.keys() == state.keys()
    assert all(torch.equal(start[name], t) for name, t in state.items())
    network = initial_network([spec], data.load(spec.data))
    assert torch.equal(network.state_dict()["body.1.0.weight"], state["body.1.0.weight"])


def test_the_hash_of_the_content_is_the_identity_and_null_is_neutral(make_spec, trained, tmp_path):
    one, other = trained("norm=bn"), trained("norm=bn", "seed=1")
    assert make_spec(*SHORT, "model.weights=null").signature == make_spec(*SHORT).signature
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(Store.default().weights_file(one).read_bytes())
    by_run, by_file, by_folder, different = (
        make_spec(*SHORT, f"model.weights={place}")
        for place in (one, copy, Store.default().run_folder(one), other)
    )
    assert by_run.signature == by_file.signature == by_folder.signature
    assert len({by_run.signature, different.signature, make_spec(*SHORT).signature}) == 3
    trees = [spec.model_dump(mode="json") for spec in (by_run, by_file, different)]
    assert varying(trees[:2]) == []
    assert varying(trees[::2]) == ["model.weights"]
    words = rerun_words(trees[0])
    assert any(one in word for word in words) and not any("hash" in word for word in words)
    assert make_spec(*words).signature == by_run.signature


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("bn", "gn norm.args.num_groups=1", {"weight", "bias"}),
        ("bn", "bn norm.affine=weight model.bias=false", {"weight", "running_mean", "running_var"}),
        ("bn", "ghost norm.args.ghost_size=4", {"weight", "bias", "running_mean", "running_var"}),
        ("bn", "brn", {"weight", "bias"}),  # it has further statistics, and half a state is no state
        ("ln_chw", "bn", {"weight", "bias"}),
        ("bn model.bias=false", "none model.bias=false", set()),
    ],
)
def test_another_norm_keeps_what_convert_keeps(make_spec, trained, old, new, kept):
    signature = trained(*f"norm={old}".split())
    spec = make_spec(*SHORT, *f"norm={new}".split(), "seed=7", f"model.weights={signature}")
    (start,), state = started([spec]), stored(signature)
    fresh = started([spec.model_copy(update={"model": spec.model.model_copy(update={"weights": None})})])[0]
    found = set()
    for name, tensor in start.items():
        *_, place, last = name.split(".")
        if place == "1":  # the norm of a unit
            same = name in state and torch.equal(tensor, state[name])
            assert same or torch.equal(tensor, fresh[name]), name
            if same and not torch.equal(tensor, fresh[name]):
                found.add(last)
        else:
            assert torch.equal(tensor, state[name]), name
    assert found - {"num_batches_tracked"} == kept


def test_lanes_start_from_different_states_and_from_none_and_equal_lone_runs(make_spec, trained):
    one, other = trained("norm=bn"), trained("norm=gn", "norm.args.num_groups=1", "seed=3")
    starts = [f"model.weights={one}", "model.weights=null", f"model.weights={other}"]
    specs = [make_spec(*WORDS, "steps=9", f"seed={i}", start) for i, start in enumerate(starts)]
    assert len({spec.stack_key() for spec in specs}) == 1
    assert len({spec.training_key() for spec in specs}) == 3
    specs.insert(1, make_spec(*WORDS, "steps=9", "seed=0", starts[0], "norm.momentum=0.5"))  # a second bank
    dataset = data.load(specs[0].data)
    together = train_stack(specs, dataset, CPU)
    for spec, result in zip(specs, together, strict=True):
        (alone,) = train_stack([spec], dataset, CPU)
        for name, tensor in alone.final_state.items():
            torch.testing.assert_close(result.final_state[name], tensor, rtol=1e-9, atol=1e-12)


def test_checkpoints_are_not_affected(make_spec, trained):
    spec = make_spec(*WORDS, "steps=10", f"model.weights={trained('norm=bn')}", "eval.every=5")
    dataset, states = data.load(spec.data), []
    (whole,) = train_stack([spec], dataset, CPU, Listener(checkpoint=lambda get: states.append(get())))
    middle = next(state for state in states if state[0]["step"] == 5)
    (resumed,) = train_stack([spec], dataset, CPU, resume=middle)
    assert all(torch.equal(t, resumed.final_state[name]) for name, t in whole.final_state.items())


def test_the_same_words_give_the_same_numbers_in_another_store(make_sweep, trained, monkeypatch, tmp_path):
    def both(folder):
        monkeypatch.setenv("NORMBENCH_RESULTS", str(tmp_path / folder))
        (record,) = train(
            make_sweep(*SHORT, "norm=brn", f"model.weights={trained('norm=bn')}"), Store.default()
        )
        return record.signature, record.metrics, stored(record.signature)

    one, two = both("one"), both("two")
    assert one[:2] == two[:2]
    assert all(torch.equal(tensor, two[2][name]) for name, tensor in one[2].items())


def test_averages_restart_distances_count_from_the_state_and_lsuv_gives_way(make_spec, trained):
    signature = trained("norm=bn", "optim.ema=0.9")
    state = stored(signature)
    assert any(name.startswith("average.") for name in state)
    tiny = ("steps=1", "optim.lr=1e-9", f"model.weights={signature}", "diagnostics=[distance]")
    for more in ((), ("optim.ema=0.5",), ("model.init=lsuv",)):
        spec = make_spec(*WORDS, *tiny, *more)
        (result,) = train_stack([spec], data.load(spec.data), CPU)
        assert 0 < result.metrics["distance/relative"] < 1e-6
        for name, tensor in result.final_state.items():
            if name.startswith("average.") and "running" not in name:
                assert torch.allclose(tensor, state[name.removeprefix("average.")], atol=1e-6)


def test_a_state_without_a_norm_in_its_metadata_is_told_by_its_record(make_spec, trained, tmp_path):
    signature = trained("norm=ln_chw")
    (start,) = started([make_spec(*SHORT, "norm=bn", f"model.weights={signature}")])
    file, hashes = tmp_path / "plain.safetensors", set()
    for about in ({"signature": signature}, {}):
        save_file(stored(signature), file, about)
        spec = make_spec(*SHORT, "norm=bn", f"model.weights={file}")
        hashes.add(spec.model.weights_hash)
        (again,) = started([spec])
        assert all(torch.equal(t, again[name]) for name, t in start.items())
    assert len(hashes) == 2  # its norm decides what is kept, so it counts


def test_a_file_that_changes_under_a_command_is_refused(make_spec, trained, tmp_path):
    one, other = trained("norm=bn"), trained("norm=bn", "seed=1")
    file = tmp_path / "state.safetensors"
    file.write_bytes(Store.default().weights_file(one).read_bytes())
    spec = make_spec(*SHORT, f"model.weights={file}")
    file.write_bytes(Store.default().weights_file(other).read_bytes())
    with pytest.raises(InputError, match="must not change while a command runs"):
        started([spec])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("model.hidden=[6,4]", r"body.3.0.weight must have the shape \(1, 4, 6\); that of the state has"),
        ("model.hidden=[6,5,4]", r"the state has no body.5.0.weight of shape \(1, 4, 5\)"),
        ("model.hidden=[6]", r"the state has no body.3.weight of shape \(1, 10, 6\)"),
        ("norm=none", r"the state has no body.1.0.bias of shape \(1, 6\)"),
        ("placement=conv_act_norm model.bias=false", "the run has no body.1.1.bias, which the state has"),
    ],
)  # fmt: skip
def test_the_first_tensor_that_differs_is_named(make_sweep, trained, words, said):
    state = f"model.weights={trained('norm=bn')}"
    with pytest.raises(InputError, match=said) as refused:
        train(make_sweep(*SHORT, *words.split(), state), Store.default())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("feedbeef", "unknown run 'feedbeef'"),
        ("nowhere.safetensors", "there is no file nowhere.safetensors"),
        ("12e4", "in quotes"),
        ("true", "must be the signature of a run or a safetensors file; got True"),
    ],
)
def test_what_is_no_state_is_refused_in_one_line(make_spec, trained, given, said):
    trained("norm=bn")
    with pytest.raises(InputError, match=said):
        make_spec(*SHORT, f"model.weights={given}")


def test_a_run_that_keeps_no_state_and_a_file_of_another_kind_are_refused(make_spec, trained):
    signature = trained("norm=bn", "keep_weights=false")
    with pytest.raises(InputError, match="keep_weights=true"):
        make_spec(*SHORT, f"model.weights={signature}")
    with pytest.raises(InputError, match="must be a safetensors file"):
        make_spec(*SHORT, f"model.weights={__file__}")
    file = Store.default().weights_file(trained("norm=bn", "seed=1"))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match="or is damaged"):
        make_spec(*SHORT, f"model.weights={file}")


def test_a_quoted_signature_that_looks_like_a_number_stays_text(make_spec):
    with pytest.raises(InputError, match="'12e4'"):
        make_spec(*SHORT, 'model.weights="12e4"')
    assert stored_state.locate(__file__)[0] == __file__
