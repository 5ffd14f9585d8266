"""The pages in headless Chromium, opened from disk: sorting, filters, links, colours, a phone's width."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from normbench import papers
from normbench.pages import Site, of_report, write
from normbench.papers.drawings import declared, drawings
from normbench.papers.drawn_runs import Drawable

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
PAGE = "mine.table.tiny.html"


@pytest.fixture
def report(records, table, curve_of, tmp_path: Path) -> Path:
    """The folder of a report of TABLE."""
    made = papers.report(table(TITLE="A title of several words, as tables have them"), "tiny", records)
    drawn = drawings(declared(made), Drawable(made.table, made.records, curve_of))
    site = Site([of_report(made, drawn)], lambda record: f"normbench train {'norm=gn ' * 30}", curve_of)
    write(site.files(), tmp_path / "report")
    return tmp_path / "report"


def chromium(tmp_path: Path, url: str, *flags: str) -> str:
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", *flags, url],
        capture_output=True, encoding="utf-8", timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def answer(report: Path, tmp_path: Path, script: str, anchor: str = "") -> Any:
    """What a script finds after the script of the pages has run; errors of either are an answer too."""
    file = report / "script.js"
    kept = file.read_text()
    file.write_text(
        "const answer = (found) => { document.body.dataset.answer = JSON.stringify(found) };\n"
        "addEventListener('error', (event) => answer(`error: ${event.message}`));\n"
        f"{kept}\nsetTimeout(() => (async () => {{ {script} }})().then(answer), 500);"
    )
    try:
        shown = chromium(tmp_path, f"{(report / PAGE).as_uri()}{anchor}", "--dump-dom")
    finally:
        file.write_text(kept)
    found = re.search(r'data-answer="([^"]*)"', shown)
    assert found, "the script gave no answer"
    return json.loads(html.unescape(found[1]))


def test_columns_are_sorted_by_their_numbers_in_both_directions(report: Path, tmp_path: Path) -> None:
    script = """
      const table = document.querySelector("table.numbers"), header = table.tHead.rows[0].cells[1];
      const names = () => [...table.tBodies].map((body) => body.rows[0].cells[0].textContent);
      const found = [names(), header.getAttribute("aria-sort")];
      header.querySelector("button").click(); found.push(names(), header.getAttribute("aria-sort"));
      header.querySelector("button").click(); found.push(names(), header.getAttribute("aria-sort"));
      return found;
    """
    before, none, up, ascending, down, descending = answer(report, tmp_path, script)
    assert (none, ascending, descending) == ("none", "ascending", "descending")
    assert before == ["bn", "gn", "frn"]
    assert up == ["frn", "gn", "bn"]  # 4, 5 and 43 percent at batch 2
    assert down == ["bn", "gn", "frn"]


def test_filters_hide_runs_rows_and_columns(report: Path, tmp_path: Path) -> None:
    script = """
      const select = (key, value) => {
        const each = document.querySelector(`select[data-key=${key}]`);
        each.value = value; each.dispatchEvent(new Event("change", { bubbles: true }));
      };
      const state = () => [
        [...document.querySelectorAll("table.runs tbody tr")].filter((row) => !row.hidden).length,
        [...document.querySelectorAll("table.numbers tbody")].filter((body) => !body.hidden).length,
        [...document.querySelectorAll("table.numbers thead th")].filter((each) => !each.hidden).length,
        document.querySelector(".shown").textContent];
      const found = [state()];
      select("norm", "gn"); found.push(state());
      select("batch", "2"); found.push(state());
      select("status", "diverged"); found.push(state());
      return found;
    """
    assert answer(report, tmp_path, script) == [
        [13, 3, 3, "13 runs; each leads to its command line and curve"],
        [6, 1, 3, "6 of 13 runs"],
        [3, 1, 2, "3 of 13 runs"],
        [1, 1, 2, "1 of 13 runs"],
    ]


def test_a_number_leads_to_its_runs_alone(report: Path, tmp_path: Path) -> None:
    script = """
      const rows = [...document.querySelectorAll("table.runs tbody tr")].filter((row) => !row.hidden);
      return [rows.map((row) => row.cells[1].textContent + row.cells[2].textContent),
              document.activeElement.closest("table").className];
    """
    [[link]] = [
        re.findall(r'href="#(cell-\d+)"[^>]*>[^<]*<small>\(1/3 diverged', (report / PAGE).read_text())
    ]
    shown, focused = answer(report, tmp_path, script, f"#{link}")
    assert shown == ["gn2"] * 3
    assert "runs" in focused
    again = """
      document.querySelector("form.filters button[type=reset]").click();
      await new Promise((done) => setTimeout(done, 50));
    """
    assert len(answer(report, tmp_path, again + script, f"#{link}")[0]) == 13


def test_pages_fit_a_phone(report: Path, tmp_path: Path) -> None:
    """Wide tables scroll inside; the page itself does not move sideways at 360 pixels."""
    runs = next((report / "runs").glob("*.html")).relative_to(report)
    for page in ("index.html", PAGE, str(runs)):
        file = report / "script.js"
        kept = file.read_text()
        file.write_text(
            kept + "\nparent.postMessage([document.documentElement.scrollWidth, innerWidth], '*')"
        )
        (report / "phone.html").write_text(
            "<body><script>onmessage = (e) => document.body.dataset.widths = e.data</script>"
            f"<iframe src='{page}' width=360 height=700 style='border:0'></iframe>"
        )
        shown = chromium(tmp_path, (report / "phone.html").as_uri(), "--dump-dom")
        file.write_text(kept)
        found = re.search(r'data-widths="(\d+),(\d+)"', shown)
        assert found and found[1] == found[2] == "360", page


def test_light_and_dark_follow_the_reader(report: Path, tmp_path: Path) -> None:
    from PIL import Image

    corners = []
    for scheme in (1, 0):  # Chromium's numbers for light and dark
        picture = tmp_path / f"{scheme}.png"
        chromium(tmp_path, (report / PAGE).as_uri(), f"--screenshot={picture}", "--window-size=900,900",
                 f"--blink-settings=preferredColorScheme={scheme}")  # fmt: skip
        with Image.open(picture) as image:
            corners.append(image.convert("L").getpixel((5, 5)))
            assert len(image.getcolors(2**20) or [1] * 99) > 10
    light, dark = corners
    assert light > 240 and dark < 40
