"""The running variance: Bessel-corrected as in torch, or biased as in Keras and flax."""

from __future__ import annotations

import pytest
import torch

from normbench import norms
from normbench.config.resolve import declared

#: Norms that keep a Bessel-corrected variance unless told otherwise.
CORRECTED = sorted(key for key, entry in norms.catalogue().items() if "variance" in entry.arguments)


def test_every_norm_whose_running_variance_is_corrected_offers_both(key, make, draw, images):
    layer = make(key)
    if "running_var" not in layer.state_dict() or key in ("bcn_est", "evonorm_b0", "online"):
        assert key not in CORRECTED  # there is none, or it is biased by the method's own equations
        return
    assert key in CORRECTED


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("batch", [None, 2], ids=["one worker", "two workers"])
@pytest.mark.parametrize("key", CORRECTED)
def test_the_biased_variance_of_a_batch_divides_by_its_values(key, make, draw, images, lanes, batch):
    size = batch or images[0]
    args = {"batch": batch} if "batch" in norms.entry(key).arguments else {}
    args |= {"ghost_size": size} if key == "ghost" else {}
    if key == "sync":
        size = images[0]
    x = draw(images, lanes=lanes)
    wanted = torch.stack([part.transpose(0, 1).flatten(1).var(1, correction=0) for part in x.split(size)])
    values = size * images[2] * images[3]
    for told in (False, True):
        for momentum in (1.0, "cumulative"):
            biased, corrected = (
                make(key, lanes, momentum=momentum, variance=variance, **args)
                for variance in ("biased", "unbiased")
            )
            for layer in (biased, corrected):
                if told:
                    layer.begin_step(0, 1)
                layer(x)
            torch.testing.assert_close(biased.running_var, wanted.mean(0), rtol=1e-12, atol=0)
            ratio = corrected.running_var / biased.running_var
            torch.testing.assert_close(
                ratio, torch.full_like(ratio, values / (values - 1)), rtol=1e-12, atol=0
            )
            assert torch.equal(biased.running_mean, corrected.running_mean)


@pytest.mark.parametrize("key", CORRECTED)
def test_the_default_leaves_signatures_as_they_were(key, make_sweep):
    sweep, at = f"norm={','.join(CORRECTED)}", CORRECTED.index(key)  # composed once for all norms
    plain, said, biased = (
        make_sweep(sweep, *words)[at].spec
        for words in ((), ("norm.args.variance=unbiased",), ("norm.args.variance=biased",))
    )
    assert {spec.norm.name for spec in (plain, said, biased)} == {key}
    assert "variance" not in str(plain.identity())
    assert plain.signature == said.signature
    assert biased.signature != plain.signature
    assert declared("norm", key)["neutral"]["args.variance"] == "unbiased"


@pytest.mark.parametrize("key", CORRECTED)
def test_another_word_is_refused(key):
    with pytest.raises(norms.NormError, match=f"{key}: variance must be unbiased or biased; got 'bessel'"):
        norms.build(key, 6, variance="bessel")
