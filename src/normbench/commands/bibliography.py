"""The bibliography: entries of references.bib by their key."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_ENTRY = re.compile(r"^@\w+\{([\w-]+),\n.*?^\}$", re.M | re.S)
_ALIASES = re.compile(r"^\s*ids\s*=\s*\{([^}]*)\}", re.M)


@cache
def bibliography() -> dict[str, str]:
    """BibTeX entry by citation key. An entry that names further keys in `ids` has them, too."""
    text = files("normbench").joinpath("references.bib").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for match in _ENTRY.finditer(text):
        aliases = _ALIASES.search(match[0])
        names = [match[1], *(aliases[1].split(",") if aliases else ())]
        found |= {name.strip(): match[0] for name in names}
    return found
