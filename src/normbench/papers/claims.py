"""Do the claims of a table hold in our numbers? Each gets a verdict and the evidence behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from normbench.papers.claim_kinds import Claim
from normbench.papers.findings import Finding, NoVerdict
from normbench.papers.judges import judge
from normbench.papers.looks import Asked
from normbench.papers.measurements import Measurements
from normbench.papers.places import Texts, matching
from normbench.papers.verdicts import REFUTED, SKIPPED, SUPPORTED, UNDECIDED, Family, Judged, Outcome
from normbench.phrases import counted
from normbench.report.power import MOST
from normbench.visible import visible

_WORDS = {SUPPORTED: "PASS", REFUTED: "FAIL", UNDECIDED: "UNDECIDED", SKIPPED: "SKIP"}


@dataclass(frozen=True)
class ClaimResult:
    """What became of a claim.

    outcome:         supported, refuted, undecided, or skipped if the user left its cells out.
    evidence:        the numbers behind it in words, or why there is no verdict.
    estimate,
    interval:        of the difference, the ratio or the share, with its 95 % interval.
    p:               one-sided, against the claim if it is refuted, else for it.
    p_adjusted:      the p-value that was compared with the level, after Holm over the asserted claims.
    n:               number of seeds, or of runs for a share.
    seeds_to_decide: how many seeds would decide, for an undecided claim; None if not known.
    cells:           the cells that it names.
    """

    id: str
    text: str
    asserted: bool
    outcome: Outcome
    evidence: str
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_adjusted: float | None = None
    n: int = 0
    seeds_to_decide: int | None = None
    cells: tuple[Texts, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the runs support the claim."""
        return self.outcome == SUPPORTED

    @property
    def broken(self) -> bool:
        """An asserted claim that is refuted."""
        return self.asserted and self.outcome == REFUTED

    @property
    def open(self) -> bool:
        """An asserted claim that is undecided."""
        return self.asserted and self.outcome == UNDECIDED

    @property
    def open_to_seeds(self) -> bool:
        """An undecided claim that more seeds may decide."""
        return self.outcome == UNDECIDED and self.p is not None

    @property
    def verdict(self) -> str:
        """PASS, FAIL, UNDECIDED or SKIP; REPORT for a claim that is not asserted."""
        return _WORDS[self.outcome] if self.asserted or self.outcome == SKIPPED else "REPORT"

    def line(self) -> str:
        """The claim, its verdict and the numbers behind it, in one line without invisible characters."""
        outcome = f"{self.outcome}; " if self.verdict == "REPORT" else ""
        said = f"{self.verdict} {self.id}: {self.text} [{outcome}{self.evidence}]"
        return visible(" ".join(said.split()))

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "text": self.text,
            "verdict": self.outcome if self.asserted or self.outcome == SKIPPED else "report",
            "outcome": self.outcome,
            "asserted": self.asserted,
            "holds": self.holds,
            "evidence": self.evidence,
            "estimate": self.estimate,
            "interval": list(self.interval) if self.interval else None,
            "p": self.p,
            "p_adjusted": self.p_adjusted,
            "n": self.n,
            "seeds_to_decide": self.seeds_to_decide,
        }


