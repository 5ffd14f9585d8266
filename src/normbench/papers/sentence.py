"""The verdict on a table in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.papers.claims import ClaimResult
from normbench.papers.verdicts import REFUTED, SKIPPED, SUPPORTED, UNDECIDED, Outcome

_WORDS: dict[Outcome, str] = {
    SUPPORTED: "supported", REFUTED: "refuted", UNDECIDED: "undecided", SKIPPED: "not judged",
}  # fmt: skip


def verdict(claims: Sequence[ClaimResult]) -> str:
    """How many of the asserted claims are supported, and which are not.

    Claims that are reported but not asserted are left out, unless there are no others.
    """
    asserted = [claim for claim in claims if claim.asserted]
    kind, counted = ("asserted claim", asserted) if asserted else ("reported claim", list(claims))
    if not counted:
        return "The table makes no claims."
    total = len(counted)
    by_outcome: dict[Outcome, list[str]] = {
        outcome: [claim.id for claim in counted if claim.outcome == outcome]
        for outcome in (SUPPORTED, REFUTED, UNDECIDED, SKIPPED)
    }
    occurring = {outcome: ids for outcome, ids in by_outcome.items() if ids}
    if len(occurring) == 1:
        [outcome] = occurring
        subject = f"The one {kind} is" if total == 1 else f"All {total} {kind}s are"
        return f"{subject} {_WORDS[outcome]}."
    parts = [f"{len(ids)} {'is' if len(ids) == 1 else 'are'} {_WORDS[outcome]}{_named(outcome, ids)}"
             for outcome, ids in occurring.items()]  # fmt: skip
    return f"Of {total} {kind}s, {', '.join(parts)}."


def _named(outcome: Outcome, ids: Sequence[str]) -> str:
    return "" if outcome == SUPPORTED else f" ({', '.join(ids)})"
