"""Figures of tables and curves: what is drawn equals what is known, and what was lost is marked."""

from __future__ import annotations

import re
import statistics
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from normbench.errors import InputError
from normbench.figures import KINDS
from normbench.figures.band import band
from normbench.figures.bars import bars
from normbench.figures.curve import curve
from normbench.figures.heat import heat
from normbench.figures.image import image
from normbench.figures.line import line
from normbench.figures.look import COLOURS, PUBLISHED, look
from normbench.figures.percentiles import percentiles
from normbench.figures.reliability import reliability
from normbench.figures.scales import base, positions
from normbench.report.calibration import reliabilities
from normbench.report.courses import courses
from normbench.report.selection import parse_condition
from normbench.report.tables import build_table

SVG = "{http://www.w3.org/2000/svg}"


def texts(figure) -> list[str]:
    tree = ET.fromstring(image(figure, "svg"))
    return ["".join(text.itertext()) for text in tree.iter(f"{SVG}text")]


def bands(axes) -> list[dict[float, tuple[float, float]]]:
    """x → lowest and highest y of every filled band."""
    found = []
    for collection in axes.collections:
        [path] = collection.get_paths()
        places: dict[float, list[float]] = {}
        for x, y in path.vertices:
            places.setdefault(float(x), []).append(float(y))
        found.append({x: (min(ys), max(ys)) for x, ys in places.items()})
    return found


@pytest.fixture
def published(runs):
    numbers = {("bn", "2"): 0.347, ("bn", "32"): 0.236}
    axes = (["bn", "gn"], ["2", "32"])
    return build_table(runs, "norm", "batch", "test_error", published=numbers, axes=axes)


def test_a_line_figure_has_axes_means_and_bands_of_one_deviation(runs):
    table = build_table(runs, "norm", "batch", "test_error")
    figure = line(table)
    [axes] = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("batch", "test_error (%)")
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "32"]
    drawn = [each for each in axes.lines if len(each.get_xdata())]
    assert len(drawn) == 2
    for norm, own, filled in zip(("bn", "gn"), drawn, bands(axes), strict=True):
        for batch in (2, 32):
            values = [
                100 * run.metrics["test_error"]
                for run in runs
                if run.spec["norm"]["name"] == norm and run.spec["batch"] == batch
            ]
            mean, sd = statistics.mean(values), statistics.stdev(values)
            assert dict(zip(own.get_xdata(), own.get_ydata(), strict=True))[batch] == pytest.approx(mean)
            assert filled[batch] == pytest.approx((mean - sd, mean + sd))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["bn", "gn"]
    assert "Mean ± sd over n = 3 seeds." in texts(figure)


def test_published_numbers_are_a_dashed_line_beside_ours(published):
    [axes] = line(published).axes
    [own] = [each for each in axes.lines if each.get_gid() == "published-0"]
    assert own._unscaled_dash_pattern[1] == PUBLISHED[1]
    assert dict(zip(own.get_xdata(), own.get_ydata(), strict=True)) == pytest.approx({2: 34.7, 32: 23.6})
    assert own.get_color() == look(0).colour
    assert "Dashed: published." in texts(line(published))


def test_no_line_of_ours_is_dashed():
    assert all(look(place).line not in ("dashed", "--", PUBLISHED) for place in range(50))


@pytest.mark.parametrize("draw", [line, bars, heat])
def test_lost_runs_are_marked_and_named(draw, lossy):
    said = " ".join(texts(draw(lossy)))
    assert "none at 2" not in said, "no run was asked for there"
    assert "none at 32: 1/1 diverged" in said
    assert "rms at 32: 2/2 failed" in said
    assert "sn at 2: 1/3 failed" in said
    assert "frn at 2: 2/2 missing" in said
    assert "in at 2: n/a" in said
    assert "ln_chw at 2: 1/4 diverged, 1/4 failed, 1/4 missing" in said


