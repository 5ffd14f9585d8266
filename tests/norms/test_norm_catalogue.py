"""Key = file = registry = configuration = docstring = bibliography, for every norm."""

from __future__ import annotations

import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

from normbench import norms
from normbench.config.resolve import choices, declared

ROOT = Path(__file__).parents[2]
SECTIONS = ("Reduces:", "Train / eval:", "Numerics:", "Shape:", "Args:", "Raises:", "Reference:")
#: Constructor arguments that the engine sets and no configuration does.
ENGINE = {"batch", "total", "seeds", "activated"}


#: Top keys of a method's YAML that are no knobs.
DECLARATIONS = {"banks", "numerics", "neutral"}


def test_every_norm_has_a_configuration_and_every_configuration_a_norm():
    assert list(norms.catalogue()) == choices("norm")


def test_a_norm_is_one_class_in_one_module(key):
    layer = norms.entry(key).layer
    assert layer.key == key
    module = inspect.getmodule(layer)
    assert [e.key for e in norms.catalogue().values() if inspect.getmodule(e.layer) is module] == [key]


def test_configuration_and_constructor_have_the_same_arguments_and_defaults(key):
    knobs = declared("norm", key)
    assert [knob for knob in knobs if knob not in DECLARATIONS] == [
        "name", "momentum", "eps", "affine", "args"
    ]  # fmt: skip
    assert knobs["name"] == key
    configured = {name: knobs[name] for name in ("momentum", "eps", "affine") if knobs[name] is not None}
    arguments = norms.entry(key).arguments
    assert configured | knobs["args"] == {n: default for n, default in arguments.items() if n not in ENGINE}


def test_the_packaged_configuration_builds(key):
    knobs = declared("norm", key)
    args = {name: value for name, value in knobs.items() if name in norms.entry(key).arguments}
    assert norms.build(key, 16, 2, **args, **knobs["args"]).lanes == 2


@pytest.mark.parametrize("section", SECTIONS)
def test_docstrings_follow_the_template(key, section):
    doc = inspect.getdoc(norms.entry(key).layer)
    assert re.search(rf"^{re.escape(section)}", doc, re.MULTILINE), f"norm {key} says nothing under {section}"


def test_docstrings_agree_with_the_registry(key):
    entry, doc = norms.entry(key), inspect.getdoc(norms.entry(key).layer)
    said = re.search(r"^Train / eval: (identical|differ)", doc, re.MULTILINE)[1]
    assert (said == "differ") == entry.eval_differs
    assert (re.search(r"Batch-independent: (yes|no)", doc)[1] == "no") == entry.batch_statistics
    assert re.search(r"^Reduces:\s+\(?([^().]*?)[).]", doc, re.MULTILINE)[1].startswith(entry.reduces)


def test_docstrings_explain_every_argument(key):
    doc = inspect.getdoc(norms.entry(key).layer)
    for argument in ("channels", "lanes", *norms.entry(key).arguments):
        assert re.search(rf"^    {argument}: ", doc, re.MULTILINE), f"norm {key} does not explain {argument}"


def test_references_are_in_the_bibliography_once(key):
    entry = norms.entry(key)
    bibliography = (ROOT / "docs" / "references.bib").read_text()
    assert bibliography.count(f"{{{entry.reference},") == 1
    assert re.search(rf"^Reference:\s+{entry.reference} — ", inspect.getdoc(entry.layer), re.MULTILINE)


def test_two_layers_cannot_share_a_key():
    with pytest.raises(AssertionError, match="two norm layers are registered as bn"):
        norms.registry.register("bn", family="batch", reduces="N", reference="ioffe2015")


@pytest.mark.parametrize(
    "module", [norms.__name__, *(m.name for m in walk_packages(norms.__path__, f"{norms.__name__}."))]
)
def test_the_examples_in_docstrings_hold(module):
    assert doctest.testmod(import_module(module)).failed == 0


def test_the_examples_are_there():
    assert doctest.testmod(norms).attempted >= 4
