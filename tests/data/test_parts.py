"""A part of a split: its first images with their own labels, whichever split and data set it is."""

from __future__ import annotations

import pytest
import torch

from normbench import data

WHOLE = {
    "digits": ["data=digits"],
    "synthetic": [
        "data=synthetic", "data.channels=1", "data.size=4", "data.classes=7", "data.train_size=92",
        "data.test_size=43",
    ],
}  # fmt: skip


@pytest.mark.parametrize("words", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("size", [None, 9])
def test_a_part_is_the_first_images_with_their_labels(make_spec, words, size):
    whole = data.load(make_spec(*words).data, size=size)
    part = data.load(make_spec(*words, "data.train_size=31", "data.test_size=13").data, size=size)
    for split, count in (("train", 31), ("test", 13)):
        for kind in ("images", "labels"):
            ours, theirs = getattr(part, f"{split}_{kind}"), getattr(whole, f"{split}_{kind}")
            assert len(ours) == count
            assert torch.equal(ours, theirs[:count])
    assert not torch.equal(whole.train_labels[:13], whole.train_labels[-13:])
    assert not torch.equal(whole.test_labels[:13], whole.test_labels[-13:])
