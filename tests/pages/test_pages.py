"""The pages of a report: what stands on them, that every link leads somewhere, that names are only text."""

from __future__ import annotations

import posixpath
import re
import time
from dataclasses import replace
from urllib.parse import unquote

import pytest

from html_reader import Reader
from normbench import papers
from normbench.pages import Site, of_report, of_runs
from normbench.papers.drawings import declared, drawings, of_means
from normbench.papers.drawn_runs import Drawable
from normbench.report.tables import build_table

PAGE = "mine.table.tiny.html"


@pytest.fixture
def site(records, table, curve_of):
    """A function from the runs and the texts of the table to the files of its report."""

    def files(runs=None, written="2026-01-03", **texts: str):
        report = papers.report(table(**texts), "tiny", records if runs is None else runs)
        drawn = drawings(declared(report), Drawable(report.table, report.records, curve_of))
        command = lambda record: f"normbench train seed={record.spec['seed']}"  # noqa: E731
        return Site([of_report(report, drawn)], command, curve_of, written).files()

    return files


def pages(files) -> dict[str, Reader]:
    return {name: Reader(content) for name, content in files.items() if name.endswith(".html")}


def links(page: Reader) -> list[str]:
    return [
        each.attributes[name] for each in page.elements for name in ("href", "src") if name in each.attributes
    ]


# Links


def test_every_link_leads_to_a_file_of_the_report_and_to_an_anchor_in_it(site) -> None:
    files = site()
    found = pages(files)
    ids = {
        name: [e.attributes["id"] for e in page.elements if "id" in e.attributes]
        for name, page in found.items()
    }
    seen = 0
    for name, page in found.items():
        assert not page.open, f"{name} has elements without an end"
        assert len(set(ids[name])) == len(ids[name]), f"{name} has an id twice"
        for link in links(page):
            path, _, anchor = link.partition("#")
            target = (
                posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(path))) if path else name
            )
            assert target in files, f"{name} links to {link}"
            assert not anchor or anchor in ids[target], f"{name} links to {link}"
            seen += 1
    assert seen > 50


def test_nothing_is_loaded_from_a_network(site) -> None:
    for name, content in site().items():
        text = content if isinstance(content, str) else content.decode()
        if name.endswith(".svg"):  # names of XML vocabularies are no addresses
            text = re.sub(r'(xmlns(:\w+)?|rdf:\w+|PUBLIC|"http://www.w3.org[^"]*")', "", text)
            assert not re.search(r'(href|src)\s*=\s*"(?!#)', text), name
        else:
            assert not re.search(r"(https?:)?//[a-z]+\.|@import|url\(", text), name


def test_every_cell_with_runs_links_to_the_first_of_its_runs(site, records) -> None:
    page = pages(site())[PAGE]
    [table] = page.all("table", cls="sortable numbers")
    rows = {e.attributes["id"]: e for e in page.all("tr") if e.attributes.get("id", "").startswith("cell-")}
    linked = [e for e in page.all("a") if e.attributes["href"].startswith("#cell-")]
    assert len(linked) == len(rows) == 5  # bn and gn at 2 and 32, frn at 2
    by_text = {link.text: rows[link.attributes["href"][1:]].text for link in linked}
    [broken] = [text for cell, text in by_text.items() if "diverged" in cell]
    assert "gn" in broken and "complete" in broken
    assert "3/3 missing" in table.text and "3/3 missing" not in by_text  # frn at 32 has no run and no link


def test_every_run_has_its_command_line_its_curves_and_its_reason(site, records) -> None:
    found = pages(site())
    runs = [page for name, page in found.items() if name.startswith("runs/")]
    articles = {e.attributes["id"]: e.text for page in runs for e in page.all("article")}
    assert set(articles) == {f"run-{record.signature}" for record in records}
    for record in records:
        text = articles[f"run-{record.signature}"]
        assert f"normbench train seed={record.spec['seed']}" in text
        assert "train_loss 0.2 at the end" in text
    assert sum("RuntimeError: no luck" in text for text in articles.values()) == 1
    drawings = [e for page in runs for e in page.all("svg", role="img")]
    assert len(drawings) == 2 * len(records)
    assert all("ends at" in e.attributes["aria-label"] for e in drawings)


# What stands on a page


