"""llms.txt: an index of the site for programs that read text (llmstxt.org). One line per page."""

from __future__ import annotations

import re
from pathlib import Path

HEAD = """\
# normbench

> A command-line runner for ablations of normalization layers in PyTorch: one sweep trains every combination
> of norm, batch size, momentum, placement and model with several seeds, and ends in a table with error bars.

Every page is also Markdown at the paths below.
"""
#: Heading → folder or file names of its pages, in order.
SECTIONS = {
    "Guide": ("index.md", "tutorial.md", "howto/", "troubleshooting.md", "faq.md", "not-here.md"),
    "Reference": (
        "settings.md",
        "clusters.md",
        "python.md",
        "library.md",
        "records.md",
        "statistics.md",
        "tables.md",
        "wandb.md",
        "speed.md",
    ),
    "Norms": ("norms/",),
    "Results": ("results/",),
    "Project": ("project/", "licences.md", "LOG.md", "decisions/"),
}


def text(folder: Path) -> str:
    """The index of all pages in `folder`."""
    pages = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.md"))
    lines = [HEAD]
    for heading, places in SECTIONS.items():
        lines.append(f"## {heading}\n")
        found = [page for place in places for page in pages if page.startswith(place)]
        lines += [f"- [{title(folder / page)}]({page})" for page in found]
        lines.append("")
        pages = [page for page in pages if page not in found]
    if pages:
        raise ValueError(f"llms.txt has no section for {', '.join(pages)}")
    return "\n".join(lines)


def title(page: Path) -> str:
    """The first heading of a page, without code marks."""
    match = re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return match[1].replace("`", "") if match else page.stem
