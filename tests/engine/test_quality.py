"""Calibration, temperature and errors per class against slow computations of their definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from normbench.engine.quality import reliability
from normbench.engine.tally import Tally, numbers, tables

METRICS = ("nll", "ece", "temperature", "reliability", "confusion", "class_error")


@pytest.fixture(scope="module")
def outputs():
    """Logits of 3 lanes for 400 images of 5 classes, of which the last has none; lane 1 is broken."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (400,), generator=generator)
    logits = 3 * torch.randn(400, 3, 5, generator=generator, dtype=torch.float64)
    logits += 4 * torch.nn.functional.one_hot(labels, 5)[:, None]
    logits[7, 1] = torch.nan
    return logits, labels


def measured(logits, labels, cuts=(0, 64, 65, 400)):
    tally = Tally(logits.shape[1], logits.shape[2], logits.device, METRICS)
    for start, end in pairwise(cuts):
        tally.add(logits[start:end], labels[start:end])
    return tally.read()


def nll_at(temperature, z, y):
    return -log_softmax(z / temperature, 1)[np.arange(len(y)), y].mean()


def test_numbers_and_tables_are_those_of_slow_definitions(outputs):
    logits, labels = outputs
    found = measured(*outputs)
    for lane in (0, 2):
        z, y = logits[:, lane].numpy(), labels.numpy()
        p = softmax(z, 1)
        confidence, guess = p.max(1), p.argmax(1)
        bins = [(i / 15 < confidence) & (confidence <= (i + 1) / 15) for i in range(15)]
        ece = sum(
            inside.mean() * abs((guess == y)[inside].mean() - confidence[inside].mean())
            for inside in bins if inside.any()
        )  # fmt: skip
        assert found[lane]["test_ece"] == pytest.approx(ece, rel=1e-12)
        assert found[lane]["test_nll"] == found[lane]["test_loss"]
        assert found[lane]["test_loss"] == pytest.approx(-np.log(p[np.arange(400), y]).mean(), rel=1e-12)
        best = minimize_scalar(nll_at, args=(z, y), bounds=(0.01, 100), options={"xatol": 1e-9})
        assert found[lane]["test_temperature"] == pytest.approx(best.x, rel=1e-5)
        confusion = np.zeros((5, 5))
        np.add.at(confusion, (y, guess), 1)
        assert found[lane]["test_confusion"] == confusion.tolist()
        errors = [(guess != y)[y == k].mean() for k in range(4)]
        assert found[lane]["test_class_error"][:4] == pytest.approx(errors)
        assert found[lane]["test_class_error"][4] is None
        assert [row[0] for row in found[lane]["test_reliability"]] == [inside.sum() for inside in bins]
        filled = next(i for i, inside in enumerate(bins) if inside.any())
        row = found[lane]["test_reliability"][filled]
        inside = bins[filled]
        assert row[1:] == pytest.approx([confidence[inside].mean(), (guess == y)[inside].mean()])
        if not all(inside.any() for inside in bins):
            empty = next(i for i, inside in enumerate(bins) if not inside.any())
            assert found[lane]["test_reliability"][empty] == [0, None, None]


def test_ece_is_torchmetrics(outputs):
    classification = pytest.importorskip("torchmetrics.functional.classification")
    logits, labels = outputs
    expected = classification.multiclass_calibration_error(logits[:, 0].softmax(1), labels, 5, n_bins=15)
    assert measured(*outputs)[0]["test_ece"] == pytest.approx(expected.item(), rel=1e-6)


def test_a_broken_lane_has_no_numbers_and_touches_no_other(outputs):
    logits, labels = outputs
    found = measured(*outputs)
    assert found[1]["test_loss"] is found[1]["test_ece"] is found[1]["test_temperature"] is None
    alone = measured(logits[:, 2:], labels)
    assert found[2] == alone[0]
    assert numbers(found[2]).keys() == {"test_loss", "test_error", "test_nll", "test_ece", "test_temperature"}
    assert tables(found[2]).keys() == {"test_reliability", "test_confusion", "test_class_error"}


def test_no_temperature_is_optimal_if_no_image_is_wrong():
    labels = torch.arange(10) % 5
    logits = 2.0 * torch.nn.functional.one_hot(labels, 5)[:, None].double()
    assert measured(logits, labels, cuts=(0, 10))[0]["test_temperature"] is None
    assert measured(-logits, labels, cuts=(0, 10))[0]["test_temperature"] is None


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    """Three equal logits give the confidence 1/3, which is the upper edge of the fifth of 15 bins."""
    count, _, _ = reliability(torch.zeros(1, 1, 3, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.long))
    assert count[0].nonzero().flatten().tolist() == [4]
