"""Sites: the named places of a network where a norm can stand, and which of them carry it."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from normbench.errors import InputError, unknown


def selected(wanted: str | Sequence[str], sites: Sequence[str]) -> frozenset[str]:
    """The sites that `placement.sites` asks for.

    Args:
        wanted: "all", "first", "last", a site, a pattern such as `stage1.*`, or several of the latter two.
        sites:  all sites of the network, in the order of the forward pass.

    Raises:
        InputError: a name or pattern that no site answers to.

    >>> sorted(selected("conv*", ["conv1", "conv2", "fc1"]))
    ['conv1', 'conv2']
    """
    if wanted == "all":
        return frozenset(sites)
    if wanted in ("first", "last"):
        return frozenset(sites[:1] if wanted == "first" else sites[-1:])
    chosen: set[str] = set()
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        hits = [site for site in sites if fnmatchcase(site, pattern)]
        if not hits:
            raise unknown(
                "site", pattern, sites, remedy="placement.sites takes all, first, last, sites or patterns"
            )
        chosen.update(hits)
    if not chosen:
        raise InputError("placement.sites is empty; use norm=none for a network without norms")
    return frozenset(chosen)