def test_marks_of_a_line_figure_stand_where_runs_were_lost(lossy):
    [axes] = line(lossy).axes
    crosses = [each for each in axes.lines if each.get_marker() == "x"]
    assert [list(each.get_xdata()) for each in crosses] == [[32], [32]]
    hollow = [
        each
        for each in axes.lines
        if each.get_markerfacecolor() == "white" and len(each.get_xdata()) and each.get_marker() != "x"
    ]
    assert [(list(each.get_xdata()), each.get_ydata()[0]) for each in hollow] == [
        ([2], pytest.approx(5.0)), ([2], pytest.approx(6.5)),
    ]  # fmt: skip
    circles = [
        each for each in axes.lines if each.get_markerfacecolor() == "none" and each.get_marker() == "o"
    ]
    rows = list(lossy.row_labels)
    marked = [(list(each.get_xdata()), each.get_color()) for each in circles]
    assert marked == [([2], look(rows.index(norm)).colour) for norm in ("frn", "in")]


@pytest.mark.parametrize("draw", [line, bars])
def test_a_row_without_any_cell_is_no_series(draw, runs):
    table = build_table(runs, "norm", "batch", "test_error", axes=(["bn", "gn", "in"], ["2", "32"]))
    assert [text.get_text() for text in draw(table).legends[0].get_texts()] == ["bn", "gn"]


def test_bars_are_means_with_deviations(runs):
    table = build_table(runs, "norm", "batch", "test_error")
    figure = bars(table)
    [axes] = figure.axes
    heights = [bar.get_height() for group in axes.containers if hasattr(group, "patches") for bar in group]
    means = [
        100 * (table.cells[norm, batch].summary.mean or 0) for norm in ("bn", "gn") for batch in ("2", "32")
    ]
    assert heights == pytest.approx(means)
    errors = [
        (top - bottom) / 2
        for group in axes.containers
        if hasattr(group, "patches")
        for [[_, bottom], [_, top]] in group.errorbar.lines[2][0].get_segments()
    ]
    sds = [100 * (table.cells[norm, batch].summary.sd or 0) for norm in ("bn", "gn") for batch in ("2", "32")]
    assert errors == pytest.approx(sds)
    hatches = {bar.get_hatch() for group in axes.containers if hasattr(group, "patches") for bar in group}
    assert len(hatches) == 2
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "32"]


def test_without_colours_a_key_stands_alone(runs):
    table = build_table([run for run in runs if run.spec["batch"] == 32], "norm", (), "test_error")
    [axes] = bars(table).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["bn", "gn"]
    assert axes.get_xlabel() == "norm"
    assert not bars(table).legends
    with pytest.raises(InputError, match="a heat map needs two keys"):
        heat(table)


def test_a_heat_map_has_the_mean_of_every_cell(lossy):
    figure = heat(lossy)
    axes, bar = figure.axes
    drawn = axes.images[0].get_array()
    for i, row in enumerate(lossy.row_labels):
        for j, col in enumerate(lossy.col_labels):
            cell = lossy.cells.get((row, col))
            mean = None if cell is None else cell.summary.mean
            assert drawn.mask[i, j] == (mean is None)
            if mean is not None:
                assert drawn[i, j] == pytest.approx(100 * mean)
    assert [text.get_text() for text in axes.get_yticklabels()] == list(lossy.row_labels)
    assert bar.get_ylabel() == "test_error (%)"
    shown = {text.get_text() for text in axes.texts}
    assert {"6.50*", "5.00*", "diverged", "failed", "missing", "n/a", "–"} <= shown
    assert any(line.startswith("Mean over n = 1 to 3 seeds.") for line in texts(figure))
    assert len(axes.patches) == int(drawn.mask.sum())


@pytest.fixture
def trained(make):
    """Two norms with three seeds and their curves; one run of gn diverged."""
    records, histories = [], {}
    for norm, start in (("bn", 2.0), ("gn", 3.0)):
        for seed in range(3):
            broken = norm == "gn" and seed == 2
            run = make(0.1, norm=norm, seed=seed, status="diverged" if broken else "complete")
            last = 30 if broken else 50
            histories[run.signature] = tuple(
                {
                    "step": step, "epoch": step / 10,
                    "train_loss": None if broken and step == last else start - 0.02 * step + 0.1 * seed**2,
                    "percentiles/p15": -1.0 - seed, "percentiles/p50": 0.0, "percentiles/p85": 1.0 + seed,
                }
                for step in range(10, last + 1, 10)
            )  # fmt: skip
            records.append(run)
    return records, histories


