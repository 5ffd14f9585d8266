"""Temporary files and folders beside their final place, and the removal of those whose writer has died.

The name of a draft says which process writes it: `.NAME.PLACE-PID-RANDOM.tmp`.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from normbench.processes import is_running, place

#: Seconds after which a draft of another machine, which cannot be asked, counts as left over.
OLD_S = 24 * 3600
_DRAFT = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-[0-9a-f]{16}\.tmp")
#: Drafts of earlier versions, which do not name their process: 32 hex digits last, or 16 and `.tmp`.
_NAMELESS = re.compile(r"\..+[.-]([0-9a-f]{32}|[0-9a-f]{16}\.tmp)")


def draft_beside(final: Path) -> Path:
    """A new name for a file or folder that this process writes and then renames to `final`."""
    return final.with_name(f".{final.name}.{place()}-{os.getpid()}-{secrets.token_hex(8)}.tmp")


def remove_leftovers(folder: Path) -> None:
    """Remove drafts of processes that have died, and old ones of other machines. Errors are ignored."""
    with suppress(OSError):
        for draft in folder.iterdir():
            if _left_over(draft):
                if draft.is_dir() and not draft.is_symlink():
                    shutil.rmtree(draft, ignore_errors=True)
                else:
                    draft.unlink(missing_ok=True)


def _left_over(draft: Path) -> bool:
    named = _DRAFT.fullmatch(draft.name)
    if named is None and not _NAMELESS.fullmatch(draft.name):
        return False
    if named is not None and named[1] == place():
        return not is_running(int(named[2]))
    with suppress(OSError):
        return abs(time.time() - draft.lstat().st_mtime) > OLD_S
    return False
