"""Names of files and anchors in a report. They hold letters, digits, dots, - and _ alone."""

from __future__ import annotations

import hashlib
import re

#: Digits of a signature that the runs of one file share.
_SHARED = 2


def safe(text: str) -> str:
    """A name for a file. Texts that have to change get digits of their hash, so that no two become one.

    >>> safe("wu2018/batch_size.tiny"), safe("../<b>")
    ('wu2018.batch_size.tiny', 'b-9f46ae')
    """
    plain = text.replace("/", ".")
    if re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", plain):
        return plain
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:60] or "table"
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def runs_file(signature: str) -> str:
    """The file with the details of a run, below the folder of the report."""
    return f"runs/{safe(signature[:_SHARED])}.html"


def anchor(signature: str) -> str:
    """The place of a run in that file."""
    return f"run-{safe(signature)}"