def test_a_curve_is_mean_and_deviation_over_seeds(trained):
    records, histories = trained
    figure = curve(courses(records, histories, ["norm"], "train_loss"), "train_loss")
    [axes] = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "train_loss")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["bn", "gn"]
    means = [each for each in axes.lines if list(each.get_xdata()) == [10, 20, 30, 40, 50]]
    seeds = {"bn": (0, 1, 2), "gn": (0, 1)}
    for (norm, complete), start, own, filled in zip(
        seeds.items(), (2.0, 3.0), means, bands(axes), strict=True
    ):
        for step, drawn in zip(own.get_xdata(), own.get_ydata(), strict=True):
            values = [start - 0.02 * step + 0.1 * seed**2 for seed in complete]
            mean, sd = statistics.mean(values), statistics.stdev(values)
            assert drawn == pytest.approx(mean), norm
            assert filled[step] == pytest.approx((mean - sd, mean + sd))
    assert "gn: 1/3 diverged." in texts(figure)


def test_a_diverged_run_is_a_line_of_its_own_that_ends_in_a_cross(trained):
    records, histories = trained
    [axes] = curve(courses(records, histories, ["norm"], "train_loss"), "train_loss").axes
    [cross] = [each for each in axes.lines if each.get_marker() == "x"]
    assert (list(cross.get_xdata()), list(cross.get_ydata())) == ([20], [pytest.approx(3.0)])
    assert cross.get_color() == look(1).colour
    assert [list(each.get_xdata()) for each in axes.lines].count([10, 20]) == 1


def test_a_band_reaches_from_the_smallest_to_the_largest_run(trained):
    records, histories = trained
    [axes] = band(courses(records, histories, ["norm"], "train_loss", "epoch"), "train_loss", "epoch").axes
    assert axes.get_xlabel() == "epoch"
    assert bands(axes)[0][1.0] == pytest.approx((1.8, 2.2))
    [middle] = [each for each in axes.lines if each.get_ydata()[0] == pytest.approx(1.9)]
    assert middle.get_ydata()[-1] == pytest.approx(1.1)


def test_percentiles_have_a_panel_per_cell_and_a_line_per_percentile(trained):
    records, histories = trained
    cells = {p: courses(records, histories, ["norm"], f"percentiles/p{p}") for p in (15, 50, 85)}
    figure = percentiles(cells, "percentiles")
    assert [axes.get_title() for axes in figure.axes] == ["bn", "gn"]
    first, second = figure.axes
    assert [each.get_ydata()[0] for each in first.lines] == [-2.0, 0.0, 2.0]
    assert [each.get_ydata()[0] for each in second.lines] == [-1.5, 0.0, 1.5]
    assert bands(first)[0][10.0] == (-2.0, 2.0)
    assert "gn: 1/3 diverged." in texts(figure)


def test_missing_runs_are_named_in_a_curve(trained, make):
    records, histories = trained
    missing = [make(None, norm=norm, seed=5, status="missing") for norm in ("gn", "frn")]
    cells = courses(records, histories, ["norm"], "train_loss", missing=missing)
    assert [(cell.label, cell.remarks()) for cell in cells] == [
        ("bn", ""), ("frn", "1/1 missing"), ("gn", "1/4 diverged, 1/4 missing"),
    ]  # fmt: skip
    said = " ".join(texts(curve(cells, "train_loss")))
    assert "frn: 1/1 missing; gn: 1/4 diverged, 1/4 missing." in said


def test_curves_of_runs_without_a_common_step_are_refused(trained):
    records, histories = trained
    first = records[0].signature
    histories = histories | {first: tuple(p | {"step": p["step"] + 1} for p in histories[first])}
    with pytest.raises(
        InputError, match=r"the runs of bn have no step in common; name what differs with --hue"
    ):
        courses(records, histories, ["norm"], "train_loss")
    alone = courses(records, histories, ["norm"], "train_loss", conditions=[parse_condition("seed=0")])
    assert [len(cell.complete) for cell in alone] == [1, 1]


@pytest.mark.parametrize(
    ("keys", "metric", "x", "message"),
    [
        (["nrom"], "train_loss", "step", "unknown key 'nrom'"),
        (["norm"], "test_eror", "step", "unknown metric of curves 'test_eror'"),
        (["norm"], "train_loss", "time", "unknown x of a curve 'time'"),
    ],
)
def test_curves_of_nothing_are_bad_input(keys, metric, x, message, trained):
    with pytest.raises(InputError, match=message):
        courses(*trained, keys, metric, x)


