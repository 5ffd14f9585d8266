"""Paper tables: what a published table asks, which runs it needs at a scale, and whether its claims hold.

A table is a file `conf/paper/<citekey>/<table>.yaml`. It names its settings as override words: nothing here
decides a setting or trains a run.

    table = papers.load("wu2018/batch_size")
    sweeps = papers.sweeps(table, "tiny")           # words for the same composition that `train` uses
    report = papers.report(table, "tiny", records)  # its Table, and a verdict on every claim
    papers.write(report, store.root / "tables")     # tables/wu2018/batch_size.tiny.{md,csv,tex,json}
"""

from __future__ import annotations

from normbench.papers.catalogue import load, names
from normbench.papers.claims import ClaimResult, check_claims
from normbench.papers.description import PaperTable
from normbench.papers.grids import Extra, cell_sweeps, grids, overrides, sweeps, words_of
from normbench.papers.index_page import write_index
from normbench.papers.layout import labelled
from normbench.papers.looks import SeedPlan, asked_seeds
from normbench.papers.reproduction import PaperReport, next_look, report, variant, write

__all__ = [
    "ClaimResult",
    "Extra",
    "PaperReport",
    "PaperTable",
    "SeedPlan",
    "asked_seeds",
    "cell_sweeps",
    "check_claims",
    "grids",
    "labelled",
    "load",
    "names",
    "next_look",
    "overrides",
    "report",
    "sweeps",
    "variant",
    "words_of",
    "write",
    "write_index",
]
