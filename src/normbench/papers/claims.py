"""Do the claims of a paper hold in our numbers? Each kind of claim is a function from cells to a finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Any, NamedTuple

from normbench.papers.claim_kinds import Claim, Flat, Greater
from normbench.report.axes import agrees
from normbench.report.cells import Cell, Table
from normbench.report.metrics import NumberFormat
from normbench.report.stats import compare

_ROUNDING = 1e-12


@dataclass(frozen=True)
class ClaimResult:
    """What became of a claim; it is not judged where the user left its cells out."""

    id: str
    text: str
    holds: bool
    evidence: str
    p: float | None
    asserted: bool
    judged: bool = True

    @property
    def broken(self) -> bool:
        """An asserted claim that does not hold."""
        return self.judged and self.asserted and not self.holds

    @property
    def verdict(self) -> str:
        """PASS or FAIL for what is asserted, REPORT for what is not, SKIP for what was left out."""
        if not self.judged:
            return "SKIP"
        return ("PASS" if self.holds else "FAIL") if self.asserted else "REPORT"

    def line(self) -> str:
        """The claim, its verdict and the numbers behind it, in one line."""
        outcome = "" if self.verdict != "REPORT" else "it holds; " if self.holds else "it does not hold; "
        return f"{self.verdict} {self.id}: {self.text} [{outcome}{self.evidence}]"

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "text": self.text,
            "holds": self.holds,
            "evidence": self.evidence,
            "p": self.p,
            "verdict": self.verdict,
        }


class _Finding(NamedTuple):
    holds: bool
    evidence: str
    p: float | None = None


def check_claims(claims: Sequence[Claim], table: Table) -> tuple[ClaimResult, ...]:
    """Judge every claim on the means of the table's cells.

    A claim whose cells lack runs, or have diverged or failed ones, does not hold; the evidence says which.
    One about cells that are not in the table, because the user left them out, is not judged.
    """
    return tuple(_check(claim, table) for claim in claims)


def _check(claim: Claim, table: Table) -> ClaimResult:
    keys, axes = (*table.rows, *table.cols), list(product(table.row_labels, table.col_labels))
    places = [
        p
        for where in (*claim.single, *(place for place, _ in claim.sets))
        for p in axes
        if agrees(keys, table.parts(*p), where)
    ]
    if len(places) < 2:  # every claim compares cells
        left_out = "not judged: the overrides leave its cells out"
        return ClaimResult(claim.id, claim.text, False, left_out, None, claim.asserted, judged=False)
    cells = [table.cells.get(place, Cell(*place)) for place in places]
    faults = [fault for cell in cells if (fault := _fault(cell))]
    if faults:
        finding = _Finding(False, "; ".join(dict.fromkeys(faults)))
    else:
        finding = _JUDGES[claim.kind](claim, cells, table.number_format)
    return ClaimResult(claim.id, claim.text, finding.holds, finding.evidence, finding.p, claim.asserted)


def _greater(claim: Greater, cells: Sequence[Cell], form: NumberFormat) -> _Finding:
    a, b = cells
    difference = fmean(a.values) - fmean(b.values)
    first, second = a.by_seed(), b.by_seed()
    paired = compare(first, second) if first is not None and second is not None else None
    p = None if paired is None else paired.p_greater
    test = "" if paired is None or p is None else f"; one-sided paired t-test, n = {paired.n}, p = {p:.2g}"
    return _Finding(
        difference >= claim.margin - _ROUNDING,
        f"{_name(a)}: {_amount(a, form)}, {_name(b)}: {_amount(b, form)}; "
        f"difference {_points(difference, form)}, claimed ≥ {_points(claim.margin, form)}{test}",
        p,
    )


def _flat(claim: Flat, cells: Sequence[Cell], form: NumberFormat) -> _Finding:
    low, high = min(cells, key=lambda c: fmean(c.values)), max(cells, key=lambda c: fmean(c.values))
    spread = fmean(high.values) - fmean(low.values)
    return _Finding(
        spread <= claim.margin + _ROUNDING,
        f"lowest {_name(low)}: {_amount(low, form)}, highest {_name(high)}: {_amount(high, form)}; "
        f"spread {_points(spread, form)}, claimed ≤ {_points(claim.margin, form)}",
    )


#: One function per kind of claim: claim, cells, how numbers are written → finding.
_JUDGES: dict[str, Callable[[Any, Sequence[Cell], NumberFormat], _Finding]] = {
    "greater": _greater,
    "flat": _flat,
}


def _fault(cell: Cell) -> str:
    broken = cell.diverged + cell.failed + cell.without
    if broken:
        return f"{broken} of {cell.asked} runs of {_name(cell)} diverged, failed or gave no value"
    return "" if cell.values else f"no run of {_name(cell)}"


def _name(cell: Cell) -> str:
    return f"{cell.row} at {cell.col}"


def _amount(cell: Cell, form: NumberFormat) -> str:
    spread = "" if cell.summary.sd is None else f" ± {form(cell.summary.sd)}"
    return f"{form(fmean(cell.values))}{spread} {form.unit}".rstrip()


def _points(value: float, form: NumberFormat) -> str:
    return f"{form(value)} points" if form.unit == "%" else form(value)