def test_reliability_is_the_mean_over_runs_bin_by_bin(make):
    rows = {
        0: [[0, None, None], [10, 0.6, 0.5], [30, 0.9, 0.8]],
        1: [[0, None, None], [20, 0.7, 0.9], [20, 0.9, 1.0]],
    }
    records = [
        replace(make(0.1, seed=seed), tables={"test_reliability": table}) for seed, table in rows.items()
    ]
    records.append(make(0.1, seed=2))
    [cell] = reliabilities(records, ["norm"])
    assert [each.confidence for each in cell.bins] == pytest.approx([0.65, 0.9])
    assert [each.hits.mean for each in cell.bins] == pytest.approx([0.7, 0.9])
    assert cell.ece.mean == pytest.approx(((10 * 0.1 + 30 * 0.1) / 40 + (20 * 0.2 + 20 * 0.1) / 40) / 2)
    assert cell.remarks() == "1/3 no value"
    figure = reliability([cell])
    [axes] = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("confidence", "share of hits")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["bn (ECE 12.50 %)"]
    assert "bn: 1/3 no value." in texts(figure)
    with pytest.raises(InputError, match="unknown reliability table 'test_reliability@batch'"):
        reliabilities(records, ["norm"], "test_reliability@batch")


def test_an_svg_has_the_same_bytes_each_time_and_no_date(lossy):
    first, again = (image(line(lossy), "svg") for _ in range(2))
    assert first == again
    assert image(heat(lossy), "svg") == image(heat(lossy), "svg")
    assert image(bars(lossy), "svg") == image(bars(lossy), "svg")
    assert b"dc:date" not in first
    assert b"matplotlib.org" not in first


def test_the_users_settings_of_matplotlib_change_nothing(lossy):
    import matplotlib

    expected = image(line(lossy), "svg")
    with matplotlib.rc_context({"svg.fonttype": "path", "font.size": 20, "lines.linewidth": 9}):
        assert image(line(lossy), "svg") == expected


def test_a_png_is_one_and_other_formats_are_refused(lossy):
    assert image(line(lossy), "png").startswith(b"\x89PNG")
    with pytest.raises(InputError, match="unknown format of figures 'pdf'"):
        image(line(lossy), "pdf")


@pytest.mark.parametrize("draw", [line, bars, heat])
@pytest.mark.parametrize(
    "name",
    ["_hidden", "50 $ & <b>bold</b>", r"$\alpha$", "]]><script>a</script>", "größe", "a\nb\x01c"],
)
def test_names_of_users_are_text_and_nothing_else(name, draw, make):
    sites = f"conv1{name}"
    records = [make(0.1, placement={"sites": site}, seed=0) for site in (sites, "conv1")]
    table = build_table(records, "placement.sites", "batch", "test_error")
    shown = sites.replace("\n", "\\n").replace("\x01", "\\x01")
    assert shown in texts(draw(table))


def test_the_text_of_a_column_is_at_least_seven_points(lossy):
    svg = image(line(lossy), "svg").decode()
    sizes = {float(size) for size in re.findall(r"font(?:-size)?: *([\d.]+)px", svg)}
    assert sizes
    assert min(sizes) >= 7
    assert 'width="237.6pt"' in svg  # 3.3 inches


def test_neighbouring_series_differ_in_colour_line_marker_and_hatch():
    for place in range(20):
        first, second = look(place), look(place + 1)
        assert all(a != b for a, b in zip(first, second, strict=True))
    assert len(set(COLOURS)) == len(COLOURS)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["2", "8", "32"], 2),
        (["0.1", "0.01", "1"], 10),
        (["1", "3", "500"], 10),
        (["10", "20"], 0),
        (["0", "2"], 0),
        (["-2", "2"], 0),
        (["bn", "2"], 0),
        (["2", "2.0"], 0),
    ],
)
def test_axes_are_logarithmic_for_powers(labels, expected):
    assert positions(labels).base == expected


def test_one_value_needs_no_logarithm():
    assert base([2.0]) == 0


def test_every_kind_has_a_function_of_its_name():
    from importlib import import_module

    for kind in KINDS:
        assert callable(getattr(import_module(f"normbench.figures.{kind}"), kind))
