"""Figures that tables declare: what each shows equals its cells or its runs, whatever lies on which axis."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from normbench import papers
from normbench.papers import drawings as module
from normbench.papers.catalogue import parse
from normbench.papers.drawings import declared, drawings, of_means
from normbench.papers.drawn_axes import apply_log
from normbench.papers.drawn_runs import Drawable
from normbench.papers.figures import Figure
from normbench.papers.sentence import verdict
from normbench.report.rearranged import rearranged, values_along

SVG = "{http://www.w3.org/2000/svg}"
TABLE = """
title: t
scales:
  tiny:
    rows: [model, norm]
    cols: [batch]
    grids: [{model: [mlp, lenet], norm: [bn, gn], batch: [2, 32], seed: [0, 1, 2]}]
"""


@pytest.fixture
def drawable(runs):
    """BN and GN over 2 and 32 images in two models; the mlp is ahead by one point."""

    def in_model(name: str, more: float, loss: float):
        return [
            replace(
                run,
                signature=f"{i:02x}{name}",
                spec={**run.spec, "model": {**run.spec["model"], "name": name}},
                metrics={"test_error": run.metrics["test_error"] + more, "test_loss": loss + i},
            )
            for i, run in enumerate(runs)
        ]

    report = papers.report(
        parse("a/b", TABLE), "tiny", [*in_model("mlp", 0.0, 10.0), *in_model("lenet", 0.01, 1.0)]
    )

    def history(signature: str):
        scale = 1 + int(signature[:2], 16)
        return tuple({"step": float(s), "train_loss": scale / s} for s in (1, 10, 100))

    return Drawable(report.table, report.records, history)


def drawn(monkeypatch, drawable, **figure):
    """The matplotlib figures of one declared figure."""
    made = []
    keep = module.apply_log
    monkeypatch.setattr(module, "apply_log", lambda each, log: (made.append(each), keep(each, log)))
    found = drawings([Figure(id="f", **figure)], drawable)
    assert not [each.fault for each in found if each.file is None]
    return made, found


def lines(axes) -> dict[str, list[float]]:
    return {line.get_gid(): [float(y) for y in line.get_ydata()] for line in axes.lines if line.get_gid()}


def test_a_curve_along_columns_has_one_line_per_row_and_pools_nothing(monkeypatch, drawable) -> None:
    [figure], [drawing] = drawn(monkeypatch, drawable, kind="curve", x="batch", hue="norm")
    found = lines(figure.axes[0])
    assert len(found) == 4  # norm and model, because the figure has no key for the model
    means = {(row, col): 100 * cell.summary.mean for (row, col), cell in drawable.table.cells.items()}
    assert found["mean-0"] == pytest.approx([means["mlp · bn", "2"], means["mlp · bn", "32"]])
    texts = ["".join(e.itertext()) for e in ET.fromstring(drawing.file).iter(f"{SVG}text")]
    assert {"bn · mlp", "gn · lenet"} <= set(texts)


def test_a_row_key_can_lie_on_the_x_axis(monkeypatch, drawable) -> None:
    [figure], _ = drawn(monkeypatch, drawable, kind="curve", x="norm", hue="batch", where={"model": "lenet"})
    means = {place: 100 * cell.summary.mean for place, cell in drawable.table.cells.items()}
    found = lines(figure.axes[0])
    assert found["mean-0"] == pytest.approx([means["lenet · bn", "2"], means["lenet · gn", "2"]])
    assert found["mean-1"] == pytest.approx([means["lenet · bn", "32"], means["lenet · gn", "32"]])


def test_every_panel_is_a_drawing_with_its_value_in_the_name(monkeypatch, drawable) -> None:
    figures, found = drawn(monkeypatch, drawable, kind="bars", x="batch", hue="norm", panel="model")
    assert [each.name for each in found] == ["f.mlp", "f.lenet"]
    assert [each.title for each in found] == ["f, model mlp", "f, model lenet"]
    heights = [sorted(bar.get_height() for bar in figure.axes[0].patches) for figure in figures]
    assert heights[1] == pytest.approx([height + 1 for height in heights[0]])


def test_a_heat_map_has_y_along_its_rows(monkeypatch, drawable) -> None:
    [figure], _ = drawn(monkeypatch, drawable, kind="heat", x="batch", y="norm", where={"model": "mlp"})
    [image] = figure.axes[0].images
    means = {place: 100 * cell.summary.mean for place, cell in drawable.table.cells.items()}
    expected = [means[f"mlp · {norm}", batch] for norm in ("bn", "gn") for batch in ("2", "32")]
    assert image.get_array().shape == (2, 2)
    assert image.get_array().ravel().tolist() == pytest.approx(expected)


def test_another_metric_is_taken_from_the_runs(monkeypatch, drawable) -> None:
    where = {"model": "lenet"}
    [figure], _ = drawn(
        monkeypatch, drawable, kind="curve", x="batch", hue="norm", metric="test_loss", where=where
    )
    losses = [r.metrics["test_loss"] for r in drawable.records
              if (r.value("model"), r.value("norm"), r.value("batch")) == ("lenet", "bn", 2)]  # fmt: skip
    assert lines(figure.axes[0])["mean-0"][0] == pytest.approx(sum(losses) / 3)


def printed(drawing) -> list[str]:
    return ["".join(e.itertext()) for e in ET.fromstring(drawing.file).iter(f"{SVG}text")]


def test_the_small_print_counts_the_seeds_of_what_is_drawn(drawable) -> None:
    kept = [r for r in drawable.records if r.value("model") == "mlp" or r.value("seed") != 2]
    kept = [r for r in kept if r.value("norm") == "bn" or r.value("model") == "mlp" or r.value("seed") == 0]
    report = papers.report(parse("a/b", TABLE), "tiny", kept)
    assert "Mean ± sd over n = 3 seeds unless a cell says otherwise." in report.table.notes
    wheres = ({"model": "mlp"}, {"model": "lenet", "norm": "bn"}, {"model": "lenet", "norm": "gn"}, {})
    figures = [Figure(id="f", kind="bars", x="batch", where=where) for where in wheres]
    found = drawings(figures, replace(drawable, table=report.table, records=report.records))
    said = [[text for text in printed(each) if "seed" in text.lower()] for each in found]
    assert said == [
        ["Mean ± sd over n = 3 seeds."],
        ["Mean ± sd over n = 2 seeds."],
        ["One seed per cell: a spread cannot be given."],
        ["Mean ± sd over n = 1 to 3 seeds."],
    ]


@pytest.mark.parametrize("metric", [None, "test_loss"])
def test_a_figure_of_any_metric_names_missing_runs(drawable, metric) -> None:
    kept = [r for r in drawable.records if (r.value("norm"), r.value("batch")) != ("gn", 2)]
    report = papers.report(parse("a/b", TABLE), "tiny", kept, impossible={("lenet", "gn", "2"): "no"})
    figure = Figure(id="f", kind="curve", x="batch", hue="norm", metric=metric)
    [drawing] = drawings([figure], replace(drawable, table=report.table, records=report.records))
    said = " ".join(printed(drawing))
    assert "gn · mlp at 2: 3/3 missing" in said and "gn · lenet at 2: n/a" in said


def test_training_curves_are_means_over_the_seeds_of_a_cell(monkeypatch, drawable) -> None:
    where = {"model": "mlp", "batch": 2}
    [figure], _ = drawn(monkeypatch, drawable, kind="training", hue="norm", metric="train_loss", where=where)
    [bn, gn, *_] = figure.axes[0].lines
    for line, norm in ((bn, "bn"), (gn, "gn")):
        runs = [r for r in drawable.records
                if (r.value("model"), r.value("norm"), r.value("batch")) == ("mlp", norm, 2)]  # fmt: skip
        firsts = [drawable.history(run.signature)[0]["train_loss"] for run in runs]
        assert float(line.get_ydata()[0]) == pytest.approx(sum(firsts) / 3)


def test_a_band_spans_the_values_of_its_key(monkeypatch, drawable) -> None:
    figure = {
        "kind": "band",
        "over": "batch",
        "hue": "norm",
        "metric": "train_loss",
        "where": {"model": "mlp"},
    }
    [made], _ = drawn(monkeypatch, drawable, **figure)
    runs = [r for r in drawable.records if (r.value("model"), r.value("norm")) == ("mlp", "bn")]
    firsts = [drawable.history(run.signature)[0]["train_loss"] for run in runs]
    [path] = made.axes[0].collections[0].get_paths()
    at_first = [y for x, y in path.vertices if x == 1.0]
    assert (min(at_first), max(at_first)) == pytest.approx((min(firsts), max(firsts)))


def test_reliability_and_percentiles_are_drawn_from_the_runs(monkeypatch, drawable) -> None:
    rows = [[10, 0.5, 0.4], [10, 0.9, 0.7]]
    curve = [{"step": float(s), **{f"percentiles@fc1.0/p{p}": float(p) for p in (1, 50, 99)}} for s in (1, 2)]
    runs = [replace(run, tables={"test_reliability": rows}) for run in drawable.records]
    full = Drawable(drawable.table, runs, lambda signature: tuple(curve))
    [figure], _ = drawn(monkeypatch, full, kind="reliability", hue="norm", where={"model": "mlp", "batch": 2})
    assert "ECE 15.00 %" in figure.legends[0].get_texts()[0].get_text()
    monkeypatch.undo()
    [figure], _ = drawn(monkeypatch, full, kind="percentiles", hue="norm", where={"model": "mlp", "batch": 2})
    assert [axes.get_title() for axes in figure.axes[:2]] == ["bn", "gn"]


def test_what_runs_lack_is_a_fault_and_not_an_error(drawable) -> None:
    figures = [
        Figure(id="a", kind="reliability"), Figure(id="b", kind="percentiles"),
        Figure(id="c", kind="training", metric="test_nll"),
    ]  # fmt: skip
    found = drawings(figures, drawable)
    assert [each.file for each in found] == [None] * 3
    assert "unknown reliability table" in found[0].fault
    assert "no run has percentiles" in found[1].fault
    assert "unknown metric of curves 'test_nll'" in found[2].fault
    assert all("\n" not in each.fault for each in found)


def test_a_logarithmic_axis_is_used_if_its_values_allow_it(monkeypatch, drawable) -> None:
    [figure], _ = drawn(monkeypatch, drawable, kind="curve", x="batch", hue="norm", log=("x", "y"))
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    monkeypatch.undo()
    [figure], _ = drawn(monkeypatch, drawable, kind="curve", x="norm", hue="batch", log=("x",))
    assert figure.axes[0].get_xscale() == "linear"  # names have no logarithm
    monkeypatch.undo()
    [figure], _ = drawn(
        monkeypatch, drawable, kind="heat", x="batch", y="norm", where={"model": "mlp"}, log=("color",)
    )
    assert type(figure.axes[0].images[0].norm).__name__ == "LogNorm"


def test_zeros_have_no_logarithm() -> None:
    from matplotlib.figure import Figure as Drawn

    figure = Drawn()
    figure.subplots().plot([1, 2], [0.0, 1.0])
    apply_log(figure, ("y",))
    assert figure.axes[0].get_yscale() == "linear"


def test_a_table_without_figures_has_one_of_its_means(drawable, runs) -> None:
    [figure] = of_means(drawable.table)
    assert (figure.kind, figure.x, figure.hue) == ("curve", "batch", "model")
    paper = papers.load("wu2018/batch_size")
    report = papers.report(paper, "tiny", runs)
    assert [each.id for each in declared(report)] == ["error_by_batch"]


def test_published_numbers_are_drawn_if_the_figure_asks_for_them(monkeypatch, runs) -> None:
    report = papers.report(papers.load("wu2018/batch_size"), "tiny", runs)
    source = Drawable(report.table, report.records, lambda signature: ())
    for published in (True, False):
        [figure], _ = drawn(monkeypatch, source, kind="curve", x="batch", hue="norm", published=published)
        assert ("published-0" in lines(figure.axes[0])) == published
        monkeypatch.undo()


def test_cells_keep_their_values_where_keys_change_places(drawable) -> None:
    table = drawable.table
    moved = rearranged(table, ["batch", "norm"], ["model"], {})
    assert moved.row_labels[:2] == ("2 · bn", "32 · bn")
    assert moved.cells["32 · gn", "lenet"].values == table.cells["lenet · gn", "32"].values
    assert values_along(table, "norm") == ["bn", "gn"]
    with pytest.raises(ValueError, match="two cells share the place"):
        rearranged(table, ["norm"], ["batch"], {})


# The verdict in one sentence


@pytest.mark.parametrize(
    ("outcomes", "sentence"),
    [
        ([], "The table makes no claims."),
        (["supported"], "The one asserted claim is supported."),
        (["supported"] * 3, "All 3 asserted claims are supported."),
        (["undecided"] * 2, "All 2 asserted claims are undecided."),
        (["supported", "refuted", "supported"], "Of 3 asserted claims, 2 are supported, 1 is refuted (c1)."),
        (
            ["refuted", "undecided", "skipped"],
            "Of 3 asserted claims, 1 is refuted (c0), 1 is undecided (c1), 1 is not judged (c2).",
        ),
    ],
)
def test_the_verdict_is_one_sentence(outcomes, sentence) -> None:
    claims = [papers.ClaimResult(f"c{i}", "", True, each, "") for i, each in enumerate(outcomes)]
    assert verdict(claims) == sentence


def test_claims_that_are_only_reported_do_not_enter_the_verdict() -> None:
    reported = papers.ClaimResult("r", "", False, "refuted", "")
    asserted = papers.ClaimResult("a", "", True, "supported", "")
    assert verdict([reported, asserted]) == "The one asserted claim is supported."
    assert verdict([reported]) == "The one reported claim is refuted."
