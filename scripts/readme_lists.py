"""The lists in README.md and mkdocs.yml: choices, norms and paper tables, from the registries and `conf/`.

scripts/readme_lists.py          rewrites the lists
scripts/readme_lists.py --check  exits with 1 if they are not up to date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from normbench import norms, papers
from normbench.config.choices import choices

ROOT = Path(__file__).resolve().parents[1]
#: Families of norms in the order of the list, with what their statistics range over.
FAMILIES = {
    "batch": "batch statistics", "sample": "per image", "channel": "over channels", "whitening": "whitening",
    "mixture": "mixtures", "pointwise": "without statistics",
}  # fmt: skip


def choices_list() -> str:
    """The choices of every group, as a Markdown table."""
    by_family = {
        title: [key for key, entry in norms.catalogue().items() if entry.family == family]
        for family, title in FAMILIES.items()
    }
    norm = "; ".join(f"{title} `{' '.join(keys)}`" for title, keys in by_family.items() if keys)
    rows = {"model": _names("model"), "norm": f"{norm}; [each with its equation](docs/NORMS.md)"}
    rows |= {
        group: _names(group)
        for group in ("weight", "placement", "data", "optim", "schedule", "tracking", "executor")
    }
    lines = ["| group | choices |", "|---|---|", *(f"| `{group}` | {text} |" for group, text in rows.items())]
    return "\n".join(lines)


def _names(group: str) -> str:
    return f"`{' '.join(sorted(choices(group), key=_by_number))}`"


def _by_number(name: str) -> list[object]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def tables_list() -> str:
    """The paper tables with their questions, as a Markdown table."""
    tables = [papers.load(name) for name in papers.names()]
    lines = (f"| `{table.name}` | {table.question} | `{' '.join(table.scales)}` |" for table in tables)
    return "\n".join(["| table | question | scales |", "|---|---|---|", *lines])


def norm_pages() -> str:
    """The pages of norms on the documentation site, as entries of its navigation."""
    return "\n".join(f"      - norms/{key}.md" for key in norms.catalogue())


def table_pages() -> str:
    """The pages of tables on the documentation site, as entries of its navigation."""
    return "\n".join(f"      - {name}: results/{name}.md" for name in papers.names())


#: File → its lists by name, with the text before and after a list. {} is the name.
LISTS: dict[str, tuple[str, str, dict[str, Callable[[], str]]]] = {
    "README.md": (
        "<!-- {}: made by scripts/readme_lists.py -->", "<!-- end of {} -->",
        {"choices": choices_list, "tables": tables_list},
    ),
    "mkdocs.yml": (
        "      # {}: made by scripts/readme_lists.py", "      # end of {}",
        {"norms": norm_pages, "tables": table_pages},
    ),
}  # fmt: skip


def updated(text: str, file: str) -> str:
    """The text of a file with today's lists."""
    before, after, lists = LISTS[file]
    for name, made in lists.items():
        begin, end = before.format(name), after.format(name)
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}\n{made()}\n{end}{tail}"
    return text


def main() -> int:
    stale = 0
    for name in LISTS:
        file = ROOT / name
        text = file.read_text(encoding="utf-8")
        new = updated(text, name)
        stale += new != text
        if "--check" not in sys.argv[1:]:
            file.write_text(new, encoding="utf-8")
    return int(bool(stale) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
