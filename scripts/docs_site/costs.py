"""The measured cost of every norm against batch norm, read from the committed measurement."""

from __future__ import annotations

from functools import cache

from docs_site.links import ROOT


def source() -> str:
    """The newest measurement: a path in the repository."""
    files = sorted((ROOT / "results" / "reference" / "bench").glob("*-norm-cost.md"))
    return files[-1].relative_to(ROOT).as_posix()


@cache
def _columns() -> tuple[list[str], dict[str, list[str]]]:
    """Titles of the columns, and one row per norm, from the first table of the page."""
    lines = (ROOT / source()).read_text(encoding="utf-8").splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("| key |"))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[0][1:], {row[0]: row[1:] for row in rows[2:]}


def table(norm: str) -> list[str]:
    """The cost of a norm as a Markdown table, one line per input shape; empty if it was not measured."""
    titles, rows = _columns()
    if norm not in rows:
        return []
    shapes: dict[str, dict[str, str]] = {}
    for title, value in zip(titles, rows[norm], strict=True):
        shape, _, what = title.rpartition(" ")
        shapes.setdefault(shape, {})[what] = value
    kinds = list(next(iter(shapes.values())))
    return [
        f"| input | {' | '.join(kinds)} |",
        f"|---|{'---:|' * len(kinds)}",
        *(f"| {shape} | {' | '.join(values[kind] for kind in kinds)} |" for shape, values in shapes.items()),
    ]
