"""A data set of one's own: shapes, contents in the signature, refusals; and a diagnostic of one's own."""

from __future__ import annotations

import pytest

from normbench import cli, data
from normbench.errors import InputError
from normbench.sweeps import get_or_train

DATA = '''
    import numpy as np
    from normbench import plugins

    @plugins.data("stripes", crop=1)
    def stripes(path="none"):
        """Two classes: bright rows or bright columns."""
        made = np.random.default_rng(0).integers(0, 99, (60, 8, 8)).astype(np.uint8)
        labels = np.arange(60) % 2
        made[labels == 0, ::2] += 100
        made[labels == 1, :, ::2] += 100
        return made[:40], labels[:40], made[40:], labels[40:]
'''
PROBE = """
    from normbench import plugins
    from normbench.engine.probes.protocol import Probe, Reading

    @plugins.diagnostic("first_weight", quantities=["value"])
    class FirstWeight(Probe):
        def read(self, point, bank):
            weights = next(iter(point.weights().values()))
            return Reading({"value": weights[:, 0].tolist()})
"""
QUICK = [
    "model=mlp", "model.hidden=[6]", "steps=3", "batch=4", "tracking=none", "engine.processes=1",
    "engine.device=cpu",
]  # fmt: skip


def test_a_data_set_has_the_shape_of_its_arrays_and_trains(plug, make_sweep, make_spec, store):
    plug(DATA)
    spec = make_spec("data=stripes", "data.valid=0.25")
    assert data.shape_of(spec.data) == data.Shape(1, 8, 2, 30, 20, 10)
    assert (spec.data.crop, spec.data.flip, spec.data.path) == (1, False, "none")
    [record] = get_or_train.train(make_sweep(*QUICK, "data=stripes"), store)
    assert record.status == "complete" and record.spec["plugins"].keys() == {"data"}


def test_changed_code_and_changed_contents_train_again(plug, make_spec):
    plug(DATA)
    first = make_spec("data=stripes")
    plug(DATA.replace("Two classes", "2 classes"))
    code = make_spec("data=stripes")
    plug(DATA.replace("default_rng(0)", "default_rng(1)"))
    contents = make_spec("data=stripes")
    assert len({first.signature, code.signature, contents.signature}) == 3
    assert first.data.fingerprint == code.data.fingerprint != contents.data.fingerprint


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("return made, labels", "it must return train_images, train_labels, test_images, test_labels; got 2"),
        ("return made / 255, labels, made, labels", "train_images must be uint8 of shape"),
        ("return made, labels - 1, made, labels", "train_labels must be 60 whole numbers from 0"),
        ("return made, labels, made, labels[:3]", "test_labels must be 60 whole numbers from 0"),
        ("return made, labels, made[:, :4, :4], labels", "images of both splits must have one shape"),
        ("raise OSError('gone')", "OSError: gone"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_end_in_one_line(plug, capsys, line, reason):
    plug(DATA.replace("return made[:40], labels[:40], made[40:], labels[40:]", line))
    assert cli.run(["plan", *QUICK, "data=stripes"]) == 2
    said = capsys.readouterr().err
    assert f"data=stripes cannot be read: {reason}" in said and said.count("\n") == 1


def test_a_function_of_other_arguments_is_refused(plug):
    with pytest.raises(InputError, match="the function may take path alone; stripes takes root"):
        plug(DATA.replace('path="none"', "root"))


def test_a_diagnostic_is_read_from_a_finished_run_and_leaves_the_signature(
    plug, make_sweep, make_spec, store
):
    without = make_spec(*QUICK).signature
    plug(PROBE)
    sweep = make_sweep(*QUICK, "diagnostics=[first_weight]")
    assert sweep[0].spec.signature == without
    [record] = get_or_train.train(sweep, store)
    assert isinstance(record.metrics["first_weight/value"], float)
    assert record.provenance["plugins"].keys() == {"diagnostic.first_weight"}
    with pytest.raises(InputError, match=r"unknown diagnostic 'first_weigt'; nearest: first_weight"):
        make_spec("diagnostics=[first_weigt]")


def test_a_class_that_is_no_probe_is_refused(plug):
    with pytest.raises(InputError, match=r"must be a class that derives from normbench\.engine\.probes"):
        plug(PROBE.replace("class FirstWeight(Probe)", "class FirstWeight"))
    with pytest.raises(InputError, match="needs quantities"):
        plug(PROBE.replace('["value"]', "[]"))
