from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from normbench import models, papers
from normbench.commands.finished_tables import told
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.data.shape import KNOWN, Shape
from normbench.errors import InputError
from normbench.labels import field, label
from normbench.papers.asked_metrics import check_asked
from normbench.papers.catalogue import parse
from normbench.papers.description import Scale
from normbench.papers.grids import grids
from normbench.papers.places import ARM

NAME = "wu2018/batch_size"
TEXT = (files("normbench.conf") / "paper" / f"{NAME}.yaml").read_text(encoding="utf-8")
SCALES = [(name, scale) for name in papers.names() for scale in papers.load(name).scales]


@pytest.fixture
def table() -> papers.PaperTable:
    return papers.load(NAME)


@pytest.fixture(autouse=True)
def imagenet(tmp_path, monkeypatch) -> None:
    """Two images where tables of scale full expect ImageNet: data.path=imagenet, from the current folder."""
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(folder / "0.png")
    monkeypatch.chdir(tmp_path)


@cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """A folder of images that stands in for ImageNet."""
    place = tempfile.TemporaryDirectory()
    for split in ("train", "test"):
        (Path(place.name) / split / "cat").mkdir(parents=True)
        (Path(place.name) / split / "cat" / "0.png").write_bytes(split.encode())
    return place


@cache
def configs(name: str, scale: str) -> list[dict[str, Any]]:
    """The composed configuration of every run of a scale; a folder of images is one that is there."""
    return _composed(papers.sweeps(papers.load(name), scale))


@cache
def configs_of_one_seed(name: str, scale: str) -> list[dict[str, Any]]:
    """Those of one seed."""
    return _composed(papers.sweeps(papers.load(name), scale, {"seed": [0]}))


def _composed(sweeps: list[list[str]]) -> list[dict[str, Any]]:
    there = [[_there(word) for word in words] for words in sweeps]
    return [config for words in there for config in compose(words)]


def _there(word: str) -> str:
    return f"data.path={folder().name}" if word.startswith("data.path=") else word


# The file


def test_the_packaged_table_says_what_the_paper_says(table) -> None:
    assert NAME in papers.names()
    [table2] = [source for source in table.published if source.id == "table2"]
    errors = {(place["norm"], place["batch"]): number for place, number in table2.numbers()}
    assert errors[("bn", 32)] == 0.236
    assert errors[("bn", 2)] == 0.347
    assert errors[("gn", 2)] == 0.241
    assert len(errors) == 10


