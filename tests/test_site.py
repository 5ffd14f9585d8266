"""The documentation site: its generated pages say what docstrings and committed results say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import site_pages
import yaml
from docs_site import costs, evidence, links, llms, norm_pages, table_pages

from normbench import __version__, norms

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "reference"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of Markdown pages."""
    folder = tmp_path_factory.mktemp("site") / "pages"
    assert site_pages.write(folder) == len(list(folder.rglob("*.md")))
    return folder


def test_every_norm_and_every_table_has_a_page_that_the_navigation_names(site):
    nav = (ROOT / "mkdocs.yml").read_text()
    for key in norms.catalogue():
        assert (site / "norms" / f"{key}.md").exists()
        assert f"- norms/{key}.md\n" in nav
    for name in evidence.tables():
        assert (site / "results" / f"{name}.md").exists()
        assert f"{name}: results/{name}.md\n" in nav


def test_every_entry_of_the_navigation_is_a_page(site):
    def files(tree):
        for entry in tree if isinstance(tree, list) else tree.values():
            yield from [entry] if isinstance(entry, str) else files(entry)

    text = re.search(r"^nav:\n(?:[ #].*\n)+", (ROOT / "mkdocs.yml").read_text(), re.M)[0]
    listed = list(files(yaml.safe_load(text)["nav"]))
    assert len(listed) > 70
    assert not [name for name in listed if not (site / name).exists()]


def test_every_relative_link_of_a_page_has_a_target(site):
    for page in site.rglob("*.md"):
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
        for link in re.findall(r"\]\(([^()\s]+)\)", text):
            path = link.partition("#")[0]
            assert "://" in link or not path or (page.parent / path).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("key", ["bn", "gn"])
def test_a_norm_page_has_the_equation_the_oracle_and_our_numbers(key, site):
    text = (site / "norms" / f"{key}.md").read_text()
    assert "/ √(σ² + ε)" in text
    assert (ROOT / "tests" / "oracles" / f"{key}.py").read_text().strip() in text
    tree = json.loads((RESULTS / "wu2018" / "batch_size.tiny.json").read_text())
    for cell in tree["cells"]:
        if cell["row"] == key:
            value = f"{100 * cell['mean']:.2f} ± {100 * cell['sd']:.2f} %"
            assert f"| batch {cell['col']} | test_error | {value} | {cell['n']} |" in text


def test_failures_of_a_norm_are_those_of_the_results():
    found = {(cell.table, dict(cell.place).get("batch")): best for cell, best in evidence.failures("bn")}
    assert found["wu2018/batch_size", "2"].norm == "none"
    assert ("wu2018/batch_size", "32") not in found
    assert not list(evidence.failures("ln_c"))


def test_published_numbers_have_their_place_and_their_mark_of_trust():
    said = {of.source: of.numbers for of in evidence.printed("bn")}
    assert said["Wu & He 2018, Table 2"][-1] == "batch 2: 34.7 %"
    assert all(number.endswith("~") for number in said["Bjorck et al. 2018, Fig. 1"])
    assert not list(evidence.printed("bnet"))


def test_a_norm_without_results_says_so(site):
    text = (site / "norms" / "bnet.md").read_text()
    assert "No committed table has this norm" in text
    assert "**Same as**: bn for kernel=1." in text


def test_costs_are_those_of_the_measurement():
    assert costs.table("gn")[2] == "| 32×64×16×16 | 0.23 | 0.85 | 0.42 | 1.00 |"
    assert costs.table("unknown") == []


def test_numbers_of_a_page_are_those_of_the_json():
    """The Markdown of a result and its JSON agree, so both may be shown."""
    for name, tree in evidence.results().items():
        text = (RESULTS / f"{name}.tiny.md").read_text()
        if tree["metric"] == "test_error":
            for cell in tree["cells"]:
                if cell["mean"] is not None and not cell["diverged"]:
                    assert f"{100 * cell['mean']:.2f}" in text, (name, cell["row"], cell["col"])


def test_a_mark_becomes_the_numbers_of_a_table(site):
    text = (site / "howto" / "batch-of-one.md").read_text()
    assert "| bn | 1.68 ± 0.18 |" in text
    assert "numbers: wu2018" not in text
    assert table_pages.with_numbers("no mark") == "no mark"


def test_links_move_with_a_page():
    paths = {"docs/LOG.md": "LOG.md", "docs/norms/gn.md": "norms/gn.md"}
    assert links.moved("[a](docs/LOG.md#x)", "README.md", "project/a.md", paths) == "[a](../LOG.md#x)"
    assert links.moved("[a](NORMS.md#gn)", "docs/faq.md", "faq.md", paths) == "[a](norms/gn.md)"
    assert links.moved("[a](../LICENSE)", "docs/faq.md", "faq.md", paths) == "a (`LICENSE`)"
    assert links.moved("[a](https://x.org/y)", "docs/faq.md", "faq.md", paths) == "[a](https://x.org/y)"
    assert links.moved("```\n[a](nowhere)\n```", "README.md", "a.md", paths) == "```\n[a](nowhere)\n```"
    with pytest.raises(FileNotFoundError, match="links to nowhere"):
        links.moved("[a](nowhere.md)", "README.md", "a.md", paths)


def test_llms_txt_lists_every_page_once(site):
    listed = re.findall(r"\]\((.*?)\)", (site / "llms.txt").read_text())
    assert sorted(listed) == sorted(f.relative_to(site).as_posix() for f in site.rglob("*.md"))
    (site / "stray.md").write_text("# Stray\n")
    with pytest.raises(ValueError, match=r"no section for stray\.md"):
        llms.text(site)
    (site / "stray.md").unlink()


def test_the_index_of_norms_has_every_family():
    assert {entry.family for entry in norms.catalogue().values()} <= norm_pages.FAMILIES.keys()


def test_nothing_generated_is_committed():
    if (ROOT / ".git").exists() and (git := shutil.which("git")):
        listed = subprocess.run(
            [git, "ls-files", "build"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert listed.stdout == ""


def test_the_citation_has_this_version_and_its_date():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+) — (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert (citation["version"], citation["date-released"]) == newest.groups()
    assert citation["version"] == __version__


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    pytest.importorskip("material", reason="needs the extra docs")
    subprocess.run([sys.executable, ROOT / "scripts" / "site_pages.py"], check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},  # as make site: the theme's own notice
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"""<(?:script|img|iframe)[^>]*src=["']?(?:https?:)?//""", text), page
        assert not re.findall(
            r"""<link[^>]*rel=["']?(?:stylesheet|preconnect)[^>]*href=["']?(?:https?:)?//""", text
        )
    site_pages.copy_markdown(ROOT / "build" / "pages", tmp_path / "site")
    listed = re.findall(r"\]\((.*?)\)", (tmp_path / "site" / "llms.txt").read_text())
    assert listed and all((tmp_path / "site" / name).exists() for name in listed)
