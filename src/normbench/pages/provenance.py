"""Where the numbers of a page come from: commit, device, versions, seeds, dates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from normbench.labels import label
from normbench.phrases import listed_seeds
from normbench.record import Record

#: What of an environment comes first.
_FIRST = ("commit", "device", "normbench", "torch", "torchvision", "numpy", "python", "platform")
#: Values that a line names; of more it gives the count.
_NAMED = 6


def facts(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Names and values, a line each; values that differ between runs are all named."""
    distinct = list({record.signature: record for record in records}.values())
    count = Counter(record.status for record in distinct)
    runs = ", ".join(f"{number} {status}" for status, number in sorted(count.items()))
    listed = listed_seeds(record.spec["seed"] for record in distinct) if distinct else "none"
    found = [
        ("runs", f"{len(distinct)} ({runs})"),
        ("seeds", listed.removeprefix("seeds ").removeprefix("seed ")),
    ]
    given = [{"commit": record.provenance.get("commit"), **record.environment} for record in distinct]
    keys = {key for environment in given for key in environment}
    for key in (*_FIRST, *sorted(keys - {*_FIRST})):
        if key in keys:
            values = sorted({label(environment.get(key)) for environment in given})
            more = f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
            found.append((key, "; ".join(values[:_NAMED]) + more))
    if ended := dates(distinct):
        found.append(("ended", ended))
    return found


def dates(records: Sequence[Record]) -> str:
    """The first and the last day on which a run ended; empty if no record says it."""
    days = sorted({str(r.provenance["ended"])[:10] for r in records if r.provenance.get("ended")})
    return "" if not days else days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