@pytest.mark.parametrize("name", ["wu2018/batchsize", "wu2018", "batch_size", "../config"])
def test_an_unknown_table_is_bad_input(name) -> None:
    with pytest.raises(InputError, match=f"unknown paper table '{name}'.*all: .*{NAME}"):
        papers.load(name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title:", "titel:", "title: Field required"),
        ("metric: test_error", "metric: 3", "metrics.0: Input should be a valid string"),
        ("metric: test_error", "metric: test_eror", "no metric is called 'test_eror'"),
        ("metric: test_error", "metric: test_error@precice", "unknown source in eval.statistics 'precice'"),
        ("metric: test_error", "metric: test_error/contrst:3", "unknown corruption 'contrst'"),
        ("metric: test_error", "metric: running_error/mean", "no metric is called 'running_error/mean'"),
        ("metric: test_error", "metric: steps_to_0.10", "no metric is called 'steps_to_0.10'"),
        ("metric: test_error", "metrics: [test_error, test_loss]", "make metric a row or column key"),
        (
            "metric: test_error",
            "metric: test_error\nmetrics: [test_loss]",
            "not both",
        ),
        ("metric: test_error", "metric: test_error\nunits: percent", "units: Extra inputs"),
        ("metric: test_error", "metric: test_error\nname: other", "without a name"),
        (
            "trust: read",
            "trust: guess",
            "trust: Input should be 'read', 'figure', 'computed'",
        ),
        ("at: [32, 16, 8, 4, 2]", "at: [32, 16]", "table2: bn has 5 numbers for 2 places"),
        ("in: [0.284]", "in: [0.284, 0.3]", "table1: in has 2 numbers for 1 places"),
        ("ln_chw: [0.253]", "ln_chw: [a]", "published.1.values.ln_chw"),
        ("    at: [32]\n", "", "table1: give both along and at, or neither"),
        ("id: table1", "id: table2", "published: two entries have the same id"),
        ("{id: table1}", "{id: table9}", "no published numbers are called table9"),
        ("{id: table1}", "{id: table1, where: {data: digits}}", "table1 needs the axes batch, data, norm"),
        ("rows: [norm]", "rows: [weight]", "lacks the row or column key weight"),
        ("cols: [batch]", "cols: [batch, norm]", "a key is both a row and a column key, or occurs twice"),
        ("kind: flat", "kind: about", "does not match any of the expected tags: 'greater', 'ratio', 'flat'"),
        ("assert: true", "assert: maybe", "assert: Input should be a valid boolean"),
        (
            "a: {norm: bn, batch: 2}",
            "a: {norm: bn}",
            "claim bn_collapses does not name its cells by batch, norm",
        ),
        (
            "a: {norm: bn, batch: 2}",
            "a: {norm: bn, batch: 3}",
            "claim bn_collapses names a cell outside the grid: norm=bn batch=3",
        ),
        (
            "where: {norm: gn}",
            "where: {norm: gn, batch: 2}",
            "norm=gn batch=2 has 1",
        ),
        ("where: {norm: gn}", "where: {nrom: gn}", "claim gn_flat does not name its cells by batch, norm"),
        ("where: {norm: gn}", "where: {norm: in}", "claim gn_flat needs 2 cells of the grid; norm=in has 0"),
        ("id: gn_flat", "id: ln_flat", "two claims have the same id"),
        ("scales: [small]", "scales: [huge]", "figure error_by_batch_and_model: there is no scale huge"),
        (
            "kind: curve\n    x: batch",
            "kind: curve\n    x: lr",
            "error_by_batch: lr is no row or column key",
        ),
        ("kind: curve", "kind: heat", "figure error_by_batch: a figure of kind heat takes x, y"),
        ("hue: norm", "hue: batch", "figure error_by_batch: a key has two roles"),
        ("tiny:", "teeny:", "Input should be 'tiny', 'small' or 'full'"),
        ("needs: [mnist, cifar10]", "needs: [cifar100]", "needs: no grid uses data=cifar100"),
        (
            "norm: [bn, gn, ln_chw, none]",
            "metric: [test_loss]\n        norm: [bn]",
            "metric is no word",
        ),
        ("norm: [bn, gn, ln_chw, none]", "arm: plain\n        norm: [bn]", "arm is a row or column key"),
        ("batch: [32, 16, 8, 4, 2]", "batch: []", "batch"),
        ("published:", "published: [", "while parsing"),
        ("      - data: digits", "      - <<: *nobody\n        data: digits", "undefined alias 'nobody'"),
    ],
)
def test_a_table_with_a_fault_is_refused_in_one_line(old, new, message) -> None:
    assert old in TEXT
    with pytest.raises(InputError) as error:
        parse(NAME, TEXT.replace(old, new, 1))
    assert message in str(error.value)
    assert NAME in str(error.value)
    assert "\n" not in str(error.value)


# The runs


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_no_run_and_no_key_occurs_twice(name, scale) -> None:
    runs = papers.overrides(papers.load(name), scale)
    assert len({frozenset(words) for words in runs}) == len(runs) > 0
    for words in runs:
        keys = [word.partition("=")[0] for word in words]
        assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_every_word_composes_all_runs_differ_and_have_the_metrics_of_the_table(name, scale) -> None:
    table = papers.load(name)
    resolved = [resolve(config) for config in configs_of_one_seed(name, scale)]
    assert len({run.spec.signature for run in resolved}) == len(papers.overrides(table, scale, {"seed": [0]}))
    assert not [knob for run in resolved for knob in run.unused]
    check_asked(table, scale, [run.spec for run in resolved])


