"""convert keeps what a layer does with its statistics now, and what users attached to it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from normbench import norms

from .lookalikes import BatchNormAct2d


def draw(step=0, channels=6):
    return torch.randn(4, channels, 5, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)


def seasoned(**settings):
    layer = nn.BatchNorm2d(6, **settings).double()
    for step in range(3):
        layer(draw(step))
    return layer


def switched_off(**settings):
    layer = seasoned(**settings)
    layer.track_running_stats = False
    return layer


def without_buffers():
    layer = seasoned()
    layer.running_mean = layer.running_var = None
    return layer


def without_any_buffer():
    layer = without_buffers()
    layer.num_batches_tracked = None
    return layer


def without_count(**settings):
    layer = seasoned(**settings)
    layer.num_batches_tracked = None
    return layer


def switched_on():
    layer = seasoned(track_running_stats=False)
    layer.track_running_stats = True
    return layer


TRACKING = {
    "switched off": (switched_off(), True),
    "switched off, cumulative": (switched_off(momentum=None), True),
    "switched on without buffers": (switched_on(), False),
    "buffers removed": (without_buffers(), False),
    "all buffers removed": (without_any_buffer(), False),
    "no count": (without_count(), True),
    "no count, cumulative": (without_count(momentum=None), True),
    "momentum 0": (seasoned(momentum=0.0), True),
}


@pytest.mark.parametrize("kind", TRACKING)
@pytest.mark.parametrize("key", ["bn", "ghost", "sync"])
def test_evaluation_and_training_follow_the_buffers_as_torch_does(kind, key):
    old, statistics = TRACKING[kind]
    old, report = copy.deepcopy(old), []
    new = norms.convert(
        nn.Sequential(copy.deepcopy(old)), key, report=report, **{"ghost": {"ghost_size": 4}}.get(key, {})
    )
    assert ("statistics" in report[0].kept) == statistics
    for mode in (False, True, True, False):
        old.train(mode), new.train(mode)
        for step in range(2):
            torch.testing.assert_close(new(draw(9 + step)), old(draw(9 + step)), rtol=1e-12, atol=1e-12)
    kept = [getattr(layer, "running_var", None) for layer in (old, new[0])]
    assert (kept[0] is None) == (kept[1] is None)
    if statistics:
        torch.testing.assert_close(*kept)


@pytest.mark.parametrize("lost", ["running_mean", "running_var"])
def test_a_deleted_buffer_is_named(lost):
    layer, report = seasoned(), []
    delattr(layer, lost)
    norms.convert(nn.Sequential(layer, nn.BatchNorm2d(6)), "bn", report=report)
    assert str(report[0]) == f"0: BatchNorm2d left alone: its {lost} was deleted"


def test_folding_uses_the_buffers_too():
    for layer, folded in ((switched_off(), True), (without_buffers(), False)):
        model = nn.Sequential(nn.Conv2d(6, 6, 1), copy.deepcopy(layer)).double().eval()
        report = []
        other = norms.fold(model, report=report)
        torch.testing.assert_close(other(draw()), model(draw()), rtol=1e-12, atol=1e-12)
        assert (report[0].new is not None) == folded


def test_the_report_says_that_running_statistics_of_instance_norm_are_gone():
    report = []
    norms.convert(nn.Sequential(nn.InstanceNorm2d(6, track_running_stats=True)), "in", report=report)
    assert report[0].note == "its running statistics, which evaluation used, are gone"


def test_a_plain_tensor_in_place_of_a_parameter_or_buffer_is_left_alone():
    for name in ("weight", "running_mean"):
        layer, report = seasoned(), []
        delattr(layer, name)
        setattr(layer, name, torch.ones(6))
        norms.convert(nn.Sequential(layer, nn.BatchNorm2d(6)), "bn", report=report)
        assert report[0].note.startswith(f"its {name} is not a ")


SEEN: list[str] = []


def see(*_):
    SEEN.append("seen")


def double(module, args, output):
    return 2 * output


def negate(module, args):
    return (-args[0],)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(6), nn.LayerNorm(5), BatchNormAct2d(6, nn.SiLU())])
@pytest.mark.parametrize("key", ["same", "gn"])
def test_hooks_on_calls_and_gradients_move_to_the_new_layer(layer, key):
    key = {"same": {nn.LayerNorm: "ln_c"}.get(type(layer), "bn")}.get(key, key)
    old = copy.deepcopy(layer).double()
    handles = [old.register_forward_pre_hook(negate), old.register_forward_hook(double)]
    handles += [old.register_full_backward_hook(see), old.register_full_backward_pre_hook(see)]
    report = []
    args = {"group_size": 1} if key == "gn" else {}
    new = norms.convert(nn.Sequential(copy.deepcopy(old)), key, report=report, **args)
    assert "hooks" in report[0].kept
    x = draw().requires_grad_()
    if key != "gn":
        torch.testing.assert_close(new(draw()), old(draw()), rtol=1e-12, atol=1e-12)
    SEEN.clear()
    new(x).square().sum().backward()
    assert len(SEEN) == 2
    direct = norms.convert(nn.Sequential(old), key, **args)
    before = direct(draw())
    for handle in handles:  # handles that the old layer gave out remove the hooks of the new one
        handle.remove()
    assert not torch.allclose(direct(draw()), before)
    assert len(pickle.dumps(direct)) > 0


def observer(*_args, **_kwargs):
    return None


HELD = {
    "_register_state_dict_hook": "it has state dict hooks",
    "register_state_dict_post_hook": "it has state dict hooks",
    "register_state_dict_pre_hook": "it has state dict pre hooks",
    "register_load_state_dict_pre_hook": "it has load state dict pre hooks",
    "register_load_state_dict_post_hook": "it has load state dict post hooks",
}


@pytest.mark.parametrize("register", HELD)
def test_a_layer_with_hooks_on_its_state_is_left_alone(register):
    layer, report = nn.BatchNorm2d(6), []
    getattr(layer, register)(observer)
    model = norms.convert(nn.Sequential(layer, nn.BatchNorm2d(6)), "gn", report=report)
    assert model[0] is layer and report[0].note == HELD[register]


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_a_layer_with_hooks_on_a_parameter_is_left_alone(register):
    layer, report = nn.BatchNorm2d(6), []
    getattr(layer.bias, register)(observer)
    model = norms.convert(nn.Sequential(layer, nn.BatchNorm2d(6)), "gn", report=report)
    assert model[0] is layer and report[0].note == "its bias has hooks"


def test_a_layer_whose_parameter_another_layer_uses_is_left_alone():
    first, second, report = nn.BatchNorm2d(6), nn.BatchNorm2d(6), []
    second.weight = first.weight
    norms.convert(nn.Sequential(first, second, nn.BatchNorm2d(6)), "gn", report=report)
    assert [change.note for change in report] == ["1 uses its weight, too", "0 uses its weight, too", ""]


@pytest.mark.parametrize("watched", [0, 1])
def test_a_relu_stays_if_it_or_the_norm_before_it_has_hooks(watched):
    model, report = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU()), []
    model[watched].register_forward_hook(see)
    norms.convert(model, "frn", report=report)
    assert type(model[1]) is nn.ReLU and model[0].tau is None
    assert report[0].note == "without its activation: it or 1 has hooks"


def test_a_layer_whose_weight_is_its_bias_too_is_left_alone():
    model = nn.Sequential(nn.BatchNorm2d(6), nn.BatchNorm2d(6))
    model[0].bias = model[0].weight
    report: list = []
    norms.convert(model, "bn", report=report)
    assert report[0].note == "its weight and bias are one parameter"
    assert (type(model[0]), model[1].key) == (nn.BatchNorm2d, "bn")
