"""Switchable norm: with all weight on one term it is that norm; in between, a mixture."""

from __future__ import annotations

import pytest
import torch

from normbench import norms


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def choose(layer, *, mean: int, var: int):
    """Put all weight on one term."""
    for logits, term in ((layer.mean_logits, mean), (layer.var_logits, var)):
        with torch.no_grad():
            logits.zero_().view(-1, 3)[:, term] = 1000.0
    return layer


TERMS = ("in", "ln_chw", "bn")


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("term", range(3), ids=TERMS)
def test_with_all_weight_on_one_term_it_is_that_norm(make, draw, shapes, term, batch, lanes):
    other = make(TERMS[term], lanes, **({"batch": batch} if TERMS[term] == "bn" else {}))
    for shape in shapes(other):
        layer = choose(make("sn", lanes, batch=batch), mean=term, var=term).train()
        other = make(TERMS[term], lanes, **({"batch": batch} if TERMS[term] == "bn" else {}))
        for seed in range(3):
            same(layer(draw(shape, seed, lanes=lanes)), other(draw(shape, seed, lanes=lanes)))
        x = draw(shape, 3, lanes=lanes)
        same(layer.eval()(x), other.eval()(x))


def test_its_running_statistics_are_those_of_batch_norm(make, draw, images):
    layer, bn = make("sn", momentum="cumulative"), make("bn", momentum="cumulative")
    for seed in range(3):
        layer(draw(images, seed)), bn(draw(images, seed))
    same(layer.running_mean, bn.running_mean)
    same(layer.running_var, bn.running_var)
    fresh = norms.build("sn", 6)
    assert (fresh.running_mean == 0).all() and (fresh.running_var == 1).all()


def test_means_and_variances_are_mixed_by_weights_of_their_own(make, draw, images):
    layer = choose(make("sn", affine=False), mean=0, var=2)
    x = draw(images)
    mean = x.mean((2, 3), keepdim=True)
    var = x.var((0, 2, 3), unbiased=False, keepdim=True)
    same(layer(x), (x - mean) / (var + 1e-5).sqrt())


def test_it_starts_as_an_even_mixture(draw, images):
    layer = norms.build("sn", 6).double()
    assert layer.mean_logits.tolist() == layer.var_logits.tolist() == [1, 1, 1]
    x = draw(images)
    axes = ((2, 3), (1, 2, 3), (0, 2, 3))
    mean = sum(x.mean(a, keepdim=True) for a in axes) / 3
    var = sum(x.var(a, unbiased=False, keepdim=True) for a in axes) / 3
    same(layer(x), (x - mean) / (var + 1e-5).sqrt())


def test_only_differences_of_logits_count(make, draw, images):
    one, other = make("sn"), make("sn")
    with torch.no_grad():
        other.mean_logits.add_(5.0)
        other.var_logits.sub_(3.0)
    same(one(draw(images)), other(draw(images)))


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1, 1)])
def test_a_map_of_one_position_mixes_the_layer_and_the_batch_alone(make, draw, shape):
    layer = make("sn", affine=False)
    x = draw(shape)
    ln, bn = ((x.mean(a, keepdim=True), x.var(a, unbiased=False, keepdim=True)) for a in (1, 0))
    to_ln, to_bn = layer.mean_logits[1:].softmax(0)
    of_ln, of_bn = layer.var_logits[1:].softmax(0)
    mean, var = to_ln * ln[0] + to_bn * bn[0], of_ln * ln[1] + of_bn * bn[1]
    y = layer(x)
    same(y, (x - mean) / (var + 1e-5).sqrt())
    for grad in torch.autograd.grad((y * draw(shape, 1)).sum(), [layer.mean_logits, layer.var_logits]):
        assert grad[0] == 0 and (grad[1:] != 0).all()


def test_of_one_image_the_batch_is_the_instance(make, draw, images):
    instance, batch = choose(make("sn"), mean=0, var=0), choose(make("sn"), mean=2, var=2)
    same(instance(draw(images)[:1]), batch(draw(images)[:1]))


@pytest.mark.parametrize("batch", [None, 2])
def test_evaluation_with_batch_statistics_takes_all_three_from_the_batch(make, draw, images, batch):
    layer = make("sn", batch=batch)
    trained = layer(draw(images))
    layer.eval().source = "batch"
    assert torch.equal(layer(draw(images)), trained)
    layer.source = "running"
    assert not torch.equal(layer(draw(images)), trained)


def test_its_logits_are_never_decayed():
    roles = norms.build("sn", 6, 2).roles
    assert roles["mean_logits"] == roles["var_logits"] == "mixture"


@pytest.mark.parametrize(("channels", "batch", "refused", "accepted", "cause"), [
    (1, None, (4, 1), (4, 1, 2), "1 channel on a map of 1 position"),
    (6, None, (1, 6, 1, 1), (2, 6, 1, 1), "1 image per statistic on a map of 1 position"),
    (6, 1, (8, 6), (8, 6, 2), "1 image per statistic on a map of 1 position"),
])  # fmt: skip
def test_a_term_of_one_value_is_refused(channels, batch, refused, accepted, cause):
    layer = norms.build("sn", channels, batch=batch)
    layer.check(accepted)
    with pytest.raises(norms.NormError, match=f"sn: a statistic must average at least 2 values, but {cause}"):
        layer.check(refused)


def test_a_batch_that_fills_no_chunk_is_refused_in_training_and_welcome_in_evaluation(make, draw):
    layer = make("sn", batch=4)
    with pytest.raises(norms.NormError, match="multiple of 4 images"):
        layer(draw((6, 6, 2, 2)))
    assert layer.eval()(draw((6, 6, 2, 2))).isfinite().all()
