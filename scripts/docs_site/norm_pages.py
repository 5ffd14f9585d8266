"""One page per norm: equation, equal norms, arguments, measured cost, published numbers, failures, oracle."""

from __future__ import annotations

from collections.abc import Iterator

from docs_site import costs, evidence
from docs_site.links import ROOT
from normbench import norms, weight_norms
from normbench.commands.method_docs import method_doc
from normbench.commands.norms_overview import overview
from normbench.commands.norms_page import described
from normbench.commands.text_table import pipes
from normbench.norms.registry import Entry
from normbench.norms.surgery.known_layers import KNOWN

#: Families in the order of the index.
FAMILIES = {
    "batch": "Batch statistics", "sample": "Statistics per image", "channel": "Statistics over channels",
    "whitening": "Whitening", "mixture": "Mixtures", "pointwise": "Without statistics",
}  # fmt: skip
INTRODUCTION = """\
# Norms

Each page has the equation, the arguments with their defaults, norms that compute the same, the cost that was
measured here, numbers that papers printed, the settings in which the norm failed in our tables, and the code
that it is tested against.
`normbench norms KEY` prints equation and configuration in a terminal.

x is (N, K·C, *spatial): K stacked runs of C channels.
"""


def pages() -> dict[str, tuple[str, str]]:
    """Path in the site → (repository path that links are relative to, text)."""
    made = {f"norms/{key}.md": "\n".join(_page(key, entry)) for key, entry in norms.catalogue().items()}
    made["norms/index.md"] = _index()
    return {path: (f"docs/{path}", text) for path, text in made.items()}


def _index() -> str:
    rows = {row["key"]: row for row in overview()}
    lines = [INTRODUCTION]
    for family, heading in FAMILIES.items():
        of_family = [
            {**row, "key": f"[`{key}`]({key}.md)"}
            for key, row in rows.items()
            if norms.entry(key).family == family
        ]
        lines += [f"## {heading}\n", *pipes(of_family), ""]
    return "\n".join([*lines, *_weights()])


def _weights() -> Iterator[str]:
    yield "## Weight maps\n"
    yield "What a layer does to its weight before using it: beside any norm, by `weight=KEY`.\n"
    for key, kind in weight_norms.catalogue().items():
        yield f"### {method_doc(kind).title}: `weight={key}`\n"
        yield from described(kind)


def _page(key: str, entry: Entry) -> Iterator[str]:
    yield f"# {method_doc(entry.layer).title}\n"
    yield f'`norm={key}` on the command line, `norms.build("{key}", channels=…)` as a library.\n'
    yield from described(entry.layer)
    yield from _replaces(key)
    yield from _cost(key)
    yield from _published(key)
    yield from _measured(key)
    yield from _failures(key)
    yield from _oracle(key)


def _replaces(key: str) -> Iterator[str]:
    """Layers of other libraries that `norms.convert` knows as this norm."""
    found = {
        library.partition(".")[0]: [name for name, known in layers.items() if known.key == key]
        for library, layers in KNOWN.items()
    }
    if any(found.values()):
        yield "## The same in other libraries\n"
        yield "`norms.convert` recognizes these classes as this method, and tests compare outputs.\n"
        yield from (f"- {library}: `{'` `'.join(names)}`" for library, names in found.items() if names)
        yield ""


def _cost(key: str) -> Iterator[str]:
    yield "## Cost\n"
    if lines := costs.table(key):
        yield "Time and memory relative to `bn` on the same input, one CPU core, training mode"
        yield f"([conditions](../../{costs.source()})). On your machine: `normbench norms --cost`.\n"
        yield from (*lines, "")
    else:
        yield "Not in the committed measurement. On your machine: `normbench norms --cost`.\n"


def _published(key: str) -> Iterator[str]:
    yield "## What papers measured\n"
    rows = [
        {
            "source": p.source,
            "setting": p.setting,
            "numbers": "; ".join(p.numbers),
            "here": _table(p.table),
        }
        for p in evidence.printed(key)
    ]
    if rows:
        yield "Marks: ~ read by eye off a figure, (m) from memory, (?) from weak memory.\n"
        yield from (*pipes(rows), "")
    else:
        yield "The tables of this package hold no published number about this norm.\n"


def _measured(key: str) -> Iterator[str]:
    yield "## What we measured\n"
    if not (found := evidence.about(key)):
        yield "No committed table has this norm as a row or column.\n"
        return
    yield "Mean ± sd over n seeds, scale tiny (8×8 digits), from the committed results.\n"
    rows = [
        {
            "table": _table(c.table),
            "setting": _place(c),
            "metric": c.metric,
            "value": _value(c),
            "n": str(c.n),
        }
        for c in found
        if c.mean is not None
    ]
    yield from (*pipes(rows), "")
    if said := list(evidence.claims(key)):
        yield "Claims that name it:\n"
        yield from (f"- {c['text']}: **{c['outcome']}** ({_table(name)})" for name, c in said)
        yield ""


def _failures(key: str) -> Iterator[str]:
    yield "## Where it fails\n"
    found = list(evidence.failures(key))
    points = round(100 * evidence.MARGIN)
    if not evidence.about(key):
        yield "Not known: no committed table has this norm.\n"
    elif not found:
        yield "In no cell of our tables did it diverge or err"
        yield f"{points} points more than the best norm of the same setting. Larger data may differ.\n"
    else:
        yield f"Cells of our tables in which runs diverged, or in which it erred at least {points} points"
        yield "more than the best norm of the same setting:\n"
        for cell, best in found:
            words = (
                f"{cell.diverged} of {cell.n + cell.diverged} runs diverged"
                if cell.diverged
                else _value(cell)
            )
            than = f"; best `{best.norm}` {_value(best)}" if best else ""
            yield f"- {_table(cell.table)}, {_place(cell)}: {words}{than}"
        yield ""


def _oracle(key: str) -> Iterator[str]:
    file = ROOT / "tests" / "oracles" / f"{key}.py"
    yield "## Oracle\n"
    yield "Tests compare the layer in fp64 with this independent transcription of the paper: forward,"
    yield f"backward and evaluation, over several steps (`tests/oracles/{key}.py`).\n"
    yield f"```python\n{file.read_text(encoding='utf-8').strip()}\n```\n"


def _table(name: str) -> str:
    return f"[{name}](../../results/reference/{name}.tiny.md)"


def _place(cell: evidence.Cell) -> str:
    return ", ".join(f"{key} {value}" for key, value in cell.place) or "–"


def _value(cell: evidence.Cell) -> str:
    """Mean ± sd; errors in percent."""
    if cell.mean is None:
        return "–"
    times, digits, unit = (100, 2, " %") if evidence.is_share(cell.metric) else (1, 3, "")
    spread = "" if cell.sd is None else f" ± {times * cell.sd:.{digits}f}"
    return f"{times * cell.mean:.{digits}f}{spread}{unit}"