def check_claims(
    claims: Sequence[Claim],
    runs: Measurements,
    places: Sequence[Texts],
    *,
    shown: Sequence[Texts] | None = None,
    absent: Mapping[str, str] | None = None,
    stages: Sequence[Asked] = (),
    looks: int = 1,
    partial: bool = False,
) -> tuple[ClaimResult, ...]:
    """Judge the claims of a table.

    A claim whose cells lack runs, or have failed ones, is undecided; the evidence says which. A claim on
    cells that are not shown is skipped.

    Args:
        places:  the cells of the table's file.
        shown:   those that the user wants, by default all.
        absent:  why the runs of a data set are not there, by the name of the data set.
        stages:  the seeds of every cell at each look so far; by default one look at all runs.
        looks:   the number of looks planned; each has an equal part of the level.
        partial: judge also claims of which some cells are not shown or lack runs.
    """
    there = list(places if shown is None else shown)
    skipped = [_left_out(claim, places, there, partial, absent or {}) for claim in claims]
    judged = [claim for claim, reason in zip(claims, skipped, strict=True) if not reason]
    family = Family.of([claim.asserted for claim in judged], looks)
    findings: list[Finding | NoVerdict] = [NoVerdict("no look")] * len(judged)
    for stage in stages or (None,):
        seen = runs if stage is None else runs.with_seeds(stage)
        for place, claim in enumerate(judged):
            if family.outcomes[place].outcome == UNDECIDED:
                findings[place] = _finding(claim, seen, there)
        family = family.after([each if isinstance(each, Finding) else None for each in findings])
    results = iter(
        _result(claim, there, finding, outcome, family, place)
        for place, (claim, finding, outcome) in enumerate(zip(judged, findings, family.outcomes, strict=True))
    )
    return tuple(
        ClaimResult(claim.id, claim.text, claim.asserted, SKIPPED, f"not judged: {reason}")
        if reason
        else next(results)
        for claim, reason in zip(claims, skipped, strict=True)
    )


def _finding(claim: Claim, runs: Measurements, places: Sequence[Texts]) -> Finding | NoVerdict:
    try:
        return judge(claim, runs, places)
    except NoVerdict as reason:
        return reason


def _result(
    claim: Claim,
    places: Sequence[Texts],
    finding: Finding | NoVerdict,
    judged: Judged,
    family: Family,
    place: int,
) -> ClaimResult:
    cells = cells_named(claim, places)
    if isinstance(finding, NoVerdict):
        evidence = f"no verdict: {finding}"
        return ClaimResult(claim.id, claim.text, claim.asserted, UNDECIDED, evidence, cells=cells)
    outcome = judged.outcome
    p = finding.p_refute if outcome == REFUTED else finding.p_support
    seeds = family.needs(place, finding) if outcome == UNDECIDED else None
    parts = [finding.evidence, f"n = {finding.n}, one-sided p = {p:.2g}"]
    if judged.p_adjusted is not None and claim.asserted and outcome != UNDECIDED:
        parts[-1] += f", {judged.p_adjusted:.2g} after Holm"
    if outcome == UNDECIDED:
        least = family.out_of_reach(place, finding)
        if least is not None:
            level = f"the level {family.share(place):.2g}"
            parts.append(
                f"this test cannot reach {level} with {counted(finding.n, 'seed')}, it can with {least}"
            )
        if seeds is not None:
            parts.append(f"about {seeds} seeds would decide")
        elif finding.weakest is not None and finding.weakest.sd:
            parts.append(f"more than {MOST} seeds would be needed")
    return ClaimResult(
        claim.id, claim.text, claim.asserted, outcome, "; ".join(parts), finding.estimate, finding.interval,
        p, judged.p_adjusted, finding.n, seeds, cells,
    )  # fmt: skip


def cells_named(claim: Claim, places: Sequence[Texts]) -> tuple[Texts, ...]:
    """The cells of the table that a claim is about, each once."""
    wanted = (*claim.single, *(place for place, _ in claim.sets))
    found = {tuple(texts.items()): texts for place in wanted for texts in matching(places, place)}
    return tuple(found.values())


def _left_out(
    claim: Claim,
    places: Sequence[Texts],
    shown: Sequence[Texts],
    partial: bool,
    absent: Mapping[str, str],
) -> str:
    """Why a claim is not judged: its cells are not all shown. Empty if it is."""
    wanted, there = cells_named(claim, places), cells_named(claim, shown)
    singles = all(list(matching(shown, place)) for place in claim.single)
    sets = all(len(list(matching(shown, place))) >= least for place, least in claim.sets)
    gone = [texts for texts in wanted if texts not in there]
    if not gone or (partial and singles and sets):
        return ""
    return "; ".join(dict.fromkeys(absent.values())) or "the overrides leave cells of it out"