def test_a_single_run_composes_to_the_same_spec_as_in_its_sweep(table) -> None:
    runs = papers.overrides(table, "tiny")
    for place in (0, len(runs) // 2 + 1):
        assert compose(runs[place]) == [configs(NAME, "tiny")[place]]


def test_along_a_row_the_batch_varies_and_lr_in_proportion_to_it(table) -> None:
    specs = [resolve(config).spec for config in configs(NAME, "tiny")]
    assert {spec.lr / spec.total for spec in specs} == {0.05 / 32}
    assert {(spec.workers, spec.epochs, spec.steps) for spec in specs} == {(1, 12, None)}
    same = {"batch": 0, "seed": 0, "norm": 0, "optim": 0}
    assert len({json.dumps(spec.identity() | same) for spec in specs}) == 1


def test_the_small_scale_has_the_papers_workers_and_learning_rates() -> None:
    specs = [resolve(config).spec for config in configs(NAME, "small")]
    assert {spec.workers for spec in specs} == {8}
    assert {round(spec.lr / spec.batch, 12) for spec in specs} == {round(0.1 / 32, 12)}


def test_the_full_scale_has_the_papers_cells_groups_and_learning_rates() -> None:
    specs = [resolve(config).spec for config in configs(NAME, "full")]
    found = {(spec.norm.name, spec.batch) for spec in specs}
    batches = (32, 16, 8, 4, 2)
    assert found == {*((norm, b) for norm in ("bn", "gn") for b in batches), ("ln_chw", 32), ("in", 32)}
    assert {spec.norm.args["num_groups"] for spec in specs if spec.norm.name == "gn"} == {32}
    assert {round(spec.lr / spec.batch, 12) for spec in specs} == {round(0.1 / 32, 12)}
    assert {(spec.workers, spec.epochs, spec.model.zero_last) for spec in specs} == {(8, 100, True)}


def test_a_word_of_the_user_replaces_that_of_the_grid(table) -> None:
    runs = papers.overrides(table, "tiny", {"seed": ["7", "8"], "norm": ["bn"], "engine.device": ["cpu"]})
    assert len(runs) == 2 * 5
    assert {word for words in runs for word in words if word.startswith("seed=")} == {"seed=7", "seed=8"}
    assert all("engine.device=cpu" in words and "norm=bn" in words for words in runs)


def test_values_given_twice_make_one_run(table) -> None:
    extra = {"seed": ["0", "0", "0"], "norm": ["bn", "bn"], "batch": [2, "2"]}
    assert len(papers.overrides(table, "tiny", extra)) == 1


def test_a_length_of_the_user_replaces_that_of_the_grid(table) -> None:
    words = papers.overrides(table, "tiny", {"steps": ["3"]})[0]
    assert resolve(compose(words)[0]).spec.length(1297) == 3
    assert "epochs=12" not in papers.overrides(table, "tiny", {"epochs": ["3"]})[0]


@pytest.mark.parametrize(
    ("extra", "gone"),
    [({"epochs": ["3"]}, "steps"), ({"workers": ["2"]}, "total"), ({"seed": ["0"]}, None),
     ({"epochs": ["3"], "steps": ["7"]}, None)],
)  # fmt: skip
def test_a_word_replaces_the_word_of_the_grid_that_says_the_same_quantity(extra, gone) -> None:
    grid = {"norm": "bn", "batch": [2, 4], "steps": 50, "total": 32}
    scale = Scale.model_validate({"rows": ["norm"], "cols": ["batch"], "grids": [grid]})
    (words,) = grids(scale, extra)
    assert words.keys() == (grid.keys() | extra.keys()) - {gone}
    assert all(words[key] == tuple(values) for key, values in extra.items())


def test_a_row_of_one_grid_selects_that_grid(table) -> None:
    extra = {"model": ["resnet20"], "data": ["folder"], "data.path": ["images.tar.gz"], "seed": ["0"]}
    runs = papers.overrides(table, "small", extra)
    assert len(runs) == 4 * 5
    for words in runs:
        assert {"model=resnet20", "data=folder", "data.path=images.tar.gz"} <= set(words)
        assert not [word for word in words if word.startswith("model.hidden")]


def test_a_row_that_no_grid_has_replaces_those_of_all(table) -> None:
    runs = papers.overrides(table, "small", {"norm": ["rms"], "batch": ["4"], "seed": ["0"]})
    assert len(runs) == 2
    for words, model in zip(runs, ("mlp", "resnet20"), strict=True):
        assert {f"model={model}", "norm=rms", "batch=4"} <= set(words)


def test_an_unknown_scale_is_bad_input(table) -> None:
    with pytest.raises(InputError, match="unknown scale of wu2018/batch_size 'large'"):
        papers.overrides(table, "large")


# Imports

RENDER_ALL = """
import sys
import normbench.papers, normbench.store, normbench.report.terminal
from normbench.report.render import FORMATS, render
from normbench.report.tables import build_table
table = build_table([], "norm", "batch", "test_error", axes=(["bn"], ["2"]))
for form in FORMATS:
    render(table, form)
normbench.papers.report(normbench.papers.load("wu2018/batch_size"), "tiny", [])
print(sorted({"torch", "torchvision", "scipy", "wandb", "hydra"} & sys.modules.keys()))
"""


def test_storing_and_rendering_import_neither_torch_nor_slow_packages() -> None:
    done = subprocess.run([sys.executable, "-c", RENDER_ALL], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Every packaged file


@cache
def tree_of(name: str) -> dict[str, Any]:
    return yaml.safe_load((files("normbench.conf") / "paper" / f"{name}.yaml").read_text(encoding="utf-8"))


def part_of(name: str, scale: str) -> dict[str, Any]:
    """A table with one scale, without claims, figures and published numbers: short, and read quickly."""
    tree = {key: tree_of(name)[key] for key in ("title", "metric", "metrics") if key in tree_of(name)}
    left_out = ("claims", "published")
    given = {key: value for key, value in tree_of(name)["scales"][scale].items() if key not in left_out}
    return tree | {"scales": {scale: given}}


def refused(name: str, tree: dict[str, Any]) -> str:
    """Why a changed file is refused: one line that names the table."""
    with pytest.raises(InputError) as error:
        parse(name, json.dumps(tree))
    assert "\n" not in str(error.value) and name in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", papers.names())
def test_a_claim_about_a_cell_outside_the_grid_is_refused_in_every_file(name) -> None:
    """One key of every place that a claim names."""
    tried = 0
    for scale, given in tree_of(name)["scales"].items():
        for claim in given.get("claims", ()):
            for role in ("a", "b", "cell", "where", "among"):
                for key in sorted({*(claim.get(role) or {})} - {"metric"})[:1]:
                    tree = part_of(name, scale)
                    tree["scales"][scale]["claims"] = [claim | {role: claim[role] | {key: "nowhere"}}]
                    assert f"claim {claim['id']}" in refused(name, tree)
                    tried += 1
    assert tried > 0


@pytest.mark.parametrize("name", papers.names())
def test_published_numbers_of_a_wrong_shape_are_refused_in_every_file(name) -> None:
    scale = next(iter(tree_of(name)["scales"]))
    for source in tree_of(name).get("published", ()):
        value, given = next(iter(source["values"].items()))
        wrong = [*given, 0.5] if isinstance(given, list) else [0.5, 0.5]
        tree = part_of(name, scale) | {"published": [source | {"values": {value: wrong}}]}
        assert f"{source['id']}: {value} has {len(wrong)} numbers" in refused(name, tree)


@pytest.mark.parametrize("name", papers.names())
def test_an_unknown_scale_source_or_key_is_refused_in_every_file(name) -> None:
    table = papers.load(name)
    with pytest.raises(InputError, match=f"unknown scale of {name} 'large'") as error:
        table.scale("large")
    assert "\n" not in str(error.value)
    first = next(iter(table.scales))
    tree = part_of(name, first)
    tree["scales"][first]["published"] = [{"id": "nobody"}]
    assert "no published numbers are called nobody" in refused(name, tree)
    tree["scales"][first]["rows"] = ["nrom"]
    assert "lacks the row or column key nrom" in refused(name, tree)


@pytest.mark.parametrize("name", papers.names())
def test_every_packaged_table_has_the_three_scales(name) -> None:
    assert list(papers.load(name).scales) == ["tiny", "small", "full"]


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_the_expected_number_of_runs_is_that_of_the_grids(name, scale) -> None:
    table = papers.load(name)
    expects = table.scales[scale].expects
    assert expects is not None
    assert expects.runs == len(papers.overrides(table, scale))


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_every_run_lies_in_a_cell_of_its_table(name, scale) -> None:
    """A value that a record spells in another way than the file would vanish from the table."""
    chosen = papers.load(name).scales[scale]
    places = {tuple(place[key] for key in chosen.keys if key != ARM) for place in chosen.places}
    for config in configs_of_one_seed(name, scale):
        spec = resolve(config).spec.model_dump(mode="json")
        assert tuple(label(field(spec, key)) for key in chosen.keys if key != ARM) in places
        assert any(told(spec, grid) for grid in grids(chosen, {"seed": [0]}))


@pytest.mark.parametrize(
    ("metric", "key"),
    [
        ("test_error@precise", "eval.statistics"),
        ("test_error/contrast:3", "eval.corruptions"),
        ("test_error/contrast:3@adapt", "eval.statistics"),
        ("test_ece", "eval.metrics"),
        ("steps_to_0.1", "eval.target"),
        ("running_error/mean_mean", "diagnostics"),
    ],
)
def test_a_metric_that_no_run_asks_for_is_refused_with_the_key_that_does(metric, key) -> None:
    asking = {
        "eval.statistics": ["running", "precise", "adapt"], "eval.corruptions": ["contrast:3"],
        "eval.metrics": ["ece"], "eval.target": 0.1, "diagnostics": ["running_error"],
    }  # fmt: skip
    words = [f"{name}={str(value).replace(chr(39), '').replace(' ', '')}" for name, value in asking.items()]
    table = parse("a/b", json.dumps({"title": "t", "metric": metric, "scales": {"tiny": {
        "rows": ["norm"], "grids": [{"norm": "bn"}]}}}))  # fmt: skip
    check_asked(table, "tiny", [resolve(compose(words)[0]).spec])
    lacking = resolve(compose([word for word in words if not word.startswith(key)])[0]).spec
    with pytest.raises(InputError, match=f"no run of a/b has {metric} at scale tiny; ask for it with {key}"):
        check_asked(table, "tiny", [lacking])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_every_network_of_a_table_fits_its_data(name, scale) -> None:
    """ResNet-50 on ImageNet too: without data the shape of its images is known."""
    specs = {
        spec.stack_key(): spec
        for spec in (resolve(config).spec for config in configs_of_one_seed(name, scale))
    }
    for spec in specs.values():
        shape = KNOWN.get(spec.data.name, Shape(3, 224, 1000, 1_281_167, 50_000))
        models.check(spec, models.fitted(spec, shape))
        assert spec.length(shape.train_images) > 0


@pytest.mark.parametrize("name", papers.names())
def test_the_citation_of_a_packaged_table_begins_with_the_name_of_its_folder(name) -> None:
    assert papers.load(name).citation.startswith(f"{name.partition('/')[0]} ")