def test_a_page_has_question_verdict_numbers_figures_claims_and_provenance(site) -> None:
    page = pages(site(QUESTION="Does it?", CLAIM="It collapses", TITLE="A table"))[PAGE]
    [verdict] = [e for e in page.all("p") if e.attributes.get("class", "").startswith("verdict")]
    assert [e.text for e in page.all("h1")] == ["A table"]
    assert "Does it?" in [e.text for e in page.all("p", cls="question")]
    assert verdict.text == "Verdict: The one asserted claim is supported."
    assert [e.text.split()[0] for e in page.all("li", cls="supported")] == ["supported"]
    terms = dict(zip([e.text for e in page.all("dt")], [e.text for e in page.all("dd")], strict=True))
    assert terms["commit"].startswith("0123456789ab")
    assert terms["runs"] == "13 (11 complete, 1 diverged, 1 failed)"
    assert (terms["seeds"], terms["device"], terms["ended"]) == ("0 to 2", "cpu", "2026-01-02")
    assert "normbench reproduce mine/table scale=tiny" in [e.text for e in page.all("pre", cls="command")]
    images = [e.attributes for e in page.all("img")]
    assert len(images) == 3  # one figure, and one panel per batch
    assert all(len(image["alt"]) > 20 for image in images)


def test_published_numbers_keep_their_marks(site) -> None:
    page = pages(site())[PAGE]
    published = [e.text for e in page.all("tr", cls="published")]
    assert any("20.0 (?)" in line for line in published)
    assert any("25.0 ~" in line for line in published)
    assert any("from weak memory: do not quote" in e.text for e in page.all("p", cls="note"))


def test_lost_runs_are_named_in_their_cells_in_figures_and_in_a_warning(site) -> None:
    files = site()
    page = pages(files)[PAGE]
    [cell] = [e.text for e in page.all("td") if "diverged" in e.text and "failed" in e.text]
    assert "1/3 diverged" in cell and "1/3 failed" in cell
    assert {"4.00 (2/3 missing)", "3/3 missing"} <= {" ".join(e.text.split()) for e in page.all("td")}
    warnings = [e.text for e in page.all("p", cls="warning")]
    assert any("5 of 18 runs are missing: norm=frn batch=2 (seeds 0, 2), norm=frn" in w for w in warnings)
    [figure] = [str(text) for name, text in files.items() if "by_batch" in name]
    assert "gn at 2: 1/3 diverged, 1/3 failed" in figure and "frn at 32: 3/3 missing" in figure


def test_a_figure_that_cannot_be_drawn_says_why(records, table) -> None:
    report = papers.report(table(), "tiny", records)
    drawn = drawings(declared(report), Drawable(report.table, report.records, lambda signature: ()))
    page = Reader(Site([of_report(report, drawn)], lambda r: "", lambda s: ()).files()[PAGE])
    lines = [e.text for e in page.all("p", cls="warning") if "cannot be drawn" in e.text]
    assert len(lines) == 2 and "unknown metric of curves 'train_loss'" in lines[0]


def test_a_report_without_tables_says_so() -> None:
    files = Site([], lambda record: "", lambda signature: ()).files()
    assert "No table has a finished run yet." in files["index.html"]
    assert set(files) == {"index.html", "style.css", "script.js"}


def test_chosen_runs_have_a_page_whose_labels_name_the_knobs(make, curve_of) -> None:
    runs = [
        replace(record, spec={**record.spec, "norm": {"name": "gn", "args": {"num_groups": groups}}})
        for groups in (2, 4)
        for record in [make(0.1, "gn", groups, seed=0)]
    ]
    from normbench.report.axes import knobs_to_name

    same = [replace(r, spec={**r.spec, "batch": 2}) for r in runs]
    table = build_table(same, "norm", "batch", "test_error")
    page = of_runs("Runs", "normbench report norm=gn", table, same,
                   drawings(of_means(table), Drawable(table, same, curve_of)),
                   knobs_to_name(same, ("norm",), ("batch",)))  # fmt: skip
    shown = Reader(Site([page], lambda r: "", curve_of).files()["runs.html"])
    assert len([e for e in shown.all("a") if e.attributes["href"].startswith("#cell-")]) == 2
    [offered] = [e for e in shown.all("select") if e.attributes["data-key"] == "norm"]
    assert "gn (num_groups=2)" in offered.text


# Names are only text


