"""Sites: the named places of a network where a norm can stand, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from normbench.errors import InputError, unknown


def selected(wanted: str | Sequence[str], sites: Sequence[str]) -> frozenset[str]:
    """The sites that `placement.sites` selects.

    Args:
        wanted: "all", "first", "last", a site, a pattern such as `stage1.*`, or a list of sites and patterns.
                A pattern must match the whole name, upper and lower case told apart.
        sites:  all sites of the network, in the order of the forward pass.

    Raises:
        InputError: no site matches a name or pattern, or the list is empty.

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
                "site", pattern, sites, remedy="placement.sites takes all, first, last, or sites and patterns"
            )
        chosen.update(hits)
    if not chosen:
        raise InputError("placement.sites is empty; use norm=none for a network without norms")
    return frozenset(chosen)
