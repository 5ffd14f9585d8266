"""Every norm against a naive version of its paper, and against torch's layer if there is one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from normbench import norms


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def lane_of(tensor, lane, lanes):
    return tensor.unflatten(1, (lanes, -1))[:, lane]


def parameters_of(layer, lane):
    return {
        name: p.detach().unflatten(0, (layer.lanes, -1))[lane].numpy() for name, p in layer.named_parameters()
    }


def variants(oracle):
    return (getattr(oracle, "FITTING", {}), *getattr(oracle, "VARIANTS", ()))


def steps(oracle, xs, **args):
    """The outputs at successive steps: those of a norm without memory are each by itself."""
    if hasattr(oracle, "outputs"):
        return oracle.outputs(xs, **args)
    return [oracle.output(x, **args) for x in xs]


@pytest.mark.parametrize("lanes", [1, 2])
def test_training_and_evaluation_equal_the_papers_equations(key, make, draw, shapes, oracle, lanes):
    """Three steps of training, then evaluation of another batch."""
    for args in variants(oracle):
        for shape in shapes(make(key, lanes, **args)):
            layer = make(key, lanes, **args)
            xs = [draw(shape, seed, lanes=lanes) for seed in range(3)]
            ys = [layer(x) for x in xs]
            other = draw(shape, 3, lanes=lanes)
            y = layer.eval()(other)
            for lane in range(lanes):
                given = {**parameters_of(layer, lane), **args}
                mine = [lane_of(x, lane, lanes).numpy() for x in xs]
                for got, wanted in zip(ys, steps(oracle, mine, **given), strict=True):
                    close(lane_of(got.detach(), lane, lanes), torch.from_numpy(wanted))
                if norms.entry(key).eval_differs:
                    wanted = oracle.evaluated(mine, lane_of(other, lane, lanes).numpy(), **given)
                    close(lane_of(y.detach(), lane, lanes), torch.from_numpy(wanted))


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_backward_pass_of_its_own_equals_the_papers(key, make, draw, shapes, oracle, lanes):
    if norms.entry(key).exact_gradient:
        assert not hasattr(oracle, "gradients"), "finite differences check this norm's backward pass"
        return
    for args in variants(oracle):
        for shape in shapes(make(key, lanes, **args)):
            layer = make(key, lanes, **args)
            xs = [draw(shape, seed, lanes=lanes).requires_grad_() for seed in range(3)]
            gs = [draw(shape, 10 + seed, lanes=lanes) for seed in range(3)]
            grads = [torch.autograd.grad(layer(x), x, g)[0] for x, g in zip(xs, gs, strict=True)]
            for lane in range(lanes):
                mine = [[lane_of(t.detach(), lane, lanes).numpy() for t in ts] for ts in (xs, gs)]
                wanted = oracle.gradients(*mine, **parameters_of(layer, lane), **args)
                for got, want in zip(grads, wanted, strict=True):
                    close(lane_of(got, lane, lanes), torch.from_numpy(want))


#: The same from torch: x, γ, β and the layer → y.
TORCH = {
    "bn": lambda x, w, b, layer: F.batch_norm(x, None, None, w, b, training=True, eps=layer.eps),
    "ghost": lambda x, w, b, layer: torch.cat(
        [F.batch_norm(part, None, None, w, b, training=True) for part in x.split(layer.ghost_size)]
    ),
    "gn": lambda x, w, b, layer: F.group_norm(x, layer.num_groups, w, b, layer.eps),
    "ln_chw": lambda x, w, b, layer: (
        F.layer_norm(x, x.shape[1:]) * w.view(-1, *[1] * (x.dim() - 2)) + b.view(-1, *[1] * (x.dim() - 2))
    ),
    "ln_c": lambda x, w, b, layer: F.layer_norm(x.movedim(1, -1), w.shape, w, b, layer.eps).movedim(-1, 1),
    "in": lambda x, w, b, layer: F.instance_norm(x, weight=w, bias=b),
    "rms": lambda x, w, b, layer: F.rms_norm(x.movedim(1, -1), w.shape, w, layer.eps).movedim(-1, 1),
    "lrn": lambda x, w, b, layer: F.local_response_norm(
        x.reshape(*x.shape[:2], -1), layer.size, layer.alpha, layer.beta, layer.k
    ).view(x.shape),
}


@pytest.mark.parametrize("channels", [6, 20])
@pytest.mark.parametrize("name", sorted(TORCH))
def test_output_and_gradients_equal_torchs(name, make, draw, shapes, channels):
    layer = make(name, channels=channels)
    for shape in shapes(layer):
        shape = (shape[0], channels, *shape[2:])
        x, same = (draw(shape).requires_grad_() for _ in range(2))
        y, wanted = layer(x), TORCH[name](same, layer.weight, layer.bias, layer)
        torch.testing.assert_close(y, wanted, rtol=0, atol=1e-10)
        projection = draw(shape, 1)
        got = torch.autograd.grad((y * projection).sum(), [x, *layer.parameters()])
        expected = torch.autograd.grad((wanted * projection).sum(), [same, *layer.parameters()])
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_torchs_own_batch_norm_module_has_the_same_state(draw, images):
    ours, torchs = norms.build("bn", images[1]), nn.BatchNorm2d(images[1])
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in torchs.state_dict().items()
    }
