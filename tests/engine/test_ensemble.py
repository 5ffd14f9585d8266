"""Ensembles: the mean probability over seeds against plain numpy, and tables that show it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.special import softmax

from normbench import cli, data
from normbench.engine import ensemble as module
from normbench.engine.final_state import final_states
from normbench.engine.stack import Stack

CPU = torch.device("cpu")
WORDS = [
    "model=mlp", "model.hidden=[8,6]", "data=synthetic", "data.train_size=96", "data.test_size=44",
    "data.channels=1", "data.size=8", "data.classes=4", "batch=16", "steps=12", "engine.precision=fp64",
    "optim.lr=0.1",
]  # fmt: skip
TRAIN = ["train", "model=mlp", "model.hidden=[8]", "steps=10", "seed=range(3)", "tracking=none"]


@pytest.mark.parametrize("together", [16, 2])  # 5 runs are one network or three
def test_the_ensemble_is_the_mean_probability_of_lone_networks(make_spec, monkeypatch, together):
    monkeypatch.setattr(module, "TOGETHER", together)
    specs = [make_spec(*WORDS, f"seed={seed}") for seed in range(5)]
    dataset = data.load(specs[0].data)
    states, outputs = [], []
    mean, std = (
        255 * torch.tensor(m, dtype=torch.float64).view(-1, 1, 1) for m in (dataset.mean, dataset.std)
    )
    for spec in specs:
        stack = Stack([spec], dataset, CPU)
        for step in range(spec.steps):
            stack.step(step)
        states += final_states(stack.network, stack.assignment)
        with torch.no_grad():
            logits = stack.network.eval()((dataset.test_images.double() - mean) / std)
        outputs.append(softmax(logits[:, 0].numpy(), 1))
    found = module.ensemble(specs, states, dataset, CPU)
    p, y = np.mean(outputs, 0), dataset.test_labels.numpy()
    confidence, guess = p.max(1), p.argmax(1)
    bins = [(i / 15 < confidence) & (confidence <= (i + 1) / 15) for i in range(15)]
    ece = sum(abs((guess == y)[b].sum() - confidence[b].sum()) for b in bins) / len(y)
    wanted = {
        "ensemble_error": (guess != y).mean(),
        "ensemble_nll": -np.log(p[np.arange(len(y)), y]).mean(),
        "ensemble_ece": ece,
    }
    assert found == pytest.approx(wanted, rel=1e-9)
    alone = [-np.log(q[np.arange(len(y)), y]).mean() for q in outputs]
    assert found["ensemble_nll"] < np.mean(alone)  # −log is convex


def table(capsys, *words):
    assert cli.run(["table", "--format", "json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_table_has_one_ensemble_per_configuration_and_where_chooses_its_members(capsys):
    assert cli.run([*TRAIN, "norm=bn,gn"]) == 0
    capsys.readouterr()
    found = table(capsys, "--metric", "ensemble_error")
    assert [cell["n"] for cell in found["cells"]] == [1, 1]
    assert found["notes"][0].startswith("Mean predicted probability of 3 runs that differ in the seed")
    assert found["notes"][-1].startswith("6 runs on digits")
    alone = table(capsys, "--metric", "test_error", "--where", "seed=1")
    lone = table(capsys, "--metric", "ensemble_error", "--where", "seed=1")
    assert [c["mean"] for c in lone["cells"]] == pytest.approx([c["mean"] for c in alone["cells"]])
    assert [c["mean"] for c in lone["cells"]] != [c["mean"] for c in found["cells"]]


@pytest.mark.parametrize(
    "words, said",
    [
        (["--metric", "ensemble_acc"], "unknown metric 'ensemble_acc'"),
        (["--metric", "ensemble_ece", "--runs"], "belongs to a group of runs"),
        (["--metric", "ensemble_ece"], "keeps none"),
    ],
)
def test_an_ensemble_that_cannot_be_had_is_one_line(words, said, trainer, capsys):
    assert cli.run(["train", "seed=range(3)"]) == 0
    capsys.readouterr()
    assert cli.run(["table", *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
