"""The lists in README.md: choices and paper tables, made from the registries and from `conf/`.

scripts/readme_lists.py          rewrites the lists in README.md
scripts/readme_lists.py --check  exits with 1 if they are not up to date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from normbench import norms, papers
from normbench.config.choices import choices

README = Path(__file__).resolve().parents[1] / "README.md"
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
        group: _names(group) for group in ("weight", "placement", "data", "optim", "schedule", "tracking")
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


LISTS = {"choices": choices_list, "tables": tables_list}


def updated(text: str) -> str:
    """The README with today's lists."""
    for name, made in LISTS.items():
        begin, end = f"<!-- {name}: made by scripts/readme_lists.py -->", f"<!-- end of {name} -->"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}\n{made()}\n{end}{tail}"
    return text


def main() -> int:
    text = README.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        return int(updated(text) != text)
    README.write_text(updated(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