def test_hostile_names_are_only_text(site, records, make, hostile) -> None:
    runs = [
        replace(
            r,
            environment={**r.environment, "device": hostile},
            provenance={**r.provenance, "error": hostile},
            spec={**r.spec, "data": {**r.spec["data"], "path": hostile}},
            metrics={**r.metrics, hostile: 0.5},
        )
        for r in records
    ]
    files = site(runs, TITLE=hostile, QUESTION=hostile, CITATION=hostile, SOURCE=hostile, CLAIM=hostile)
    for name, page in pages(files).items():
        assert not [e for e in page.all("img") if "onerror" in e.attributes], name
        assert len(page.all("script")) == 1, name
        assert "\u202e" not in files[name], name
        assert {key for e in page.elements for key in e.attributes if key.startswith("on")} == set(), name
    assert pages(files)[PAGE].all("h1")[0].text == hostile.replace("\u202e", "\\u202e")


def test_a_hostile_signature_or_file_name_cannot_leave_the_folder(records, table, curve_of, hostile) -> None:
    runs = [replace(record, signature=f"../{i}{hostile}") for i, record in enumerate(records)]
    report = papers.report(table().model_copy(update={"name": f"../../{hostile}"}), "tiny", runs)
    files = Site([of_report(report, ())], lambda r: "", curve_of).files()
    assert all(re.fullmatch(r"(runs/|figures/)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name) for name in files)


# Keyboard, screen readers, small screens


def test_pages_can_be_used_with_keyboard_and_screen_reader(site) -> None:
    files = site()
    for name, page in pages(files).items():
        assert page.all("html", lang="en") and page.all("main", id="main"), name
        assert page.all("a", cls="skip", href="#main"), name
        assert page.all("meta", name="viewport", content="width=device-width, initial-scale=1"), name
        assert all("alt" in e.attributes for e in page.all("img")), name
        for header in page.all("th"):
            assert header.attributes.get("scope") in ("row", "col"), name
            if "aria-sort" in header.attributes:
                assert header.attributes["aria-sort"] == "none"
        assert len(page.all("caption")) == len(page.all("table")), name
        assert all("aria-label" in e.attributes and e.attributes["tabindex"] == "0"
                   for e in page.all("div", role="region")), name  # fmt: skip
    page = pages(files)[PAGE]
    assert len(page.all("th", scope="col")) == len(page.all("th", **{"aria-sort": "none"})) > 5
    assert page.all("p", role="status")
    css = files["style.css"]
    assert "prefers-color-scheme: dark" in css and "@media print" in css and ":focus-visible" in css


def test_filters_offer_the_values_of_norm_and_batch(site) -> None:
    page = pages(site())[PAGE]
    offered = {e.attributes["data-key"]: e.text.split() for e in page.all("select")}
    assert offered["norm"] == ["all", "bn", "frn", "gn"]
    assert offered["batch"] == ["all", "2", "32"]
    assert offered["status"] == ["all", "complete", "diverged", "failed"]
    assert "model" not in offered  # all runs have one


# Sizes and bytes


def test_two_reports_of_the_same_runs_differ_in_their_date_alone(site) -> None:
    first, second = site(written="2026-01-03"), site(written="2026-01-04")
    assert first.keys() == second.keys()
    for name, content in first.items():
        if isinstance(content, str):
            content, other = (text.replace(day, "") for text, day in
                              ((content, "2026-01-03"), (second[name], "2026-01-04")))  # fmt: skip
            assert content == other, name
        else:
            assert content == second[name], name


def test_five_thousand_runs_stay_quick_and_small(make, table, curve_of) -> None:
    """The bound is several times what it takes on an idle core: about 3 seconds."""
    runs = [
        make(0.02 + 0.001 * (seed % 7), norm, batch, seed)
        for norm in ("bn", "gn")
        for batch in (2, 32)
        for seed in range(1250)
    ]
    described = build_table(runs, "norm", "batch", "test_error")
    page = of_runs("Many runs", "normbench report", described, runs, (), {})
    before = time.process_time()
    files = Site([page], lambda record: "normbench train", curve_of).files()
    assert time.process_time() - before < 25
    assert max(len(content) for content in files.values()) < 2_000_000
    assert len(pages({"runs.html": files["runs.html"]})["runs.html"].all("tr")) == 5004
