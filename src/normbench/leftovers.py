"""Temporary files and folders beside their final place, and the removal of those whose writer has died.

The name of a draft says which process writes it: `.NAME.MACHINE-PID-RANDOM.tmp`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

#: Seconds after which a draft of another machine, which cannot be asked, counts as left over.
OLD_S = 24 * 3600
_DRAFT = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-[0-9a-f]{16}\.tmp")
#: Drafts of earlier versions, which do not name their process: 32 hex digits last, or 16 and `.tmp`.
_NAMELESS = re.compile(r"\..+[.-]([0-9a-f]{32}|[0-9a-f]{16}\.tmp)")


def draft_beside(place: Path) -> Path:
    """A new name for a file or folder that this process writes and then renames to `place`."""
    return place.with_name(f".{place.name}.{_machine()}-{os.getpid()}-{secrets.token_hex(8)}.tmp")


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
    if named is not None and named[1] == _machine():
        return not _lives(int(named[2]))
    with suppress(OSError):
        return time.time() - draft.lstat().st_mtime > OLD_S
    return False


def _lives(pid: int) -> bool:
    """Whether a process exists. If its number was given to another one, the draft stays until that ends."""
    if os.name == "nt":  # there, signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _machine() -> str:
    """Eight hex digits for this machine, its start and its container: what process numbers belong to."""
    about = [platform.node()]
    with suppress(OSError):
        about.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    with suppress(OSError):
        about.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:8]
