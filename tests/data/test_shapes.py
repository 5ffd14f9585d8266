"""The shape of every data set is known without its pixels and without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from normbench.config.resolve import choices
from normbench.data import Shape, shape_of
from normbench.data.shape import KNOWN
from normbench.data.shapes import SOURCES
from normbench.errors import InputError


def test_every_choice_of_data_has_a_source():
    assert sorted(SOURCES) == choices("data")


@pytest.mark.parametrize("name", KNOWN)
def test_known_data_sets_answer_where_their_files_are_absent(data_spec, tmp_path, name):
    spec = data_spec(name)
    if spec.download:
        spec = data_spec(name, root=str(tmp_path / "nothing"))
    assert shape_of(spec) == KNOWN[name]
    assert not list(tmp_path.iterdir())


def test_a_synthetic_shape_is_what_its_knobs_say(data_spec):
    spec = data_spec("synthetic", classes=7, size=9, channels=1, train_size=20, test_size=10)
    assert shape_of(spec) == Shape(channels=1, size=9, classes=7, train_images=20, test_images=10)


@pytest.mark.parametrize("knob", [{"size": "auto"}, {"channels": "auto"}, {"train_size": "all"}])
def test_a_synthetic_shape_must_be_given_in_numbers(data_spec, knob):
    with pytest.raises(InputError, match=r"data=synthetic has no files.*must be numbers"):
        shape_of(data_spec("synthetic", **knob))


def test_sizes_are_those_of_the_splits_in_use(data_spec):
    shape = shape_of(data_spec("mnist", train_size=6000, test_size="all"))
    assert (shape.train_images, shape.test_images) == (6000, 10_000)


@pytest.mark.parametrize("knob", ["train_size", "test_size"])
def test_more_images_than_there_are_is_refused(data_spec, knob):
    with pytest.raises(InputError, match=rf"data\.{knob} must be at most \d+, .* of digits; got 1798"):
        shape_of(data_spec("digits", **{knob: 1798}))


def test_shapes_are_known_without_importing_torch():
    program = (
        "import sys; from normbench import data; from normbench.config.resolve import declared; "
        "from normbench.spec import DataSpec; "
        "print(data.shape_of(DataSpec(**declared('data', 'digits'))).size, 'torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["8", "False"]
