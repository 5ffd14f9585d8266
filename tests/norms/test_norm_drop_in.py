"""What code written for torch's layers does with a layer works, or ends in an error; never in silence."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from normbench import norms
from normbench.errors import InputError
from normbench.norms.running import RunningNorm


def is_running(key: str) -> bool:
    return issubclass(norms.entry(key).layer, RunningNorm)


@pytest.mark.parametrize("lanes", [1, 2])
def test_reset_running_stats_gives_the_state_of_a_new_layer(key, make, draw, images, lanes):
    if not is_running(key):
        assert not hasattr(make(key, lanes), "reset_running_stats")
        return
    layer = make(key, lanes)
    layer.begin_step(0, 3)  # bin clips its gates here
    fresh = copy.deepcopy(layer.state_dict())
    for step in range(3):
        layer.begin_step(step, 3)
        layer(draw(images, step, lanes=lanes).requires_grad_()).sum().backward()
    assert any(not torch.equal(t, fresh[name]) for name, t in layer.state_dict().items())
    places = {name: t.data_ptr() for name, t in layer.named_buffers()}
    layer.reset_running_stats()
    assert all(torch.equal(t, fresh[name]) for name, t in layer.state_dict().items())
    assert places == {name: t.data_ptr() for name, t in layer.named_buffers()}


def test_reset_running_stats_resets_the_banks_too(make, draw, images):
    layer = make("bn", 2)
    layer.add_banks([0.5, "cumulative"])
    fresh = copy.deepcopy(layer.state_dict())
    layer.begin_step(0, 2)
    layer(draw(images, lanes=2))
    assert not torch.equal(layer.banks.running_mean, fresh["banks.running_mean"])
    layer.reset_running_stats()
    assert all(torch.equal(t, fresh[name]) for name, t in layer.state_dict().items())


def test_reset_without_tracking_changes_nothing(make):
    layer = make("bn", track=False)
    layer.reset_running_stats()
    assert set(layer.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("lanes", [1, 3])
def test_num_features_counts_the_channels_of_the_input(key, make, lanes):
    assert make(key, lanes).num_features == lanes * 6


@pytest.mark.parametrize("momentum", [0.5, 1.0, None, 0.01])
def test_a_momentum_that_is_set_acts_from_the_next_batch_on_as_in_torch(make, draw, images, momentum):
    ours, torchs = norms.build("bn", 6).double(), nn.BatchNorm2d(6).double()
    assert ours.momentum == torchs.momentum
    for step in range(4):
        if step == 2:
            ours.momentum = torchs.momentum = momentum
            assert ours.momentum == torchs.momentum
        for layer in (ours, torchs):
            layer(draw(images, step))
    for name, t in torchs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], t, rtol=1e-12, atol=1e-12)


def test_a_momentum_that_is_set_means_what_the_argument_means(key, make, draw, images):
    if not is_running(key):
        with pytest.raises(norms.NormError, match=f"{key}: .* no momentum to set"):
            make(key).momentum = 0.1
        assert not hasattr(make(key), "momentum")
        return
    late, built = make(key), make(key, momentum="debiased:0.3")
    late.momentum = "debiased:0.3"
    assert late.momentum == built.momentum == "debiased:0.3"
    for step in range(3):
        for layer in (late, built):
            layer(draw(images, step))
    assert all(torch.equal(t, late.state_dict()[name]) for name, t in built.state_dict().items())


def test_a_momentum_out_of_range_leaves_the_old_one(make):
    layer = make("bn", 2, momentum=[0.1, 0.2])
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        layer.momentum = 1.5
    with pytest.raises(InputError, match="one value or one per lane"):
        layer.momentum = [0.1, 0.2, 0.3]
    assert layer.momentum == (0.1, 0.2)


def test_without_tracking_there_is_no_momentum_to_set(make):
    with pytest.raises(norms.NormError, match="no momentum to set"):
        make("bn", track=False).momentum = 0.1


def test_eps_can_be_set_and_means_what_the_argument_means(key, make, draw, images):
    if "eps" not in norms.entry(key).arguments:
        with pytest.raises(norms.NormError, match=f"{key}: the method has no eps"):
            make(key).eps = 0.1
        assert not hasattr(make(key), "eps")
        return
    for given in (0.5, [0.5, 0.25]):
        late, built = make(key, 2), make(key, 2, eps=given)
        late.eps = given
        assert late.eps == built.eps
        x = draw(images, lanes=2)
        assert torch.equal(late(x), built(x))
    with pytest.raises(norms.NormError, match="eps must be a finite number > 0"):
        late.eps = 0


def test_tracking_cannot_be_changed_afterwards(make):
    for track in (True, False):
        layer = make("bn", track=track)
        assert layer.track_running_stats == track
        layer.track_running_stats = track
        with pytest.raises(norms.NormError, match="cannot change whether it keeps running statistics"):
            layer.track_running_stats = not track


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_state_dict_without_a_count_loads_as_in_torch(key, make, draw, images, lanes):
    if not is_running(key):
        return
    layer, other = make(key, lanes), make(key, lanes)
    layer(draw(images, lanes=lanes))
    old = {name: t for name, t in layer.state_dict().items() if name != "num_batches_tracked"}
    other.load_state_dict(old)
    assert other.num_batches_tracked.eq(0).all()
    assert all(torch.equal(t, other.state_dict()[name]) for name, t in old.items())


def test_a_new_state_dict_that_lost_its_count_is_refused_as_in_torch():
    for layer in (nn.BatchNorm2d(6), norms.build("bn", 6)):
        lost = layer.state_dict()
        del lost["num_batches_tracked"]
        with pytest.raises(RuntimeError, match=r"Missing key.*num_batches_tracked"):
            layer.load_state_dict(lost)


def test_a_norm_is_a_leaf_of_its_model(key, make):
    assert not list(make(key).children())


@pytest.mark.parametrize("key", [key for key in norms.catalogue() if is_running(key)])
def test_a_cast_and_a_move_take_the_momentum_along(key, make):
    layer = make(key, dtype=torch.float32)
    assert {average.rate.dtype for average in layer.averages()} == {torch.float32}
    assert {average.rate.dtype for average in copy.deepcopy(layer).half().averages()} == {torch.float32}
    assert {average.rate.device.type for average in layer.to("meta").averages()} == {"meta"}
