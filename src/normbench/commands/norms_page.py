"""The page docs/NORMS.md: the catalogue from the registries and the docstrings."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator

from normbench import norms, weight_norms
from normbench.commands.method_docs import method_doc
from normbench.commands.norms_overview import overview
from normbench.commands.text_table import pipes

INTRODUCTION = """\
<!-- Made by `make docs` from the layers' docstrings; a test fails when they differ. -->
# Norms

x is (N, K·C, *spatial): K stacked runs of C channels. Batch statistics are taken over one worker's batch; eps
and momentum may differ between lanes. Tests compare every method in fp64 with a naive version of its paper
(`tests/oracles/`): forward, backward and evaluation, over several steps. `normbench norms KEY` prints one
method. `normbench norms --cost` measures the cost of each on your machine. Citation keys:
[references.bib](references.bib).
"""
#: Sections that the page shows elsewhere or does not need.
LEFT_OUT = ("Args", "Raises", "Attributes")


def page() -> str:
    """The whole page in Markdown."""
    rows = [{**row, "key": f"[`{row['key']}`](#{row['key']})"} for row in overview()]
    return "\n".join([INTRODUCTION, *pipes(rows), "", *_norms(), *_weights()]).rstrip() + "\n"


def _norms() -> Iterator[str]:
    for key, entry in norms.catalogue().items():
        yield from _entry(f"<a id='{key}'></a>`norm={key}`", entry.layer)


def _weights() -> Iterator[str]:
    yield "# Weight maps\n"
    yield "What a layer does to its weight before using it: beside any norm, by `weight=KEY`.\n"
    for key, kind in weight_norms.catalogue().items():
        yield from _entry(f"`weight={key}`", kind)


def _entry(heading: str, kind: type) -> Iterator[str]:
    yield f"## {heading}: {method_doc(kind).title}\n"
    yield from described(kind)


def described(kind: type) -> Iterator[str]:
    """Lines of Markdown about a norm or a weight map, without a heading: equation, sections, arguments."""
    about = method_doc(kind)
    if about.summary:
        yield f"{about.summary[0].upper()}{about.summary[1:]}\n"
    if about.equation:
        yield f"```text\n{about.equation}\n```\n"
    for label, text in about.sections.items():
        if label not in LEFT_OUT:
            yield f"- **{label}**: {'; '.join(' '.join(line.split()) for line in text.splitlines())}"
    yield ""
    parameters = inspect.signature(kind).parameters.values()
    if own := [p for p in parameters if p.name not in ("channels", "weight", "lanes")]:
        rows = [
            {
                "argument": f"`{p.name}`",
                "default": f"`{json.dumps(p.default)}`",
                "": about.arguments.get(p.name, ""),
            }
            for p in own
        ]
        yield from (*pipes(rows), "")
