"""One page per paper table: question, verdict, figures, numbers, claims, and what differs from the paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs_site.evidence import results
from docs_site.evidence import tables as packaged
from docs_site.links import ROOT
from normbench.papers.description import PaperTable, Scale

#: A line of a page in docs/ that stands for the numbers of a table.
_MARK = re.compile(r"^<!-- numbers: (\S+) -->$", re.MULTILINE)
INTRODUCTION = """\
# Results

Every table here is a build product of `normbench reproduce NAME scale=tiny`: 8×8 digits on a CPU, so numbers
are not those of the papers. Their order and direction is what the claims test.
[How claims are decided](statistics.md).
"""


def pages() -> dict[str, tuple[str, str]]:
    """Path in the site → (repository path that links are relative to, text)."""
    tables = list(packaged().values())
    made = {f"results/{table.name}.md": (_file(table.name), "\n".join(_page(table))) for table in tables}
    made["results/index.md"] = ("docs/results.md", _index(tables))
    return made


def _file(name: str) -> str:
    return f"results/reference/{name}.tiny.md"


def with_numbers(text: str) -> str:
    """The text of a page with the numbers of a table for each line `<!-- numbers: NAME -->`."""
    return _MARK.sub(
        lambda match: _numbers((ROOT / _file(match[1])).read_text(encoding="utf-8"), match[1]), text
    )


def _index(tables: list[PaperTable]) -> str:
    lines = [INTRODUCTION, "| table | question | verdict |", "|---|---|---|"]
    lines += [
        f"| [{name}](../{_file(name)}) | {table.question} | {_verdict(name)} |"
        for name, table in ((table.name, table) for table in tables)
    ]
    measured = sorted((ROOT / "results" / "reference" / "bench").glob("*.md"))
    lines += ["", "## Measurements of speed\n"]
    for file in measured:
        heading = file.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        lines.append(f"- [{heading}](../results/reference/bench/{file.name})")
    return "\n".join(lines) + "\n"


def _verdict(name: str) -> str:
    """How many claims have which outcome; those that fail nothing are counted by their verdict."""
    if name not in results():
        return "not reproduced yet"
    counts: dict[str, int] = {}
    for claim in results()[name]["claims"]:
        words = claim["outcome"] if claim["asserted"] else f"reported as {claim['outcome']}"
        counts[words] = counts.get(words, 0) + 1
    return ", ".join(f"{count} {words}" for words, count in sorted(counts.items())) or "no claims"


def _page(table: PaperTable) -> Iterator[str]:
    yield f"# {table.title}\n"
    yield f"**Question**: {table.question}\n"
    yield f"**Verdict**: {_verdict(table.name)}.\n"
    yield f"**Paper**: {table.citation}\n"
    tree = results().get(table.name)
    if tree is None:
        yield "No results are committed for this table.\n"
    else:
        yield from _result(table, tree)
    yield from _claims_with_reasons(table, tree)
    yield from _deviations(table)


def _result(table: PaperTable, tree: dict[str, Any]) -> Iterator[str]:
    folder = (ROOT / _file(table.name)).parent
    stem = f"{Path(table.name).name}.{tree['scale']}"
    yield f"```\nnormbench reproduce {table.name} scale={tree['scale']}\n```\n"
    yield from _figures(folder, stem, table)
    yield "## Numbers\n"
    yield _notes((ROOT / _file(table.name)).read_text(encoding="utf-8"))
    kinds = " · ".join(f"[{kind}]({stem}.{kind})" for kind in ("csv", "tex", "json"))
    yield f"The same as files: {kinds}\n"


def _figures(folder: Path, stem: str, table: PaperTable) -> Iterator[str]:
    titles = {figure.id: figure.title or figure.id.replace("_", " ") for figure in table.figures}
    if files := sorted(folder.glob(f"{stem}.*.svg")):
        yield "## Figures\n"
    for file in files:
        name, _, panel = file.name.removeprefix(f"{stem}.").removesuffix(".svg").partition(".")
        text = f"{titles.get(name, name.replace('_', ' '))}{f', {panel}' if panel else ''}"
        yield f"![{text}]({file.name})\n"


def _notes(page: str) -> str:
    """The part of a rendered table from the numbers to the notes."""
    body = page.split("\n## Claims\n")[0]
    start = body.index("\n| ")
    head = body[:start].rstrip().rpartition("\n\n")[2]
    return f"{head}\n{body[start:].rstrip()}\n"


def _numbers(page: str, name: str) -> str:
    """The table alone, with the line that says what its numbers are, and a link to the whole page."""
    head, _, rest = _notes(page).partition("\n\n")
    table = rest.lstrip().partition("\n\n")[0]
    runs = next(line for line in page.splitlines() if " runs on " in line)
    return f"[{name}](/{_file(name)}), {head}:\n\n{table}\n\n{runs}\n"


def _claims_with_reasons(table: PaperTable, tree: dict[str, Any] | None) -> Iterator[str]:
    if tree is None or not tree["claims"]:
        return
    reasons = {claim.id: claim.reason for claim in table.scale(tree["scale"]).claims}
    yield "## Claims\n"
    for claim in tree["claims"]:
        asserted = "asserted" if claim["asserted"] else "reported, fails nothing"
        yield f"- **{claim['outcome']}** ({asserted}): {claim['text']}. {claim['evidence']}"
        if reason := reasons.get(claim["id"]):
            yield f"  Margin: {reason}"
    yield ""


def _deviations(table: PaperTable) -> Iterator[str]:
    yield "## What differs from the paper\n"
    for name, scale in table.scales.items():
        yield f"- *scale {name}*: {_one_line(scale)}"
    yield ""


def _one_line(scale: Scale) -> str:
    cost = ""
    if scale.expects:
        runs = f"{scale.expects.runs} runs"
        minutes = f", {scale.expects.minutes:g} minutes" if scale.expects.minutes else ""
        cost = f" ({runs}{minutes}{f' on {scale.expects.hardware}' if scale.expects.hardware else ''})"
    return f"{' '.join(scale.setting.split()) or 'no words in its file'}{cost}"
