"""What a run costs: seconds per step, parameters and memory, in the record and as metrics of tables."""

from __future__ import annotations

import json

import pytest

from normbench import cli, models
from normbench.data.shapes import shape_of
from normbench.spec import RunSpec
from normbench.store import Store

TRAIN = ["train", "model=mlp", "model.hidden=[8]", "norm=bn", "steps=40", "batch=16", "seed=range(2)"]


def test_a_record_has_its_costs_and_a_table_shows_them(capsys):
    assert cli.run([*TRAIN, "eval.every=5", "tracking=none"]) == 0
    capsys.readouterr()
    records = Store.default().records()
    for record in records:
        spec = RunSpec.model_validate(record.spec)
        timing, provenance = record.timing, record.provenance
        assert 0 < timing["step_s"] * 40 < timing["train_s"]  # the rest is evaluation
        assert provenance["parameters"] == (64 * 8) + (8 + 8) + (8 * 10 + 10)
        shape = models.fitted(spec, shape_of(spec.data))
        assert provenance["memory_bytes"] == models.footprint(spec, shape)
    wanted = {
        "step_s": sum(record.timing["step_s"] for record in records) / 2,
        "parameters": 618,
        "memory_bytes": records[0].provenance["memory_bytes"],
    }
    for metric, value in wanted.items():
        assert cli.run(["table", "--metric", metric, "--format", "json"]) == 0
        (cell,) = json.loads(capsys.readouterr().out)["cells"]
        assert cell["mean"] == pytest.approx(value, rel=1e-9)
