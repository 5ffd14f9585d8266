"""The Markdown pages of the documentation site: those of docs/ and the generated ones, in one folder.

scripts/site_pages.py [FOLDER]            writes them (default: build/pages); `make site` then builds the site
scripts/site_pages.py FOLDER --into SITE  copies the Markdown of FOLDER beside the HTML of a built site

Nothing that it writes is committed. Pages of norms come from docstrings, oracles and measurements, pages of
tables from conf/paper and results/reference. The folder also gets llms.txt.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from docs_site import llms, norm_pages, table_pages
from docs_site.links import ROOT, moved

#: Pages outside docs/ that the site shows: repository path → path in the site.
OUTSIDE = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
}
#: Pages that generated ones replace, and where readers of the site find them.
REPLACED = {
    "README.md": "index.md",
    "docs/NORMS.md": "norms/index.md",
    "results/reference/index.md": "results/index.md",
}


def site_paths() -> dict[str, str]:
    """Repository path → path in the site, for every file that the site shows."""
    paths = OUTSIDE | REPLACED
    for file in sorted((ROOT / "docs").rglob("*")):
        if file.is_file() and (name := file.relative_to(ROOT).as_posix()) not in paths:
            paths[name] = name.removeprefix("docs/")
    for file in sorted((ROOT / "results" / "reference").rglob("*")):
        name = file.relative_to(ROOT).as_posix()
        if file.is_file() and name not in paths:
            short = name.removeprefix("results/reference/")
            paths[name] = f"results/{short.replace('.tiny.md', '.md')}"
    return paths


def write(folder: Path) -> int:
    """Write all pages into an empty `folder`, and return their number."""
    shutil.rmtree(folder, ignore_errors=True)
    paths = site_paths()
    generated = table_pages.pages() | norm_pages.pages()
    paths |= {f"docs/{target}": target for target in generated}
    for source, target in paths.items():
        if target in generated or source in REPLACED:
            continue
        file = folder / target
        file.parent.mkdir(parents=True, exist_ok=True)
        if target.endswith(".md"):
            text = (ROOT / source).read_text(encoding="utf-8")
            text = table_pages.with_numbers(text)
            file.write_text(moved(text, source, target, paths), encoding="utf-8")
        else:
            shutil.copyfile(ROOT / source, file)
    for target, (source, text) in generated.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_text(moved(text, source, target, paths), encoding="utf-8")
    (folder / "llms.txt").write_text(llms.text(folder), encoding="utf-8")
    return len(list(folder.rglob("*.md")))


def copy_markdown(folder: Path, site: Path) -> None:
    """Copy every Markdown page of `folder` into a built site: llms.txt names them."""
    for page in folder.rglob("*.md"):
        shutil.copyfile(page, site / page.relative_to(folder))


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "pages"
    if sys.argv[2:3] == ["--into"]:
        copy_markdown(folder, Path(sys.argv[3]))
        return 0
    print(f"{write(folder)} pages in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
